"""Upsampling each channel for itself with a separable filter: bilinear interpolation, fixed.

A transposed convolution whose weights are zero between different channels and, on the diagonal, an
outer product of two vectors::

    y[iy * sy - py + ky, ix * sx - px + kx, c] += rows[ky] * columns[kx] * x[iy, ix, c]

needs no product over channels: each row of y is a blend of the few rows of x that reach it, spread
along the row. (Bilinear filters, Long, Shelhamer, Darrell 2015, section 3.3.)
"""

import functools

import numpy as np
from numba import prange, types

from ..taps import interpolation_taps, transposed_output_size
from . import memory
from .callables import SHAPE, call, compile_callable, number_types, pointer
from .checks import check_arrays, contiguous
from .compilation import inline, kernel
from .loss import classes_scratch, classify_address
from .simd import fma, lanes, load, load_part, splat, store, store_part
from .threads import thread_count
from .transposition import transposition


@inline
def _add_row(x, start, factor, blend, length):
    """blend += factor * a row of x."""
    whole = length - length % lanes(x)
    for i in range(0, whole, lanes(x)):
        store(blend, i, fma(load(x, start + i), splat(x, factor), load(blend, i)))
    for i in range(whole, length):
        blend[i] += factor * x[start + i]


def _interpolate_row(x, x_shape, image, out_y, row_taps, row_sources, row_weights, column_taps,
                     column_sources, column_weights, blend, y, out_w):
    """Row `out_y` of the upsampled image to y; `blend` is as long as a row of x."""
    length, channels = x_shape[2] * x_shape[3], x_shape[3]
    for i in range(length):
        blend[i] = 0.0
    for tap in range(out_y * row_taps, (out_y + 1) * row_taps):
        if row_weights[tap] != 0.0:
            start = (image * x_shape[1] + row_sources[tap]) * length
            _add_row(x, start, row_weights[tap], blend, length)
    for out_x in range(out_w):
        for c in range(0, channels, lanes(blend)):
            mix = splat(blend, 0.0)
            for tap in range(out_x * column_taps, (out_x + 1) * column_taps):
                source = load_part(blend, column_sources[tap] * channels + c, channels - c, 0.0)
                mix = fma(source, splat(blend, column_weights[tap]), mix)
            store_part(y, out_x * channels + c, channels - c, mix)


@functools.cache
def _row_interpolation(dtype):
    """The address of `_interpolate_row`."""
    (numbers, _), places = number_types(dtype), types.CPointer(types.int64)
    return compile_callable(_interpolate_row, (
        numbers, SHAPE, types.intp, types.intp, types.intp, places, numbers, types.intp, places,
        numbers, numbers, numbers, types.intp))


