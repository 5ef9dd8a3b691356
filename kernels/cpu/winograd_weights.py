"""Winograd's weights: U = G w G^T of every pair of channels, in the panels that products read.

Weights that stay are transformed once (`transform_weights`); those that change with every step,
some rows of a panel at a time, just before `winograd.forward` multiplies with them.
"""

import functools
from typing import NamedTuple

from numba import typeof, types

from . import memory
from .callables import TRIPLE, call, compile_callable, number_types, pointer
from .compilation import inline
from .jobs import compile_task, do_jobs, task_types
from .micro_kernel import TILE_VECTORS, copy, panel_width
from .simd import BITS, lanes, lanes_of, prefetch
from .threads import thread_count
from .transposition import transposition
from .winograd_transforms import transform

# Of U, where the weights are transformed on the way, some rows at a time; transposed, so many rows
# are read in one run.
U_BYTES = (512 if BITS == 512 else 256) << 10
PATCH_ROWS = 64


class Weights(NamedTuple):
    """The weights that `forward` gets: U, if `ready`, or w, of which some rows of the depth are
    transformed at a time, for one panel."""

    ready: int  # 0 or 1: jobs are given integers
    rows: int
    tap_step: int  # of U, or of what is there of it
    inputs: int
    outputs: int
    transpose: int  # addresses, this one 0 where the weights are not transposed
    transform_rows: int
    transform: int
    patch_rows: int


WEIGHTS_TYPE = typeof(Weights(*range(9)))


@inline
def _patch_step(rows, numbers):
    """How far apart the taps of some rows of a panel lie: an odd count of vectors."""
    return (rows * TILE_VECTORS + 1) * lanes(numbers)


def _transform_rows(r, n, w, inputs, outputs, transpose, panel, first, count, to_u, u, u_step,
                    patch, patch_rows, buffer):
    """U of rows first : first + count of the depth, for one panel, from the pointer `u` on.

    `patch_rows` of them are put together first, where taps do not compete for places in the caches.
    """
    width = TILE_VECTORS * lanes(u)
    start_column = panel * width
    columns = min(width, (inputs if transpose else outputs) - start_column)
    # Rows lie up to pages apart, where the processor foresees nothing: the next tap's are fetched.
    ahead = inputs * outputs * (-1 if transpose else 1)
    patch_step = _patch_step(patch_rows, patch)
    for some in range(first, first + count, patch_rows):
        rows = min(patch_rows, first + count - some)
        for tap in range(r * r):
            if transpose:  # the kernel turned by 180 degrees
                start = ((r * r - 1 - tap) * inputs + start_column) * outputs + some
                for j in range(columns):
                    for i in range(0, rows, lanes(u)):
                        prefetch(w, start + j * outputs + i + ahead)
                call(transpose, w, start, outputs, columns, rows, patch, tap * patch_step, width)
            else:
                start = (tap * inputs + some) * outputs + start_column
                for i in range(rows):
                    for j in range(0, columns, lanes(u)):
                        prefetch(w, start + i * outputs + j + ahead)
                    copy(w, start + i * outputs, patch, tap * patch_step + i * width, columns)
        # What is beyond the columns, whatever it is, is computed and never used.
        for i in range(rows):
            call(to_u, pointer(patch, i * width), r * patch_step, patch_step, lanes(u),
                 pointer(u, (some - first + i) * width), n * u_step, u_step, lanes(u),
                 TILE_VECTORS, pointer(buffer, 0))


@functools.cache
def _rows_transform(dtype):
    """The address of `_transform_rows`: two kernels need it."""
    numbers, _ = number_types(dtype)
    return compile_callable(_transform_rows, (
        types.intp, types.intp, numbers, *(types.intp,) * 6, types.int64, numbers, types.intp,
        numbers, types.intp, numbers))


def _transform_some(given, job, worker):
    """U of a vector's length of the depth, for one panel."""
    r, n, w, w_shape, transpose, transform_rows, to_u, u, tap_step, panels, patches = given[0]
    depth, rows = w_shape[2 if transpose else 1], lanes(u)
    buffer, patch = patches[worker, : n * n * lanes(u)], patches[worker, n * n * lanes(u) :]
    panel, first = job % panels, job // panels * rows
    at = panel * n * n * tap_step + first * TILE_VECTORS * lanes(u)
    call(transform_rows, r, n, w, w_shape[1], w_shape[2], transpose, panel, first,
         min(rows, depth - first), to_u, pointer(u, at), tap_step, pointer(patch, 0), rows,
         pointer(buffer, 0))


@functools.cache
def _weights_task(dtype):
    numbers, scratch = task_types(dtype)
    return compile_task(_transform_some, (
        types.intp, types.intp, numbers, TRIPLE, types.intp, types.intp, types.intp, numbers,
        types.intp, types.intp, scratch))


# ---- launchers


def transform_weights(w, m, transposed=False):
    """U for `forward`, from w (r, r, in, out).

    With `transposed`, of the convolution that is the input's gradient: the kernel turned by 180
    degrees, from out to in.

    Returns
    -------
    array (panels, n * n, numbers)
        By panels of outputs, each tap as (depth, panel_width) numbers and some to spare.
    """
    r, width, lane_count = w.shape[0], panel_width(w.dtype), lanes_of(w.dtype)
    n = m + r - 1
    depth, outputs = (w.shape[3], w.shape[2]) if transposed else (w.shape[2], w.shape[3])
    tap_step = memory.apart(depth * width, w.dtype)
    panels, blocks = -(-outputs // width), -(-depth // lane_count)
    u = memory.empty((panels, n * n, tap_step), w.dtype)
    workers = thread_count()
    patches = memory.scratch(
        workers, n * n * lane_count + patch_size(r, lane_count, w.dtype), w.dtype)
    do_jobs(_weights_task(w.dtype), panels * blocks, workers, r, n, w, (r * r, *w.shape[2:]),
            transposition(w.dtype) if transposed else 0, _rows_transform(w.dtype),
            transform("weights", m, r, w.dtype), u, tap_step, panels, patches)
    return u


def describe(weights, m, r, depth, transposed):
    """What `winograd.forward` is told of U or w, whose products have this depth."""
    dtype, width, lane_count = weights.dtype, panel_width(weights.dtype), lanes_of(weights.dtype)
    if weights.ndim == 3:
        return Weights(True, depth, weights.shape[2], 0, 0, 0, 0, 0, 0)
    rows = U_BYTES // ((m + r - 1) ** 2 * width * dtype.itemsize) // lane_count * lane_count
    rows = max(lane_count, min(-(-depth // lane_count) * lane_count, rows))
    # Transposed, the depth lies side by side in memory: the longer the run, the faster.
    patch_rows = min(rows, PATCH_ROWS) if transposed else lane_count
    return Weights(False, rows, memory.apart(rows * width, dtype), *weights.shape[2:],
                   transposition(dtype) if transposed else 0, _rows_transform(dtype),
                   transform("weights", m, r, dtype), patch_rows)


def patch_size(r, rows, dtype):
    """Numbers of the patch for some rows of the weights and a panel."""
    return r * r * (rows * TILE_VECTORS + 1) * lanes_of(dtype)
