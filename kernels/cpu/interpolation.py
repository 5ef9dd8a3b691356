"""Upsampling each channel for itself with a separable filter: bilinear interpolation, fixed.

A transposed convolution whose weights are zero between different channels and, on the diagonal, an
outer product of two vectors::

    y[iy * sy - py + ky, ix * sx - px + kx, c] += rows[ky] * columns[kx] * x[iy, ix, c]

needs no product over channels: each row of y is a blend of the few rows of x that reach it, spread
along the row. (Bilinear filters, Long, Shelhamer, Darrell 2015, section 3.3.)
"""

import functools

import numpy as np
from numba import from_dtype, types

from ..taps import interpolation_taps, transposed_output_size
from . import memory
from .callables import PAIR, SHAPE, TABLE, TRIPLE, pointer
from .checks import check_arrays, contiguous
from .compilation import inline
from .jobs import compile_task, do_jobs, task_types
from .loss import classes_scratch, find_classes
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


@inline
def _interpolate_row(x, x_shape, image, out_y, row_taps, row_sources, row_weights, column_taps,
                     column_sources, column_weights, blend, y, start, out_w):
    """Row `out_y` of the upsampled image to y, at `start`; `blend` is as long as a row of x."""
    length, channels = x_shape[2] * x_shape[3], x_shape[3]
    for i in range(length):
        blend[i] = 0.0
    for tap in range(out_y * row_taps, (out_y + 1) * row_taps):
        if row_weights[tap] != 0.0:
            source_row = (image * x_shape[1] + row_sources[tap]) * length
            _add_row(x, source_row, row_weights[tap], blend, length)
    for out_x in range(out_w):
        for c in range(0, channels, lanes(blend)):
            mix = splat(blend, 0.0)
            for tap in range(out_x * column_taps, (out_x + 1) * column_taps):
                source = load_part(blend, column_sources[tap] * channels + c, channels - c, 0.0)
                mix = fma(source, splat(blend, column_weights[tap]), mix)
            store_part(y, start + out_x * channels + c, channels - c, mix)


def _interpolate(given, row, worker):
    """A row of the upsampled image, counted through all images."""
    (x, x_shape, y, y_shape, row_sources, row_weights, column_sources, column_weights,
     scratch) = given[0]
    _interpolate_row(x, x_shape, row // y_shape[1], row % y_shape[1], row_sources.shape[1],
                     pointer(row_sources, 0), row_weights, column_sources.shape[1],
                     pointer(column_sources, 0), column_weights, scratch[worker], y,
                     row * y_shape[2] * x_shape[3], y_shape[2])


def _interpolate_classes(given, row, worker):
    """The classes of such a row, whose scores are not kept."""
    (x, x_shape, labels, confidence, y_shape, row_sources, row_weights, column_sources,
     column_weights, transpose, classes_room, scratch) = given[0]
    classes, blend = x_shape[3], scratch[worker, classes_room:]
    scores = blend[x_shape[2] * classes :]
    _interpolate_row(x, x_shape, row // y_shape[1], row % y_shape[1], row_sources.shape[1],
                     pointer(row_sources, 0), row_weights, column_sources.shape[1],
                     pointer(column_sources, 0), column_weights, blend, pointer(scores, 0), 0,
                     y_shape[2])
    at = row * y_shape[2]
    find_classes(transpose, pointer(scores, 0), classes, 0, y_shape[2], pointer(labels, at),
                 pointer(confidence, at), scratch[worker, :classes_room])


def _gather(given, row, worker):
    """The adjoint: each gx of a row from the window of gy that it reached."""
    gy, gy_shape, gx, gx_shape, rows, columns, stride, padding, scratch = given[0]
    channels, blend = gx_shape[3], scratch[worker]
    length = gy_shape[2] * channels
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
            mix = splat(rows, rows.dtype.type(0))
            for k in range(begin, end):
                source = load_part(blend, (first + k) * channels + c, channels - c, 0.0)
                mix = fma(source, splat(rows, columns[k]), mix)
            store_part(gx, at + c, channels - c, mix)


def _taps_types(dtype):
    """Types of `_taps`' arrays."""
    weights = types.CPointer(from_dtype(dtype))
    return TABLE, weights, TABLE, weights


@functools.cache
def _interpolate_task(dtype):
    numbers, scratch = task_types(dtype)
    return compile_task(_interpolate, (
        numbers, SHAPE, numbers, SHAPE, *_taps_types(dtype), scratch))


@functools.cache
def _classes_task(dtype, label_dtype):
    numbers, scratch = task_types(dtype)
    return compile_task(_interpolate_classes, (
        numbers, SHAPE, types.CPointer(from_dtype(label_dtype)), types.CPointer(types.float32),
        TRIPLE, *_taps_types(dtype), types.intp, types.intp, scratch))


@functools.cache
def _gather_task(dtype):
    numbers, scratch = task_types(dtype)
    filters = types.Array(from_dtype(dtype), 1, "C")
    return compile_task(_gather, (
        numbers, SHAPE, numbers, SHAPE, filters, filters, PAIR, PAIR, scratch))


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
    workers = thread_count()
    scratch = memory.scratch(workers, x.shape[2] * x.shape[3], x.dtype)
    do_jobs(_interpolate_task(x.dtype), y.shape[0] * y.shape[1], workers, x, x.shape, y, y.shape,
            *taps, scratch)
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
    workers = thread_count()
    scratch = memory.scratch(workers, room + (x.shape[2] + shape[2]) * classes, x.dtype)
    do_jobs(_classes_task(x.dtype, labels.dtype), shape[0] * shape[1], workers, x, x.shape, labels,
            confidence, shape, *taps, transposition(x.dtype), room, scratch)
    return labels, confidence


def interpolate_backward(gy, rows, columns, stride, padding, input_size):
    """The gradient of `interpolate`'s x, (n, *input_size, c)."""
    (gy,) = contiguous(gy)
    check_arrays("interpolate_backward", gy=(gy, 4))
    gx = memory.empty((gy.shape[0], *input_size, gy.shape[3]), gy.dtype)
    if gx.size == 0:
        return gx
    workers = thread_count()
    scratch = memory.scratch(workers, gy.shape[2] * gy.shape[3], gy.dtype)
    do_jobs(_gather_task(gy.dtype), gx.shape[0] * gx.shape[1], workers, gy, gy.shape, gx, gx.shape,
            np.asarray(rows, gy.dtype), np.asarray(columns, gy.dtype), tuple(stride),
            tuple(padding), scratch)
    return gx


def _taps(x, rows, columns, stride, padding, output_size):
    """Sources and weights of both axes, (y, x)."""
    taps = []
    for axis, weights in enumerate((rows, columns)):
        taps += interpolation_taps(x.shape[1 + axis], output_size[axis],
                                   tuple(map(float, weights)), stride[axis], padding[axis], x.dtype)
    return taps
