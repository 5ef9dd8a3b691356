"""Max-pooling, with any window, stride, padding and rounding of the output size.

Windows are clipped to the image, so padding never wins. Of equal numbers the first in row order is
the maximum; a NaN is. (Caffe's pooling_layer.cpp.)
"""

import numpy as np
from numba import cuda
from numba.cuda.types import float32, int32

from .. import geometry
from . import launch, memory
from .checks import check_arrays, check_match
from .compilation import BYTES, FLOATS, INT, SHORTS, WORDS, kernel
from .indexing import quotient, remainder


def _forward(
    x, y, argmax, size, x_h, x_w, y_h, y_w, channels, kernel_h, kernel_w, stride_y, stride_x,
    padding_y, padding_x, keep_argmax,
):
    i = int32(cuda.grid(1))
    if i < size:
        channel, pixel = remainder(i, channels), quotient(i, channels)
        out_x, row = remainder(pixel, y_w), quotient(pixel, y_w)
        out_y, image = remainder(row, y_h), quotient(row, y_h)
        first_y = int32(out_y * stride_y - padding_y)
        first_x = int32(out_x * stride_x - padding_x)
        top, winner = float32(0), int32(-1)
        for ky in range(max(0, -first_y), min(kernel_h, x_h - first_y)):
            for kx in range(max(0, -first_x), min(kernel_w, x_w - first_x)):
                at = int32(((image * x_h + first_y + ky) * x_w + first_x + kx) * channels + channel)
                number = x[at]
                # A NaN that is there already stays: nothing is larger than it.
                if winner < 0 or number > top or (number != number and top == top):
                    top, winner = number, int32(ky * kernel_w + kx)
        y[i] = top
        if keep_argmax:
            argmax[i] = winner


def _backward(
    gy, argmax, gx, size, x_h, x_w, y_h, y_w, channels, kernel_h, kernel_w, stride_y, stride_x,
    padding_y, padding_x,
):
    """Every pixel gathers from the windows that cover it: no two threads write to one place."""
    i = int32(cuda.grid(1))
    if i < size:
        channel, pixel = remainder(i, channels), quotient(i, channels)
        in_x, row = remainder(pixel, x_w), quotient(pixel, x_w)
        in_y, image = remainder(row, x_h), quotient(row, x_h)
        # Counted from where the first window begins.
        x, y = int32(in_x + padding_x), int32(in_y + padding_y)
        total = float32(0)
        for out_y in range(quotient(max(0, y - kernel_h + stride_y), stride_y),
                           min(y_h, quotient(y, stride_y) + 1)):
            for out_x in range(quotient(max(0, x - kernel_w + stride_x), stride_x),
                               min(y_w, quotient(x, stride_x) + 1)):
                at = int32(((image * y_h + out_y) * y_w + out_x) * channels + channel)
                tap = (y - out_y * stride_y) * kernel_w + x - out_x * stride_x
                if argmax[at] == tap:
                    total += gy[at]
        gx[i] = total


# One kernel for each type of argmax.
TYPES = {np.dtype(np.uint8): BYTES, np.dtype(np.uint16): SHORTS, np.dtype(np.uint32): WORDS}
_forward_kernels = {
    dtype: kernel(FLOATS, FLOATS, pointer, *(INT,) * 13)(_forward)
    for dtype, pointer in TYPES.items()
}
_backward_kernels = {
    dtype: kernel(FLOATS, pointer, FLOATS, *(INT,) * 12)(_backward)
    for dtype, pointer in TYPES.items()
}


def max_pooling_forward(x, kernel_size, stride, padding=(0, 0), ceil=False, keep_argmax=True):
    """The largest number of each window, and where in the window it is.

    Parameters
    ----------
    x : DeviceArray (n, h, w, c)
    kernel_size, stride, padding : pairs of ints, (y, x)
    ceil : bool
        Round the output size up (Caffe) instead of down.
    keep_argmax : bool
        Backward needs it, inference does not.

    Returns
    -------
    y : DeviceArray (n, out_h, out_w, c)
    argmax : DeviceArray like y of uint8, or uint16 for windows over 256 pixels, or None
        ky * kw + kx of the maximum.

    Raises
    ------
    ValueError
        If no window fits.
    """
    check_arrays("max_pooling", x=(x, 4))
    out_size = [
        geometry.pooling_size(*sizes, ceil)
        for sizes in zip(x.shape[1:3], kernel_size, stride, padding)
    ]
    y = memory.empty((x.shape[0], *out_size, x.shape[3]))
    dtype = argmax_dtype(kernel_size)
    argmax = memory.empty(y.shape, dtype) if keep_argmax else None
    if y.size:
        _forward_kernels[dtype].launch(
            launch.blocks_for(y.size), x, y, argmax, y.size, *x.shape[1:3], *y.shape[1:],
            *kernel_size, *stride, *padding, keep_argmax)
    return y, argmax


def max_pooling_backward(gy, argmax, input_size, kernel_size, stride, padding=(0, 0)):
    """The gradient of x, (n, h, w, c): each gy goes to the pixel that was its maximum."""
    check_arrays("max_pooling_backward", gy=(gy, 4))
    check_match("shape of argmax", argmax.shape, gy.shape)
    if argmax.dtype not in TYPES:
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
    gx = memory.empty((gy.shape[0], *input_size, gy.shape[3]))
    if gx.size:
        _backward_kernels[argmax.dtype].launch(
            launch.blocks_for(gx.size), gy, argmax, gx, gx.size, *input_size, *gy.shape[1:],
            *kernel_size, *stride, *padding)
    return gx


def argmax_dtype(kernel_size):
    """The smallest unsigned type that counts the pixels of a window."""
    taps = kernel_size[0] * kernel_size[1]
    return np.dtype(np.uint8 if taps <= 256 else np.uint16 if taps <= 65536 else np.uint32)
