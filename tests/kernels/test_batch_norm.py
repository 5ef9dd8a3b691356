"""Batch normalization."""
import re

import numpy as np
import pytest

from tinyfcn.kernels import cpu, naive

SHAPES = [(1, 1, 1, 1), (1, 1, 1, 5), (2, 1, 1, 3), (2, 3, 5, 16), (1, 5, 3, 17), (3, 4, 5, 21),
          (1, 9, 7, 33), (1, 4, 5, 64), (2, 11, 13, 1)]


@pytest.mark.parametrize("shape", SHAPES)
def test_cpu_gives_what_naive_gives(shape, rng, dtype, agree):
    c, m = shape[-1], np.prod(shape[:-1])
    x, gy = 2 * rng.standard_normal(shape, dtype) + 1, rng.standard_normal(shape, dtype)
    gamma, beta = rng.standard_normal((2, c), dtype)
    mean, var = cpu.batch_norm_statistics(x)
    expected_mean, expected_var = naive.batch_norm_statistics(x)
    agree(mean, expected_mean, 4)
    agree(var, expected_var, 4)
    mean, var = expected_mean, expected_var
    # eps bounds 1 / sqrt(var + eps), and with it how rounding grows, where m is 1 or 2.
    agree(cpu.batch_norm_forward(x, mean, var, gamma, beta, 0.1),
          naive.batch_norm_forward(x, mean, var, gamma, beta, 0.1), 16)
    actual = cpu.batch_norm_backward(gy, x, mean, var, gamma, 0.1)
    expected = naive.batch_norm_backward(gy, x, mean, var, gamma, 0.1)
    assert len(actual) == 3
    for part, wanted in zip(actual, expected):
        agree(part, wanted, 16 + 4 * m)

    # With a ReLU on the way, away from its kink.
    y = naive.batch_norm_forward(x, mean, var, gamma, beta, 0.1)
    x = np.where(abs(y) < 1e-3, x + dtype(0.1), x)
    y = naive.batch_norm_forward(x, mean, var, gamma, beta, 0.1, relu=True)
    assert (y >= 0).all() and (y.size < 100 or c == 1 or (y == 0).any())
    agree(cpu.batch_norm_forward(x, mean, var, gamma, beta, 0.1, relu=True), y, 16)
    actual = cpu.batch_norm_backward(gy, x, mean, var, gamma, 0.1, beta)
    expected = naive.batch_norm_backward(gy, x, mean, var, gamma, 0.1, beta)
    masked = naive.batch_norm_backward(np.where(y > 0, gy, dtype(0)), x, mean, var, gamma, 0.1)
    for part, wanted, other in zip(actual, expected, masked):
        agree(part, wanted, 16 + 4 * m)
        agree(wanted, other, 4)


def test_relu_keeps_nan(ops, dtype):
    x = np.array([np.nan, 2, -2, -1], dtype).reshape(1, 1, 4, 1)
    one = np.ones(1, dtype)
    y = ops.batch_norm_forward(x, 0 * one, one, one, one, 0.0, relu=True)
    np.testing.assert_array_equal(y.ravel(), np.array([np.nan, 3, 0, 0], dtype))


def test_statistics_by_hand(ops, dtype):
    x = np.array([[1, 10], [2, 10], [3, 10], [6, 10]], dtype).reshape(2, 1, 2, 2)
    mean, var = ops.batch_norm_statistics(x)
    assert mean.dtype == var.dtype == dtype
    assert mean.tolist() == [3, 10]
    assert var.tolist() == [3.5, 0]     # (4 + 1 + 0 + 9) / 4


def test_forward_by_hand(ops, dtype):
    x = np.array([1, 10, 5, 10], dtype).reshape(1, 2, 1, 2)
    arguments = [[3, 10], [3, 0], [5, 7], [-1, 2]]     # mean, var, gamma, beta
    y = ops.batch_norm_forward(x, *(np.array(value, dtype) for value in arguments), 1.0)
    assert y.dtype == dtype
    np.testing.assert_allclose(y.ravel(), [-6, 2, 4, 2], rtol=1e-6)


