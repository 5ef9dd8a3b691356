"""Kernels that treat every number for itself: ReLU, sums, crops, scale, dropout."""

import numpy as np
from numba import prange

from . import memory
from .checks import check_arrays, check_match, contiguous
from .compilation import inline, kernel
from .simd import lanes, load, store, where_positive

# One thread's share at a time, in numbers: enough to outweigh the cost of handing it out.
BLOCK = 1 << 14


@inline
def block_count(size):
    """How many blocks `size` numbers make."""
    return (size + BLOCK - 1) // BLOCK


@inline
def block_range(index, size):
    """First number of a block, and the one after its last."""
    return index * BLOCK, min(size, (index + 1) * BLOCK)


@inline
def _rectify(number, zero):
    return number if number > 0 or number != number else zero


@kernel
def _relu(x, y):
    zero = y.dtype.type(0)
    for block in prange(block_count(x.size)):
        start, stop = block_range(block, x.size)
        for i in range(start, stop):
            y[i] = _rectify(x[i], zero)


@kernel
def _relu_backward(gy, y, gx):
    zero = gx.dtype.type(0)
    for block in prange(block_count(gy.size)):
        start, stop = block_range(block, gy.size)
        whole = stop - (stop - start) % lanes(gx)
        for i in range(start, whole, lanes(gx)):
            store(gx, i, where_positive(load(y, i), load(gy, i)))
        for i in range(whole, stop):
            gx[i] = gy[i] if y[i] > 0 else zero


@kernel
def _bias_relu(x, b, y):
    zero = y.dtype.type(0)
    for row in prange(x.shape[0]):
        for c in range(x.shape[1]):
            y[row, c] = _rectify(x[row, c] + b[c], zero)


@kernel
def _add(a, b, y):
    for block in prange(block_count(y.size)):
        start, stop = block_range(block, y.size)
        for i in range(start, stop):
            y[i] = a[i] + b[i]


@kernel
def _scale(x, factor, y):
    for block in prange(block_count(y.size)):
        start, stop = block_range(block, y.size)
        for i in range(start, stop):
            y[i] = x[i] * factor


@kernel
def _crop(x, y, offset_y, offset_x):
    for row in prange(y.shape[0] * y.shape[1]):
        image, out_y = row // y.shape[1], row % y.shape[1]
        for out_x in range(y.shape[2]):
            for c in range(y.shape[3]):
                y[image, out_y, out_x, c] = x[image, out_y + offset_y, out_x + offset_x, c]


@kernel
def _crop_backward(gy, gx, offset_y, offset_x):
    for row in prange(gx.shape[0] * gx.shape[1]):
        image, y = row // gx.shape[1], row % gx.shape[1]
        inside = 0 <= y - offset_y < gy.shape[1]
        for x in range(gx.shape[2]):
            if inside and 0 <= x - offset_x < gy.shape[2]:
                for c in range(gx.shape[3]):
                    gx[image, y, x, c] = gy[image, y - offset_y, x - offset_x, c]
            else:
                for c in range(gx.shape[3]):
                    gx[image, y, x, c] = 0.0


@inline
def _uniform(seed, index):
    """A number in [0, 1) that depends on seed and index alone: splitmix64 (Steele et al. 2014)."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    z = seed * golden + np.uint64(index) + golden
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return np.float64(z >> np.uint64(11)) * 2.0**-53


@kernel
def _dropout(x, rate, factor, seed, y):
    zero = y.dtype.type(0)
    for block in prange(block_count(y.size)):
        start, stop = block_range(block, y.size)
        for i in range(start, stop):
            y[i] = x[i] * factor if _uniform(seed, i) >= rate else zero


# ---- launchers


def relu_forward(x):
    """y = max(x, 0); NaN stays NaN."""
    (x,) = contiguous(x)
    _check_float("relu", x)
    y = memory.empty(x.shape, x.dtype)
    _relu(x.reshape(-1), y.reshape(-1))
    return y


def relu_backward(gy, y):
    """gx = gy where ReLU's output y is positive, else 0."""
    gy, y = contiguous(gy, y)
    _check_alike("relu_backward", gy, y)
    gx = memory.empty(gy.shape, gy.dtype)
    _relu_backward(gy.reshape(-1), y.reshape(-1), gx.reshape(-1))
    return gx


def bias_relu(x, b):
    """y = max(x + b, 0) for x (..., c) and b (c,)."""
    x, b = contiguous(x, b)
    _check_float("bias_relu", x, b)
    check_match("bias_relu: shape of b", b.shape, x.shape[-1:])
    y = memory.empty(x.shape, x.dtype)
    rows = (-1, x.shape[-1])
    if y.size:
        _bias_relu(x.reshape(rows), b, y.reshape(rows))
    return y


def add(a, b):
    """y = a + b, arrays of one shape."""
    a, b = contiguous(a, b)
    _check_alike("add", a, b)
    y = memory.empty(a.shape, a.dtype)
    _add(a.reshape(-1), b.reshape(-1), y.reshape(-1))
    return y


def scale(x, factor):
    """y = x * factor."""
    (x,) = contiguous(x)
    _check_float("scale", x)
    y = memory.empty(x.shape, x.dtype)
    _scale(x.reshape(-1), x.dtype.type(factor), y.reshape(-1))
    return y


def crop_forward(x, offset, size):
    """Cut the window of `size` (h, w) that begins at `offset` (y, x) out of x (n, h, w, c)."""
    (x,) = contiguous(x)
    check_arrays("crop", x=(x, 4))
    _check_inside(x.shape[1:3], offset, size)
    y = memory.empty((x.shape[0], *size, x.shape[3]), x.dtype)
    _crop(x, y, *offset)
    return y


def crop_backward(gy, offset, input_size):
    """The gradient of x, (n, *input_size, c): gy at `offset` and zero around it."""
    (gy,) = contiguous(gy)
    check_arrays("crop_backward", gy=(gy, 4))
    _check_inside(input_size, offset, gy.shape[1:3])
    gx = memory.empty((gy.shape[0], *input_size, gy.shape[3]), gy.dtype)
    _crop_backward(gy, gx, *offset)
    return gx


def dropout(x, rate, seed):
    """Set each number to zero with probability `rate`, and scale the others by 1 / (1 - rate).

    Which ones depends on `seed` (a non-negative int) and the place alone, so that backward is the
    same call on the gradient and no mask is kept. (Srivastava et al. 2014.)
    """
    (x,) = contiguous(x)
    _check_float("dropout", x)
    if not 0 <= rate < 1:
        raise ValueError(f"dropout: rate must be at least 0 and below 1, got {rate}")
    y = memory.empty(x.shape, x.dtype)
    factor = x.dtype.type(1 / (1 - rate))
    _dropout(x.reshape(-1), float(rate), factor, np.uint64(seed), y.reshape(-1))
    return y


def _check_float(name, *arrays):
    check_arrays(name, **{f"argument {i + 1}": (a, a.ndim) for i, a in enumerate(arrays)})


def _check_alike(name, a, b):
    _check_float(name, a, b)
    check_match(f"{name}: shape of the second argument", b.shape, a.shape)


def _check_inside(outer, offset, size):
    if any(o < 0 or s < 1 or o + s > n for n, o, s in zip(outer, offset, size)):
        raise ValueError(
            f"crop: {tuple(size)} at offset {tuple(offset)} reaches outside {tuple(outer)}"
        )