@kernel
def _interpolate(interpolate_row, x, x_shape, y, y_shape, row_sources, row_weights, column_sources,
                 column_weights, scratch):
    workers, total = scratch.shape[0], y_shape[0] * y_shape[1]
    for worker in prange(workers):
        for row in range(total * worker // workers, total * (worker + 1) // workers):
            call(interpolate_row, pointer(x, 0), x_shape, row // y_shape[1], row % y_shape[1],
                 row_sources.shape[1], pointer(row_sources, 0), pointer(row_weights, 0),
                 column_sources.shape[1], pointer(column_sources, 0), pointer(column_weights, 0),
                 pointer(scratch[worker], 0), pointer(y, row * y_shape[2] * x_shape[3]), y_shape[2])


@kernel
def _interpolate_classes(interpolate_row, classify_row, transpose, x, x_shape, labels, confidence,
                         y_shape, row_sources, row_weights, column_sources, column_weights,
                         classes_room, scratch):
    """As `_interpolate` and `classify`, with the scores of one row in between."""
    classes, workers, total = x_shape[3], scratch.shape[0], y_shape[0] * y_shape[1]
    for worker in prange(workers):
        blend = scratch[worker, classes_room:]
        scores = blend[x_shape[2] * classes :]
        for row in range(total * worker // workers, total * (worker + 1) // workers):
            call(interpolate_row, pointer(x, 0), x_shape, row // y_shape[1], row % y_shape[1],
                 row_sources.shape[1], pointer(row_sources, 0), pointer(row_weights, 0),
                 column_sources.shape[1], pointer(column_sources, 0), pointer(column_weights, 0),
                 pointer(blend, 0), pointer(scores, 0), y_shape[2])
            call(classify_row, transpose, pointer(scores, 0), classes, 0, y_shape[2],
                 pointer(labels, row * y_shape[2]), pointer(confidence, row * y_shape[2]),
                 scratch[worker, :classes_room])


@kernel
def _gather(gy, gy_shape, gx, gx_shape, rows, columns, stride, padding, scratch):
    """The adjoint: each gx from the window of gy that it reached."""
    channels, workers = gx_shape[3], scratch.shape[0]
    length = gy_shape[2] * channels
    total = gx_shape[0] * gx_shape[1]
    for worker in prange(workers):
        blend = scratch[worker]
        for row in range(total * worker // workers, total * (worker + 1) // workers):
            image, in_y = row // gx_shape[1], row % gx_shape[1]
            blend[:length] = 0.0
            for k in range(rows.size):
                out_y = in_y * stride[0] - padding[0] + k
                if 0 <= out_y < gy_shape[1]:
                    _add_row(gy, (image * gy_shape[1] + out_y) * length, rows[k], blend, length)
            for in_x in range(gx_shape[2]):
                first = in_x * stride[1] - padding[1]
                begin, end = max(0, -first), min(columns.size, gy_shape[2] - first)
                at = (row * gx_shape[2] + in_x) * channels
                for c in range(0, channels, lanes(gy)):
                    mix = splat(gy, gy.dtype.type(0))
                    for k in range(begin, end):
                        source = load_part(blend, (first + k) * channels + c, channels - c, 0.0)
                        mix = fma(source, splat(gy, columns[k]), mix)
                    store_part(gx, at + c, channels - c, mix)


# ---- launchers


def interpolate(x, rows, columns, stride, padding, output_size=None):
    """Upsample x by `stride`, each channel with the filter outer(rows, columns).

    Parameters
    ----------
    x : array (n, h, w, c), float32 or float64
    rows, columns : arrays (kh,) and (kw,)
    stride, padding : pairs of ints, (y, x)
    output_size : pair of ints, optional
        (out_h, out_w); by default stride * (h - 1) + kh - 2 * padding.

    Returns
    -------
    array (n, out_h, out_w, c)
    """
    (x,) = contiguous(x)
    check_arrays("interpolate", x=(x, 4))
    if output_size is None:
        output_size = transposed_output_size(
            x.shape[1:3], (len(rows), len(columns)), stride, padding)
    y = memory.empty((x.shape[0], *output_size, x.shape[3]), x.dtype)
    if y.size == 0:
        return y
    taps = _taps(x, rows, columns, stride, padding, output_size)
    scratch = memory.scratch(thread_count(), x.shape[2] * x.shape[3], x.dtype)
    _interpolate(_row_interpolation(x.dtype), x.reshape(-1), x.shape, y.reshape(-1),
                 y.shape, *taps, scratch)
    return y


def interpolate_classify(x, rows, columns, stride, padding, output_size=None):
    """What `classify` says of `interpolate`'s scores, which are not kept.

    Parameters
    ----------
    As of `interpolate`; the channels are classes.

    Returns
    -------
    labels : array (n, out_h, out_w) of uint8, or uint16 for more than 256 classes
    confidence : array (n, out_h, out_w) of float32
    """
    (x,) = contiguous(x)
    check_arrays("interpolate_classify", x=(x, 4))
    if output_size is None:
        output_size = transposed_output_size(
            x.shape[1:3], (len(rows), len(columns)), stride, padding)
    shape, classes = (x.shape[0], *output_size), x.shape[3]
    if classes == 0:
        raise ValueError(f"interpolate_classify: no classes in scores of shape {x.shape}")
    labels = memory.empty(shape, np.uint8 if classes <= 256 else np.uint16)
    confidence = memory.empty(shape, np.float32)
    if labels.size == 0:
        return labels, confidence
    taps = _taps(x, rows, columns, stride, padding, output_size)
    room = classes_scratch(classes, x.dtype)
    scratch = memory.scratch(thread_count(), room + (x.shape[2] + shape[2]) * classes, x.dtype)
    _interpolate_classes(_row_interpolation(x.dtype), classify_address(x.dtype, labels.dtype),
                         transposition(x.dtype), x.reshape(-1), x.shape, labels.reshape(-1),
                         confidence.reshape(-1), shape, *taps, room, scratch)
    return labels, confidence


def interpolate_backward(gy, rows, columns, stride, padding, input_size):
    """The gradient of `interpolate`'s x, (n, *input_size, c)."""
    (gy,) = contiguous(gy)
    check_arrays("interpolate_backward", gy=(gy, 4))
    gx = memory.empty((gy.shape[0], *input_size, gy.shape[3]), gy.dtype)
    if gx.size == 0:
        return gx
    scratch = memory.scratch(thread_count(), gy.shape[2] * gy.shape[3], gy.dtype)
    _gather(gy.reshape(-1), gy.shape, gx.reshape(-1), gx.shape, np.asarray(rows, gy.dtype),
            np.asarray(columns, gy.dtype), tuple(stride), tuple(padding), scratch)
    return gx


def _taps(x, rows, columns, stride, padding, output_size):
    """Sources and weights of both axes, (y, x)."""
    taps = []
    for axis, weights in enumerate((rows, columns)):
        taps += interpolation_taps(x.shape[1 + axis], output_size[axis],
                                   tuple(map(float, weights)), stride[axis], padding[axis], x.dtype)
    return taps
