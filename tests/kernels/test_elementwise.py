"""ReLU, bias, sum, crop, scale and dropout."""
import re

import numpy as np
import pytest

from tinyfcn.kernels import cpu, naive

# Below, at and above the number of lanes of any vector, and of several of them.
SHAPES = [(1, 1, 1, 1), (1, 1, 1, 3), (1, 1, 1, 7), (1, 2, 2, 2), (1, 1, 3, 5), (1, 1, 1, 16),
          (1, 1, 1, 17), (1, 3, 1, 11), (2, 1, 2, 16), (1, 1, 5, 13), (1, 7, 9, 21), (2, 5, 3, 64),
          (1, 6, 7, 33), (0, 3, 4, 5)]
shapes = pytest.mark.parametrize("shape", SHAPES)


def exactly(actual, expected):
    """The same bits, NaN apart: these kernels round at most once."""
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual, expected, strict=True)


def with_oddities(rng, shape, dtype):
    """Random numbers, some of them zero, infinite or NaN."""
    x = rng.standard_normal(shape, dtype)
    odd = np.array([0, -0.0, np.inf, -np.inf, np.nan], dtype)
    return np.where(rng.random(shape) < 0.3, rng.choice(odd, shape), x)


@shapes
def test_relu_as_naive(shape, rng, dtype):
    x = with_oddities(rng, shape, dtype)
    exactly(cpu.relu_forward(x), naive.relu_forward(x))
    y = np.maximum(rng.standard_normal(shape, dtype), 0)
    exactly(cpu.relu_backward(x, y), naive.relu_backward(x, y))


@shapes
def test_bias_relu_as_naive(shape, rng, dtype):
    x, b = with_oddities(rng, shape, dtype), rng.standard_normal(shape[-1], dtype)
    exactly(cpu.bias_relu(x, b), naive.bias_relu(x, b))


@shapes
def test_add_as_naive(shape, rng, dtype):
    a, b = with_oddities(rng, shape, dtype), rng.standard_normal(shape, dtype)
    exactly(cpu.add(a, b), naive.add(a, b))


@shapes
def test_scale_as_naive(shape, rng, dtype, agree):
    x = with_oddities(rng, shape, dtype)
    agree(cpu.scale(x, 0.01), naive.scale(x, 0.01))


@shapes
@pytest.mark.parametrize("rate, seed", [(0.5, 0), (0.3, 1), (0.9, 123456789), (0.0, 2**40 + 3)])
def test_dropout_as_naive(shape, rate, seed, rng, dtype):
    x = rng.standard_normal(shape, dtype)
    exactly(cpu.dropout(x, rate, seed), naive.dropout(x, rate, seed))


CROPS = [((1, 1, 1, 1), (0, 0), (1, 1)), ((2, 5, 6, 3), (1, 2), (3, 4)),
         ((1, 5, 6, 17), (0, 0), (5, 6)), ((1, 5, 6, 16), (4, 5), (1, 1)),
         ((0, 5, 6, 3), (1, 1), (2, 2)), ((1, 40, 44, 5), (31, 31), (9, 13))]


@pytest.mark.parametrize("shape, offset, size", CROPS)
def test_crop_as_naive(shape, offset, size, rng, dtype):
    x = with_oddities(rng, shape, dtype)
    y = cpu.crop_forward(x, offset, size)
    exactly(y, naive.crop_forward(x, offset, size))
    exactly(cpu.crop_backward(y, offset, shape[1:3]),
            naive.crop_backward(y, offset, shape[1:3]))


@pytest.mark.parametrize("shape, offset, size", CROPS)
def test_crop_backward_is_the_adjoint(shape, offset, size, ops, rng):
    x, gy = rng.standard_normal(shape), rng.standard_normal((shape[0], *size, shape[3]))
    forward = np.vdot(gy, ops.crop_forward(x, offset, size))
    assert np.vdot(ops.crop_backward(gy, offset, shape[1:3]), x) == pytest.approx(forward, abs=1e-9)


def line(values, dtype):
    return np.array(values, dtype).reshape(1, 1, 1, -1)


def test_relu_by_hand(ops, dtype):
    y = ops.relu_forward(line([-1, 0, 0.25, np.nan, np.inf, -np.inf], dtype))
    assert y.dtype == dtype
    np.testing.assert_array_equal(y.ravel(), [0, 0, 0.25, np.nan, np.inf, 0])
    gx = ops.relu_backward(line([5, 6, 7, np.nan], dtype), line([0, 1e-30, 3, 1], dtype))
    np.testing.assert_array_equal(gx.ravel(), [0, 6, 7, np.nan])


def test_bias_relu_by_hand(ops, dtype):
    x = np.array([[1, -4], [-3, np.nan]], dtype).reshape(1, 2, 1, 2)
    y = ops.bias_relu(x, np.array([2, 5], dtype))
    np.testing.assert_array_equal(y.ravel(), [3, 1, 0, np.nan])


