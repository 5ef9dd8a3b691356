"""Max pooling, forwards and backwards. Nothing is rounded: all results are exact."""
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinyfcn.kernels import cpu, naive

# shape of x, kernel_size, stride, padding, ceil
CASES = {
    "one pixel": ((1, 1, 1, 1), (1, 1), (1, 1), (0, 0), False),
    "one pixel, padded": ((1, 1, 1, 3), (3, 3), (2, 2), (1, 1), False),
    "smaller than the kernel": ((1, 1, 1, 5), (2, 2), (2, 2), (0, 0), True),
    "empty batch": ((0, 4, 4, 3), (2, 2), (2, 2), (0, 0), True),
    "2x2": ((2, 4, 6, 16), (2, 2), (2, 2), (0, 0), False),
    "2x2, odd, ceil": ((2, 5, 7, 17), (2, 2), (2, 2), (0, 0), True),
    "2x2, odd, floor": ((1, 5, 7, 21), (2, 2), (2, 2), (0, 0), False),
    "3x3 overlapping": ((1, 7, 8, 33), (3, 3), (2, 2), (0, 0), True),
    "3x3 padded": ((1, 6, 5, 3), (3, 3), (2, 2), (1, 1), False),
    "3x3 padded, ceil": ((1, 6, 4, 3), (3, 3), (2, 2), (1, 1), True),
    "2x2 padded, ceil": ((1, 3, 2, 5), (2, 2), (2, 2), (1, 1), True),
    "stride 1": ((1, 4, 5, 3), (2, 3), (1, 1), (0, 1), False),
    "stride larger than the kernel": ((1, 9, 8, 4), (2, 1), (4, 3), (0, 0), True),
    "64 channels": ((1, 3, 3, 64), (2, 2), (2, 2), (0, 0), True),
    "256 taps": ((1, 17, 18, 2), (16, 16), (2, 2), (0, 0), False),
    "257 taps": ((1, 258, 1, 2), (257, 1), (1, 1), (0, 0), False),
    "whole image": ((2, 5, 6, 3), (5, 6), (1, 1), (0, 0), False),
}


def few_values(rng, shape, dtype):
    """Numbers with many ties, and some infinities and NaN."""
    values = np.array([-np.inf, -1, -0.0, 0.0, 1, 1, 2, 2, np.inf, np.nan], dtype)
    return rng.choice(values, shape, p=[.1, .2, .1, .1, .2, .1, .1, .05, .02, .03])


def compare(shape, kernel_size, stride, padding, ceil, rng, dtype):
    for x in (rng.standard_normal(shape, dtype), few_values(rng, shape, dtype)):
        expected_y, expected_argmax = naive.max_pooling_forward(x, kernel_size, stride, padding,
                                                                ceil)
        y, argmax = cpu.max_pooling_forward(x, kernel_size, stride, padding, ceil)
        assert y.dtype == dtype and argmax.dtype == expected_argmax.dtype
        np.testing.assert_array_equal(y, expected_y)
        np.testing.assert_array_equal(argmax, expected_argmax)
        alone, nothing = cpu.max_pooling_forward(x, kernel_size, stride, padding, ceil,
                                                 keep_argmax=False)
        assert nothing is None
        np.testing.assert_array_equal(alone, y)
        # Small integers: sums of them are exact in any order.
        gy = rng.integers(-8, 9, y.shape).astype(dtype)
        arguments = gy, argmax, shape[1:3], kernel_size, stride, padding
        gx = cpu.max_pooling_backward(*arguments)
        assert gx.dtype == dtype
        np.testing.assert_array_equal(gx, naive.max_pooling_backward(*arguments))


@pytest.mark.parametrize("name", CASES)
def test_cpu_gives_what_naive_gives(name, rng, dtype):
    compare(*CASES[name], rng, dtype)


