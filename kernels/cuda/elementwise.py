"""Kernels that treat every number for itself: ReLU, sums, crops, scale, dropout."""

import math

import numpy as np
from numba import cuda
from numba.cuda.types import float32, int32, uint64

from . import launch, memory
from .checks import check_arrays, check_match
from .compilation import FLOAT, FLOATS, INT, LONG, inline, kernel
from .indexing import quotient, remainder

GOLDEN = 0x9E3779B97F4A7C15  # of splitmix64


@inline
def rectified(number, relu):
    """The number or, with `relu`, zero if that is larger; a NaN stays one."""
    if relu and number <= float32(0):
        return float32(0)
    return number


@kernel(FLOATS, FLOATS, INT)
def _relu(x, y, size):
    i = int32(cuda.grid(1))
    if i < size:
        y[i] = rectified(x[i], True)


@kernel(FLOATS, FLOATS, FLOATS, INT)
def _relu_backward(gy, y, gx, size):
    i = int32(cuda.grid(1))
    if i < size:
        gx[i] = gy[i] if y[i] > float32(0) else float32(0)


@kernel(FLOATS, FLOATS, FLOATS, INT, INT)
def _bias_relu(x, b, y, size, channels):
    i = int32(cuda.grid(1))
    if i < size:
        y[i] = rectified(x[i] + b[remainder(i, channels)], True)


@kernel(FLOATS, FLOATS, FLOATS, INT)
def _add(a, b, y, size):
    i = int32(cuda.grid(1))
    if i < size:
        y[i] = a[i] + b[i]


@kernel(FLOATS, FLOAT, FLOATS, INT)
def _scale(x, factor, y, size):
    i = int32(cuda.grid(1))
    if i < size:
        y[i] = x[i] * factor


@kernel(FLOATS, FLOATS, *(INT,) * 8)
def _crop(x, y, size, x_h, x_w, y_h, y_w, channels, offset_y, offset_x):
    """y (n, y_h, y_w, channels): x at an offset, zero outside; a negative offset pads."""
    i = int32(cuda.grid(1))
    if i < size:
        channel, pixel = remainder(i, channels), quotient(i, channels)
        in_x, row = remainder(pixel, y_w) + offset_x, quotient(pixel, y_w)
        in_y, image = remainder(row, y_h) + offset_y, quotient(row, y_h)
        number = float32(0)
        if 0 <= in_y and in_y < x_h and 0 <= in_x and in_x < x_w:
            number = x[((image * x_h + in_y) * x_w + in_x) * channels + channel]
        y[i] = number


@kernel(FLOATS, LONG, LONG, FLOAT, FLOATS, INT)
def _dropout(x, start, threshold, factor, y, size):
    i = int32(cuda.grid(1))
    if i < size:
        # splitmix64 (Steele et al. 2014), whose upper 53 bits are the random number.
        z = start + uint64(i)
        z = (z ^ (z >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> uint64(27))) * uint64(0x94D049BB133111EB)
        z = z ^ (z >> uint64(31))
        y[i] = x[i] * factor if z >> uint64(11) >= threshold else float32(0)


# ---- launchers


def relu_forward(x):
    """y = max(x, 0); NaN stays NaN."""
    _check_float("relu", x)
    y = memory.empty(x.shape)
    _each(_relu, x, y, size=y.size)
    return y


def relu_backward(gy, y):
    """gx = gy where ReLU's output y is positive, else 0."""
    _check_alike("relu_backward", gy, y)
    gx = memory.empty(gy.shape)
    _each(_relu_backward, gy, y, gx, size=gx.size)
    return gx


def bias_relu(x, b):
    """y = max(x + b, 0) for x (..., c) and b (c,)."""
    _check_float("bias_relu", x, b)
    check_match("bias_relu: shape of b", b.shape, x.shape[-1:])
    y = memory.empty(x.shape)
    if y.size:
        _bias_relu.launch(launch.blocks_for(y.size), x, b, y, y.size, x.shape[-1])
    return y


def add(a, b):
    """y = a + b, arrays of one shape."""
    _check_alike("add", a, b)
    y = memory.empty(a.shape)
    _each(_add, a, b, y, size=y.size)
    return y


def scale(x, factor):
    """y = x * factor."""
    _check_float("scale", x)
    y = memory.empty(x.shape)
    _each(_scale, x, float(factor), y, size=y.size)
    return y


def crop_forward(x, offset, size):
    """Cut the window of `size` (h, w) that begins at `offset` (y, x) out of x (n, h, w, c)."""
    check_arrays("crop", x=(x, 4))
    _check_inside(x.shape[1:3], offset, size)
    return _shifted(x, size, offset)


def crop_backward(gy, offset, input_size):
    """The gradient of x, (n, *input_size, c): gy at `offset` and zero around it."""
    check_arrays("crop_backward", gy=(gy, 4))
    _check_inside(input_size, offset, gy.shape[1:3])
    return _shifted(gy, input_size, (-offset[0], -offset[1]))


def dropout(x, rate, seed):
    """Set each number to zero with probability `rate`, and scale the others by 1 / (1 - rate).

    Which ones depends on `seed` (a non-negative int) and the place alone, so that backward is the
    same call on the gradient and no mask is kept; they are those of the CPU. (Srivastava et al.
    2014.)
    """
    _check_float("dropout", x)
    if not 0 <= rate < 1:
        raise ValueError(f"dropout: rate must be at least 0 and below 1, got {rate}")
    y = memory.empty(x.shape)
    if y.size:
        start = (int(np.uint64(seed)) * GOLDEN + GOLDEN) % 2**64
        # u 2^-53 >= rate, for an integer u.
        threshold = math.ceil(float(rate) * 2**53)
        _dropout.launch(launch.blocks_for(y.size), x, start, threshold, 1 / (1 - rate), y, y.size)
    return y


def _each(kernel, *arguments, size):
    if size:
        kernel.launch(launch.blocks_for(size), *arguments, size)


def _shifted(x, size, offset):
    y = memory.empty((x.shape[0], *size, x.shape[3]))
    if y.size:
        _crop.launch(launch.blocks_for(y.size), x, y, y.size, *x.shape[1:3], *y.shape[1:], *offset)
    return y


def _check_float(name, *arrays):
    check_arrays(name, **{f"argument {i + 1}": (a, getattr(a, "ndim", 0))
                          for i, a in enumerate(arrays)})


def _check_alike(name, a, b):
    _check_float(name, a, b)
    check_match(f"{name}: shape of the second argument", b.shape, a.shape)


def _check_inside(outer, offset, size):
    if any(o < 0 or s < 1 or o + s > n for n, o, s in zip(outer, offset, size)):
        raise ValueError(
            f"crop: {tuple(size)} at offset {tuple(offset)} reaches outside {tuple(outer)}"
        )