def test_add_and_scale_by_hand(ops, dtype):
    assert ops.add(line([1, 2], dtype), line([10, -20], dtype)).ravel().tolist() == [11, -18]
    assert ops.scale(line([1, -2, 0], dtype), 0.5).ravel().tolist() == [0.5, -1, 0]
    assert ops.scale(line([1, 2], dtype), 0).ravel().tolist() == [0, 0]


def test_crop_by_hand(ops, dtype):
    x = np.arange(12, dtype=dtype).reshape(1, 3, 4, 1)
    y = ops.crop_forward(x, (1, 2), (2, 1))
    assert y[0, :, :, 0].tolist() == [[6], [10]]
    gx = ops.crop_backward(y, (1, 2), (3, 4))
    assert gx[0, :, :, 0].tolist() == [[0, 0, 0, 0], [0, 0, 6, 0], [0, 0, 10, 0]]


@pytest.mark.parametrize("offset, size", [((2, 0), (2, 4)), ((0, 1), (3, 4)), ((-1, 0), (2, 2)),
                                          ((0, 0), (0, 4)), ((0, 0), (3, 5))])
def test_crop_outside_is_an_error(offset, size, ops):
    with pytest.raises(ValueError, match="^crop.* at offset "):
        ops.crop_forward(np.zeros((1, 3, 4, 1)), offset, size)


@pytest.mark.parametrize("offset, input_size", [((2, 0), (3, 4)), ((0, -1), (3, 4)),
                                                ((0, 0), (1, 4))])
def test_crop_backward_outside_is_an_error(offset, input_size, ops):
    with pytest.raises(ValueError, match="^crop.* at offset "):
        ops.crop_backward(np.zeros((1, 2, 2, 1)), offset, input_size)


@pytest.mark.parametrize("state, bits", [
    # Vigna's splitmix64.c, started at these states
    (0, 0xE220A8397B1DCDAF), (1234567, 6457827717110365317),
    (1234567 + 0x9E3779B97F4A7C15, 3203168211198807973)])
def test_splitmix64_of_known_states(state, bits):
    assert naive.splitmix64(state) == bits


def test_dropout_by_hand(ops, dtype):
    """The upper bits of splitmix64(0) = 0xE220..., so u = 0.883: kept below, dropped above."""
    x = np.full((1, 1, 1, 1), 3, dtype)
    assert ops.dropout(x, 0.75, 0).item() == 12
    assert ops.dropout(x, 0.875, 0).item() == 24
    assert ops.dropout(x, 0.89, 0).item() == 0


def test_dropout_is_its_own_backward(ops, rng, dtype):
    x, gy = (rng.standard_normal((1, 4, 5, 6), dtype) for _ in range(2))
    y, gx = ops.dropout(x, 0.5, 7), ops.dropout(gy, 0.5, 7)
    np.testing.assert_array_equal(y != 0, gx != 0)
    np.testing.assert_array_equal(gx[gx != 0], 2 * gy[gx != 0])


def test_dropout_keeps_its_share(rng):
    ones = np.ones((2, 100, 100, 5), np.float32)
    for rate in (0.1, 0.5, 0.8):
        y = cpu.dropout(ones, rate, 42)
        kept = y != 0
        # Five standard deviations of a binomial of 100,000.
        assert abs(kept.mean() - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / ones.size)
        assert set(np.unique(y)) == {0, np.float32(1 / (1 - rate))}
        # Neighbours, in every direction, and other seeds are independent.
        others = [np.roll(kept, 1, axis) for axis in range(4)]
        others += [cpu.dropout(ones, rate, seed) != 0 for seed in (41, 43, 0)]
        for other in others:
            assert abs((kept & other).mean() - (1 - rate)**2) < 0.01


def test_dropout_without_rate_keeps_everything(ops, rng, dtype):
    x = rng.standard_normal((1, 3, 3, 3), dtype)
    exactly(ops.dropout(x, 0, 1), x)


@pytest.mark.parametrize("rate", [1, 1.5, -0.1, np.nan])
def test_dropout_rate_out_of_range(rate, ops):
    with pytest.raises(ValueError, match="rate"):
        ops.dropout(np.zeros((1, 1, 1, 1)), rate, 0)


@pytest.mark.parametrize("name, first, second", [
    ("relu_backward", (1, 2, 3, 4), (1, 2, 4, 3)), ("add", (1, 2, 3, 4), (1, 1, 1, 4)),
    ("add", (1, 2, 3, 4), (1, 2, 3, 5)), ("bias_relu", (1, 2, 3, 4), (3,)),
    ("bias_relu", (1, 2, 3, 4), (1, 4))])
def test_shapes_that_do_not_fit(name, first, second):
    with pytest.raises(ValueError, match=f"{name}.*{re.escape(str(second))}"):
        getattr(cpu, name)(np.zeros(first), np.zeros(second))