def test_backward_by_hand(ops, dtype):
    """Two numbers, -1 and 1, var + eps = 4: z is -1/2 and 1/2."""
    x, gy = np.array([[-1, 1], [3, 5]], dtype).reshape(2, 1, 2, 1, 1)
    mean, var, gamma = np.array([[0], [1], [8]], dtype)
    gx, ggamma, gbeta = ops.batch_norm_backward(gy, x, mean, var, gamma, 3.0)
    assert gx.dtype == ggamma.dtype == gbeta.dtype == dtype
    assert gbeta.tolist() == [8]
    assert ggamma.tolist() == [1]
    # 8/2 (3 - (8 - 1/2) / 2) = -3, and the other way round
    np.testing.assert_allclose(gx.ravel(), [-3, 3], rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 2, 3, 2), (1, 1, 2, 3), (3, 1, 1, 1)])
def test_backward_against_finite_differences(shape, ops, rng):
    x, gy = rng.standard_normal(shape), rng.standard_normal(shape)
    gamma, beta = rng.standard_normal((2, shape[-1]))

    def value(x, gamma, beta):
        mean, var = ops.batch_norm_statistics(x)
        return np.vdot(gy, ops.batch_norm_forward(x, mean, var, gamma, beta, 1e-2))

    gradients = ops.batch_norm_backward(gy, x, *ops.batch_norm_statistics(x), gamma, 1e-2)
    h = 1e-5
    for which, gradient in enumerate(gradients):
        for index in np.ndindex(gradient.shape):
            ends = []
            for sign in (1, -1):
                point = [x.copy(), gamma.copy(), beta.copy()]
                point[which][index] += sign * h
                ends.append(value(*point))
            slope = (ends[0] - ends[1]) / (2 * h)
            assert gradient[index] == pytest.approx(slope, rel=1e-6, abs=1e-7), (which, index)


def test_statistics_of_numbers_far_from_zero(ops, rng):
    """sum x^2 - mean^2 would lose everything here."""
    x = (rng.standard_normal((2, 9, 11, 5)) + 10000).astype(np.float32)
    mean, var = ops.batch_norm_statistics(x)
    np.testing.assert_allclose(mean, x.astype(np.float64).mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(var, x.astype(np.float64).var((0, 1, 2)), rtol=1e-3)


def test_statistics_of_a_constant_channel(ops, dtype):
    x = np.full((2, 7, 5, 3), 0.1, dtype)
    mean, var = ops.batch_norm_statistics(x)
    np.testing.assert_allclose(mean, x[0, 0, 0], rtol=1e-6)
    assert (var >= 0).all() and (var < 1e-12).all()


def test_many_pixels(rng, dtype, agree):
    """Against NumPy in float64, on the CPU alone: too slow for plain loops."""
    x = (rng.standard_normal((2, 90, 120, 19)) * 3 + 5).astype(dtype)
    mean, var = cpu.batch_norm_statistics(x)
    tolerance = 50 * np.finfo(dtype).eps
    np.testing.assert_allclose(mean, x.astype(np.float64).mean((0, 1, 2)), rtol=tolerance)
    np.testing.assert_allclose(var, x.astype(np.float64).var((0, 1, 2)), rtol=tolerance)
    ones, zeros = np.ones(19, dtype), np.zeros(19, dtype)
    y = cpu.batch_norm_forward(x, mean, var, ones, zeros, 0.0).astype(np.float64)
    np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=tolerance)
    np.testing.assert_allclose(y.std((0, 1, 2)), 1, rtol=tolerance)


@pytest.mark.parametrize("wrong", range(1, 5))
def test_forward_shapes_that_do_not_fit(wrong):
    arguments = [np.zeros((1, 2, 3, 4)), *(np.zeros(4) for _ in range(4))]
    arguments[wrong] = np.zeros(3)
    with pytest.raises(ValueError, match=re.escape("(3,)")):
        cpu.batch_norm_forward(*arguments, 1e-5)


@pytest.mark.parametrize("wrong, shape", [(0, (1, 2, 4, 3)), (2, (3,)), (3, (5,)), (4, (1, 4))])
def test_backward_shapes_that_do_not_fit(wrong, shape):
    arguments = [np.zeros((1, 2, 3, 4)), np.zeros((1, 2, 3, 4)), *(np.zeros(4) for _ in range(3))]
    arguments[wrong] = np.zeros(shape)
    with pytest.raises(ValueError, match=re.escape(str(shape))):
        cpu.batch_norm_backward(*arguments, 1e-5)
