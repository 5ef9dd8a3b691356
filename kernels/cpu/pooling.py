"""Max-pooling, with any window, stride, padding and rounding of the output size.

Windows are clipped to the image, so padding never wins. Of equal numbers the first in row order is
the maximum; a NaN is. (Caffe's pooling_layer.cpp.)
"""

import numpy as np
from numba import prange

from .. import geometry
from . import memory
from .checks import check_arrays, check_match, contiguous
from .compilation import inline, kernel
from .simd import lanes, load, maximum, store


@kernel
def _forward_maximum(x, x_shape, y, y_shape, kernel_size, stride, padding):
    height, width, channels = x_shape[1], x_shape[2], x_shape[3]
    vectors = channels // lanes(x) * lanes(x)
    for row in prange(y_shape[0] * y_shape[1]):
        image, out_y = row // y_shape[1], row % y_shape[1]
        first_y = out_y * stride[0] - padding[0]
        for out_x in range(y_shape[2]):
            first_x = out_x * stride[1] - padding[1]
            at = (row * y_shape[2] + out_x) * channels
            begin_y, begin_x = max(first_y, 0), max(first_x, 0)
            end_y = min(first_y + kernel_size[0], height)
            end_x = min(first_x + kernel_size[1], width)
            start = ((image * height + begin_y) * width + begin_x) * channels
            for c in range(0, vectors, lanes(x)):
                best = load(x, start + c)
                for in_y in range(begin_y, end_y):
                    for in_x in range(begin_x, end_x):
                        here = ((image * height + in_y) * width + in_x) * channels + c
                        best = maximum(load(x, here), best)
                store(y, at + c, best)
            for c in range(vectors, channels):
                top = x[start + c]
                for in_y in range(begin_y, end_y):
                    for in_x in range(begin_x, end_x):
                        number = x[((image * height + in_y) * width + in_x) * channels + c]
                        if number > top or number != number:
                            top = number
                y[at + c] = top


@kernel
def _forward(x, y, argmax, kernel_size, stride, padding):
    images, height, width, channels = x.shape
    for row in prange(y.shape[0] * y.shape[1]):
        image, out_y = row // y.shape[1], row % y.shape[1]
        first_y = out_y * stride[0] - padding[0]
        for out_x in range(y.shape[2]):
            first_x = out_x * stride[1] - padding[1]
            top, tap_of_top = y[image, out_y, out_x], argmax[image, out_y, out_x]
            first = True
            for ky in range(max(0, -first_y), min(kernel_size[0], height - first_y)):
                for kx in range(max(0, -first_x), min(kernel_size[1], width - first_x)):
                    here = x[image, first_y + ky, first_x + kx]
                    tap = argmax.dtype.type(ky * kernel_size[1] + kx)
                    if first:
                        for c in range(channels):
                            top[c] = here[c]
                            tap_of_top[c] = tap
                        first = False
                    else:
                        for c in range(channels):
                            number, old = here[c], top[c]
                            # A NaN that is there already stays: nothing is larger than it.
                            wins = number > old or (number != number and old == old)
                            top[c] = number if wins else old
                            tap_of_top[c] = tap if wins else tap_of_top[c]


@inline
def _windows(position, size, kernel, stride, padding):
    """The first window that covers `position` and the one after the last."""
    first = max(0, (position + padding - kernel + stride) // stride)
    return first, min(size, (position + padding) // stride + 1)


@kernel
def _backward(gy, argmax, gx, kernel_size, stride, padding):
    """Every pixel gathers from the windows that cover it: no two threads write to one place."""
    images, height, width, channels = gx.shape
    for row in prange(images * height):
        image, y = row // height, row % height
        first_y, stop_y = _windows(y, gy.shape[1], kernel_size[0], stride[0], padding[0])
        for x in range(width):
            first_x, stop_x = _windows(x, gy.shape[2], kernel_size[1], stride[1], padding[1])
            total = gx[image, y, x]
            for c in range(channels):
                total[c] = 0.0
            for out_y in range(first_y, stop_y):
                for out_x in range(first_x, stop_x):
                    ky = y - (out_y * stride[0] - padding[0])
                    kx = x - (out_x * stride[1] - padding[1])
                    tap = argmax.dtype.type(ky * kernel_size[1] + kx)
                    share, winner = gy[image, out_y, out_x], argmax[image, out_y, out_x]
                    for c in range(channels):
                        total[c] += share[c] if winner[c] == tap else gx.dtype.type(0)


def max_pooling_forward(x, kernel_size, stride, padding=(0, 0), ceil=False, keep_argmax=True):
    """The largest number of each window, and where in the window it is.

    Parameters
    ----------
    x : array (n, h, w, c), float32 or float64
    kernel_size, stride, padding : pairs of ints, (y, x)
    ceil : bool
        Round the output size up (Caffe) instead of down.
    keep_argmax : bool
        Backward needs it, inference does not.

    Returns
    -------
    y : array (n, out_h, out_w, c)
    argmax : array like y of uint8, or uint16 for windows over 256 pixels, or None
        ky * kw + kx of the maximum.

    Raises
    ------
    ValueError
        If no window fits.
    """
    (x,) = contiguous(x)
    check_arrays("max_pooling", x=(x, 4))
    kernel_size, stride, padding = tuple(kernel_size), tuple(stride), tuple(padding)
    out_size = [
        geometry.pooling_size(*sizes, ceil)
        for sizes in zip(x.shape[1:3], kernel_size, stride, padding)
    ]
    y = memory.empty((x.shape[0], *out_size, x.shape[3]), x.dtype)
    if not keep_argmax:
        _forward_maximum(
            x.reshape(-1), x.shape, y.reshape(-1), y.shape, kernel_size, stride, padding
        )
        return y, None
    argmax = memory.empty(y.shape, argmax_dtype(kernel_size))
    _forward(x, y, argmax, kernel_size, stride, padding)
    return y, argmax


def max_pooling_backward(gy, argmax, input_size, kernel_size, stride, padding=(0, 0)):
    """The gradient of x, (n, h, w, c): each gy goes to the pixel that was its maximum."""
    gy, argmax = contiguous(gy, argmax)
    check_arrays("max_pooling_backward", gy=(gy, 4))
    check_match("shape of argmax", argmax.shape, gy.shape)
    if not np.issubdtype(argmax.dtype, np.unsignedinteger):
        raise ValueError(f"max_pooling_backward: argmax is {argmax.dtype}, not unsigned ints")
    for axis in (0, 1):
        sizes = input_size[axis], kernel_size[axis], stride[axis], padding[axis]
        # Forward rounded either way; rounding up makes one window more at most.
        most = geometry.pooling_size(*sizes, ceil=True)
        if not max(1, most - 1) <= gy.shape[1 + axis] <= most:
            raise ValueError(
                f"max_pooling_backward: gy {gy.shape} is not the output of an input of size "
                f"{tuple(input_size)}"
            )
    gx = memory.empty((gy.shape[0], *input_size, gy.shape[3]), gy.dtype)
    _backward(gy, argmax, gx, tuple(kernel_size), tuple(stride), tuple(padding))
    return gx


def argmax_dtype(kernel_size):
    """The smallest unsigned type that counts the pixels of a window."""
    taps = kernel_size[0] * kernel_size[1]
    return np.dtype(np.uint8 if taps <= 256 else np.uint16 if taps <= 65536 else np.uint32)
