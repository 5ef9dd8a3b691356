"""Upsampling each channel for itself with a separable filter: bilinear interpolation, fixed.

The equation is that of `cpu/interpolation.py`; each number of y gathers from the x that reach it.
"""

import functools

import numpy as np
from numba import cuda
from numba.cuda.types import float32, int32

from ..taps import interpolation_taps, transposed_output_size
from . import launch, memory
from .checks import check_arrays
from .compilation import FLOATS, INT, INTS, kernel
from .indexing import quotient, remainder
from .loss import classify


@kernel(FLOATS, FLOATS, INTS, FLOATS, INTS, FLOATS, *(INT,) * 8)
def _interpolate(
    x, y, row_sources, row_weights, column_sources, column_weights, size, x_h, x_w, y_h, y_w,
    channels, row_taps, column_taps,
):
    i = int32(cuda.grid(1))
    if i < size:
        channel, pixel = remainder(i, channels), quotient(i, channels)
        out_x, row = remainder(pixel, y_w), quotient(pixel, y_w)
        out_y, image = remainder(row, y_h), quotient(row, y_h)
        total = float32(0)
        for ky in range(row_taps):
            in_row = image * x_h + row_sources[out_y * row_taps + ky]
            blend = float32(0)
            for kx in range(column_taps):
                in_x = column_sources[out_x * column_taps + kx]
                blend += (column_weights[out_x * column_taps + kx]
                          * x[(in_row * x_w + in_x) * channels + channel])
            weight = row_weights[out_y * row_taps + ky]
            if weight != float32(0):
                total += weight * blend
        y[i] = total


@kernel(FLOATS, FLOATS, FLOATS, FLOATS, *(INT,) * 12)
def _gather(gy, gx, rows, columns, size, gx_h, gx_w, gy_h, gy_w, channels, row_taps, column_taps,
            stride_y, stride_x, padding_y, padding_x):
    """Each gx from the window of gy that it reached."""
    i = int32(cuda.grid(1))
    if i < size:
        channel, pixel = remainder(i, channels), quotient(i, channels)
        in_x, row = remainder(pixel, gx_w), quotient(pixel, gx_w)
        in_y, image = remainder(row, gx_h), quotient(row, gx_h)
        total = float32(0)
        for ky in range(row_taps):
            out_y = in_y * stride_y - padding_y + ky
            if 0 <= out_y and out_y < gy_h:
                blend = float32(0)
                for kx in range(column_taps):
                    out_x = in_x * stride_x - padding_x + kx
                    if 0 <= out_x and out_x < gy_w:
                        at = ((image * gy_h + out_y) * gy_w + out_x) * channels + channel
                        blend += columns[kx] * gy[at]
                total += rows[ky] * blend
        gx[i] = total


def interpolate(x, rows, columns, stride, padding, output_size=None):
    """Upsample x by `stride`, each channel with the filter outer(rows, columns).

    Parameters
    ----------
    x : DeviceArray (n, h, w, c)
    rows, columns : NumPy arrays (kh,) and (kw,)
    stride, padding : pairs of ints, (y, x)
    output_size : pair of ints, optional
        (out_h, out_w); by default stride * (h - 1) + kh - 2 * padding.

    Returns
    -------
    DeviceArray (n, out_h, out_w, c)
    """
    check_arrays("interpolate", x=(x, 4))
    if output_size is None:
        output_size = transposed_output_size(
            x.shape[1:3], (len(rows), len(columns)), stride, padding)
    y = memory.empty((x.shape[0], *output_size, x.shape[3]))
    if y.size == 0:
        return y
    tables, counts = [], []
    for axis, weights in enumerate((rows, columns)):
        sources, factors, count = _tables(
            x.shape[1 + axis], output_size[axis], tuple(map(float, weights)), stride[axis],
            padding[axis])
        tables += [sources, factors]
        counts.append(count)
    _interpolate.launch(launch.blocks_for(y.size), x, y, *tables, y.size, *x.shape[1:3],
                        *y.shape[1:], *counts)
    return y


def interpolate_classify(x, rows, columns, stride, padding, output_size=None):
    """What `classify` says of `interpolate`'s scores; see `cpu/interpolation.py`."""
    return classify(interpolate(x, rows, columns, stride, padding, output_size))


def interpolate_backward(gy, rows, columns, stride, padding, input_size):
    """The gradient of `interpolate`'s x, (n, *input_size, c)."""
    check_arrays("interpolate_backward", gy=(gy, 4))
    gx = memory.empty((gy.shape[0], *input_size, gy.shape[3]))
    if gx.size:
        filters = [_filter(tuple(map(float, weights))) for weights in (rows, columns)]
        _gather.launch(launch.blocks_for(gx.size), gy, gx, *filters, gx.size, *gx.shape[1:3],
                       *gy.shape[1:], len(rows), len(columns), *stride, *padding)
    return gx


@functools.lru_cache(maxsize=64)
def _filter(weights):
    """The filter of an axis on the GPU."""
    return memory.upload(np.array(weights, np.float32))


@functools.lru_cache(maxsize=64)
def _tables(size, out_size, weights, stride, padding):
    """The taps of an axis on the GPU, and how many there are for each output."""
    sources, factors = interpolation_taps(
        size, out_size, weights, stride, padding, np.dtype(np.float32))
    return (memory.upload(sources.astype(np.int32)), memory.upload(factors), sources.shape[1])