@st.composite
def random_cases(draw):
    kernel, stride = (draw(st.tuples(st.integers(1, 4), st.integers(1, 4))) for _ in range(2))
    padding = tuple(draw(st.integers(0, k - 1)) for k in kernel)
    size = [max(1, kernel[i] - 2 * padding[i]) + draw(st.integers(0, 5)) for i in (0, 1)]
    shape = (draw(st.integers(0, 2)), *size, draw(st.integers(1, 5)))
    return shape, kernel, stride, padding, draw(st.booleans())


@given(case=random_cases(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None, derandomize=True, database=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_cpu_gives_what_naive_gives_at_random(case, seed, dtype):
    compare(*case, np.random.default_rng(seed), dtype)


def image(rows, dtype):
    return np.array(rows, dtype)[None, :, :, None]


def test_forward_by_hand(ops, dtype):
    x = image([[1, 5, 2], [4, 3, 8], [9, 7, 6]], dtype)
    y, argmax = ops.max_pooling_forward(x, (2, 2), (1, 1))
    assert y.dtype == dtype and argmax.dtype == np.uint8
    assert y[0, :, :, 0].tolist() == [[5, 8], [9, 8]]
    assert argmax[0, :, :, 0].tolist() == [[1, 3], [2, 1]]
    y, argmax = ops.max_pooling_forward(x, (2, 2), (2, 2), ceil=True)
    assert y[0, :, :, 0].tolist() == [[5, 8], [9, 6]]
    assert argmax[0, :, :, 0].tolist() == [[1, 2], [0, 0]]
    # Taps are counted from the window's corner, in the padding or not.
    y, argmax = ops.max_pooling_forward(x, (2, 2), (2, 2), (1, 1))
    assert y[0, :, :, 0].tolist() == [[1, 5], [9, 8]]
    assert argmax[0, :, :, 0].tolist() == [[3, 2], [3, 1]]


def test_padding_is_never_the_maximum(ops, dtype):
    x = image([[-3, -1], [-2, -np.inf]], dtype)
    y, _ = ops.max_pooling_forward(x, (2, 2), (1, 1), (1, 1))
    assert y[0, :, :, 0].tolist() == [[-3, -1, -1], [-2, -1, -1], [-2, -2, -np.inf]]


def test_first_of_equals_and_first_nan(ops, dtype):
    nan = np.nan
    x = np.array([[[7, 7], [7, 7]], [[1, nan], [nan, 9]], [[-np.inf] * 2] * 2,
                  [[0.0, -0.0], [0.0, 0.0]], [[-0.0, 0.0], [0.0, 0.0]], [[9, 1], [1, nan]],
                  [[nan, 9], [9, 9]]], dtype)[:, :, :, None]
    y, argmax = ops.max_pooling_forward(x, (2, 2), (2, 2))
    np.testing.assert_array_equal(y.ravel(), [7, nan, -np.inf, 0, 0, nan, nan])
    assert argmax.ravel().tolist() == [0, 1, 0, 0, 0, 3, 0]


@pytest.mark.parametrize("kernel, name", [((16, 16), "uint8"), ((257, 1), "uint16")])
def test_argmax_takes_the_smallest_type(kernel, name, ops):
    x = np.zeros((1, *kernel, 1), np.float32)
    x[0, -1, -1, 0] = 1
    _, argmax = ops.max_pooling_forward(x, kernel, (1, 1))
    assert argmax.dtype == name
    assert argmax.ravel().tolist() == [kernel[0] * kernel[1] - 1]


def test_backward_by_hand(ops, dtype):
    gy = image([[1, 10], [100, 1000]], dtype)
    argmax = image([[3, 2], [1, 0]], np.uint8)      # overlapping windows share the middle
    gx = ops.max_pooling_backward(gy, argmax, (3, 3), (2, 2), (1, 1))
    assert gx.dtype == dtype
    assert gx[0, :, :, 0].tolist() == [[0, 0, 0], [0, 1111, 0], [0, 0, 0]]
    gx = ops.max_pooling_backward(gy, argmax, (5, 4), (2, 2), (2, 2))
    assert gx[0, :, :, 0].tolist() == [
        [0, 0, 0, 0], [0, 1, 10, 0], [0, 100, 1000, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    argmax = image([[3, 3], [1, 0]], np.uint8)      # padding shifts the windows up and left
    gx = ops.max_pooling_backward(gy, argmax, (3, 3), (2, 2), (2, 2), (1, 1))
    assert gx[0, :, :, 0].tolist() == [[1, 0, 10], [100, 1000, 0], [0, 0, 0]]


@pytest.mark.parametrize("name", CASES)
def test_backward_is_the_adjoint_of_picking_the_maxima(name, ops, rng):
    shape, kernel_size, stride, padding, ceil = CASES[name]
    x = rng.standard_normal(shape)
    y, argmax = ops.max_pooling_forward(x, kernel_size, stride, padding, ceil)
    gy = rng.standard_normal(y.shape)
    gx = ops.max_pooling_backward(gy, argmax, shape[1:3], kernel_size, stride, padding)
    assert np.vdot(gx, x) == pytest.approx(np.vdot(gy, y), rel=1e-12, abs=1e-12)


def test_2x2_of_a_real_image(rng):
    """Against a reshape, on the CPU alone: too slow for plain loops."""
    x = rng.standard_normal((2, 90, 122, 70), np.float32)
    y, argmax = cpu.max_pooling_forward(x, (2, 2), (2, 2))
    blocks = x.reshape(2, 45, 2, 61, 2, 70).transpose(0, 1, 3, 5, 2, 4).reshape(*y.shape, 4)
    np.testing.assert_array_equal(y, blocks.max(-1))
    np.testing.assert_array_equal(argmax, blocks.argmax(-1))
    gx = cpu.max_pooling_backward(y, argmax, (90, 122), (2, 2), (2, 2))
    np.testing.assert_array_equal(gx, np.where(
        x == y.repeat(2, axis=1).repeat(2, axis=2), x, 0))


@pytest.mark.parametrize("x, kernel_size, stride, padding, message", [
    ((1, 1, 1, 1), (2, 2), (2, 2), (0, 0), "kernel larger than padded input"),
    ((1, 4, 4, 1), (2, 2), (2, 2), (2, 0), "padding 2 must be smaller than the kernel 2"),
    ((1, 4, 4, 1), (2, 2), (0, 2), (0, 0), "stride must be at least 1"),
    ((4, 4, 1), (2, 2), (2, 2), (0, 0), re.escape("(4, 4, 1)")),
])
def test_sizes_that_do_not_fit(x, kernel_size, stride, padding, message):
    with pytest.raises(ValueError, match=message):
        cpu.max_pooling_forward(np.zeros(x), kernel_size, stride, padding)


@pytest.mark.parametrize("gy, argmax, input_size, message", [
    ((1, 2, 2, 3), (1, 2, 2, 4), (4, 4), r"argmax.*\(1, 2, 2, 3\).*\(1, 2, 2, 4\)"),
    ((2, 2, 3), (2, 2, 3), (4, 4), r"gy must have 4 axes, got shape \(2, 2, 3\)"),
    ((1, 4, 2, 3), (1, 4, 2, 3), (4, 4), "gy.*4, 2"),
    ((1, 2, 2, 3), (1, 2, 2, 3), (4, 9), "gy.*2, 2"),
])
def test_backward_shapes_that_do_not_fit(gy, argmax, input_size, message):
    with pytest.raises(ValueError, match=message):
        cpu.max_pooling_backward(np.zeros(gy), np.zeros(argmax, np.uint8), input_size, (2, 2),
                                 (2, 2))


def test_argmax_must_be_an_unsigned_integer():
    with pytest.raises((TypeError, ValueError), match="float64"):
        cpu.max_pooling_backward(np.zeros((1, 2, 2, 3)), np.zeros((1, 2, 2, 3)), (4, 4), (2, 2),
                                 (2, 2))
