"""Convolution by Winograd's minimal filtering: fewer multiplications, the same but for rounding.

The output is cut into tiles of m x m pixels. For each, n x n input pixels (n = m + r - 1) and the
r x r weights are transformed, multiplied number by number and transformed back
(`winograd_matrices`)::

    Y = A^T [ sum over c of  U[c] * V[c] ] A        V = B^T d B,  U = G w G^T

That is n * n multiplications per input and output channel where the sum has m * m * r * r: 5.06
times fewer for F(6, 3). For each of the n * n *taps*, the sum over c for many tiles is a matrix
product, V (tiles, c) times U (c, outputs), done by the micro-kernel.

Strides and dilations are 1 and the kernel is square. Each output is written once, by one thread,
with its terms in a fixed order.
"""

import functools
from typing import NamedTuple

import numpy as np
from numba import from_dtype, typeof, types

from . import memory
from .callables import INTEGERS, PAIR, SHAPE, call, pointer
from .compilation import inline
from .jobs import compile_task, do_jobs, task_types
from .micro_kernel import (
    TILE_ROWS,
    TILE_VECTORS,
    best_rows,
    copy,
    micro_kernels,
    multiply,
    panel_width,
    part_ahead,
    row_starts,
)
from .simd import BITS, lanes, lanes_of, load, maximum, splat, store
from .threads import thread_count
from .winograd_transforms import transform
from .winograd_weights import WEIGHTS_TYPE, describe, patch_size, transform_weights

# Some tiles, counted through all images, for some panels of outputs.
JOB = np.dtype(
    [(name, np.int64) for name in ("first_tile", "last_tile", "first_panel", "last_panel")]
)

# A job's V should stay in the L2 cache, and the products of a panel must; but U, which each job
# reads whole, asks for some tiles. Tests make these smaller.
V_BYTES = (768 if BITS == 512 else 384) << 10
PRODUCT_BYTES = (800 if BITS == 512 else 400) << 10
LEAST_TILES = (2 if BITS == 512 else 4) * TILE_ROWS


class Blocks(NamedTuple):
    """How a convolution is cut: tiles of a job, of which `tile_rows` meet the micro-kernel at a
    time, and whether V of all tiles is there before any product."""

    tiles: int
    tile_rows: int
    split: int  # 0 or 1: jobs are given integers


@inline
def tile_place(tile, tiles, m):
    """Image, top and left of a tile's outputs; `tiles` are those of a column and of a row."""
    image = tile // (tiles[0] * tiles[1])
    tile -= image * tiles[0] * tiles[1]
    return image, tile // tiles[1] * m, tile % tiles[1] * m


@inline
def copy_patch(x, x_shape, image, top, left, n, patch, channels):
    """The n x n pixels of x from (top, left) on, zeros outside, `channels` numbers each."""
    for i in range(n):
        for j in range(n):
            at = (i * n + j) * channels
            y, x_ = top + i, left + j
            done = 0
            if 0 <= y < x_shape[1] and 0 <= x_ < x_shape[2]:
                done = x_shape[3]
                copy(x, ((image * x_shape[1] + y) * x_shape[2] + x_) * done, patch, at, done)
            patch[at + done : at + channels] = 0.0


@inline
def _transform_input(m, n, x, x_shape, padding, tiles, first, last, to_v, v, base, tap_step,
                     channels, tile_rows, buffer, patch):
    """V of tiles first : last, woven, from slot first - base on; zeros fill the last rows."""
    vectors, weave = channels // lanes(v), tile_rows * lanes(v)
    for tile in range(first, last):
        image, top, left = tile_place(tile, tiles, m)
        top, left = top - padding[0], left - padding[1]
        lane = (tile - base) % tile_rows
        target = pointer(v, (tile - base - lane) * channels + lane * lanes(v))
        if (top >= 0 and left >= 0 and top + n <= x_shape[1] and left + n <= x_shape[2]
                and x_shape[3] == channels):
            source = pointer(x, ((image * x_shape[1] + top) * x_shape[2] + left) * channels)
            row_step = x_shape[2] * channels
        else:
            copy_patch(x, x_shape, image, top, left, n, patch, channels)
            source, row_step = pointer(patch, 0), n * channels
        call(to_v, source, row_step, channels, lanes(v), target, n * tap_step, tap_step, weave,
             vectors, pointer(buffer, 0))
    zero = splat(v, v.dtype.type(0))
    slots = last - base
    for slot in range(slots, (slots + tile_rows - 1) // tile_rows * tile_rows):
        lane = slot % tile_rows
        for tap in range(n * n):
            at = tap * tap_step + (slot - lane) * channels + lane * lanes(v)
            for vector in range(vectors):
                store(v, at + vector * weave, zero)


@inline
def _write_tile(m, values, column, count, y, y_shape, image, top, left, shift, relu, pool, lane):
    """A vector's width of channels of one tile, ``values[i, j]``, to y, as far as `y_shape` goes.

    `y_shape` is that of the convolution's result; with `pool`, y holds the maxima of its 2 x 2
    pixels, at the bottom and right of those there are. `shift` is added. `lane` is a vector's
    room for what is cut to `count` channels.
    """
    zero = splat(lane, lane.dtype.type(0))
    rows, pixels = min(m, y_shape[1] - top), min(m, y_shape[2] - left)
    size = 2 if pool else 1
    out_h, out_w = (y_shape[1] + size - 1) // size, (y_shape[2] + size - 1) // size
    for i in range(0, rows, size):
        at = ((image * out_h + (top + i) // size) * out_w + left // size) * y_shape[3] + column
        row = i * m * lanes(y)
        below = (min(i + size, rows) - 1) * m * lanes(y)  # the last row alone is its own second
        for j in range(0, pixels, size):
            value = load(values, row + j * lanes(y))
            if pool:
                right = min(j + 1, pixels - 1) * lanes(y)
                value = maximum(maximum(value, load(values, row + right)),
                                maximum(load(values, below + j * lanes(y)),
                                        load(values, below + right)))
            value = value + shift
            if relu:
                value = maximum(value, zero)
            if count == lanes(y):
                store(y, at, value)
            else:
                store(lane, 0, value)
                copy(lane, 0, y, at, count)
            at += y_shape[3]


@inline
def _multiply(m, r, job, v, base, tap_step, channels, u, weights, depth, bias, has_bias, y,
              y_shape, tiles, rows, to_y, kernels, relu, pool, buffer, values, patch, u_part,
              products):
    """The outputs of a job, from V: for each panel all products, and at once back to pixels.

    `u` is U if it is `weights.ready`, else w.
    """
    n = m + r - 1
    width = TILE_VECTORS * lanes(v)
    slots = (job.last_tile - job.first_tile + rows - 1) // rows * rows
    starts = row_starts(slots, width)
    product_step = slots * width + lanes(v)
    right = u if weights.ready else pointer(u_part, 0)
    for panel in range(job.first_panel, job.last_panel):
        columns = min(width, y_shape[3] - panel * width)
        right_start = panel * n * n * weights.tap_step if weights.ready else 0
        for first in range(0, depth, weights.rows):
            count = min(weights.rows, depth - first)
            if not weights.ready:
                call(weights.transform_rows, r, n, pointer(u, 0), weights.inputs, weights.outputs,
                     weights.transpose, panel, first, count, weights.transform, pointer(u_part, 0),
                     weights.tap_step, pointer(patch, 0), weights.patch_rows, pointer(buffer, 0))
            for tap in range(n * n):
                at = right_start + tap * weights.tap_step
                first_row = tap * tap_step + (job.first_tile - base) * channels + first * rows
                for slot in range(0, slots, rows):
                    row, next_row = first_row + slot * channels, first_row + tap_step
                    if slot + rows < slots:
                        next_row = row + rows * channels
                    ahead = part_ahead(v, at + weights.tap_step, count, slot // rows)
                    multiply(kernels, v, row, 0, next_row, right, at, ahead, columns, products,
                             starts, slot, tap * product_step, count, first > 0)
        for tile in range(job.first_tile, job.last_tile):
            image, top, left = tile_place(tile, tiles, m)
            start = (tile - job.first_tile) * width
            for c in range(0, columns, lanes(v)):
                call(to_y, pointer(products, start + c), n * product_step, product_step, 0,
                     pointer(values, 0), m * lanes(v), lanes(v), 0, 1, pointer(buffer, 0))
                column, channel_count = panel * width + c, min(lanes(v), columns - c)
                shift = splat(buffer, buffer.dtype.type(0))
                if has_bias:
                    copy(bias, column, buffer, 0, channel_count)
                    shift = load(buffer, 0)
                _write_tile(m, values, column, channel_count, y, y_shape, image, top, left, shift,
                            relu, pool, buffer)


@inline
def _take(scratch, numbers):
    """The first numbers of a scratch memory, and the rest."""
    return scratch[:numbers], scratch[numbers:]


def _run_job(given, index, worker):
    """A job's V, if it `transforms`, and its outputs, if it `multiplies`."""
    (m, r, jobs, x, x_shape, u, weights, u_size, patch_size, bias, has_bias, y, y_shape, padding,
     tiles, transforms, multiplies, all_v, tap_step, channels, blocks, to_v, to_y, kernels, relu,
     pool, all_scratch) = given[0]
    job, scratch = jobs[index], all_scratch[worker]
    v = all_v[0 if blocks.split else worker]
    n = m + r - 1
    buffer, rest = _take(scratch, n * n * lanes(scratch))
    values, rest = _take(rest, m * m * lanes(scratch))
    u_part, rest = _take(rest, u_size)
    patch, products = _take(rest, patch_size)
    # A V of the worker's own begins with the job's first tile.
    base = 0 if blocks.split else job.first_tile
    if transforms:
        _transform_input(m, n, x, x_shape, padding, tiles, job.first_tile, job.last_tile, to_v, v,
                         base, tap_step, channels, blocks.tile_rows, buffer, patch)
    if multiplies:
        _multiply(m, r, job, v, base, tap_step, channels, u, weights, x_shape[3], bias, has_bias,
                  y, y_shape, tiles, blocks.tile_rows, to_y, kernels, relu, pool, buffer, values,
                  patch, u_part, products)


@functools.cache
def _forward_task(dtype):
    numbers, scratch = task_types(dtype)
    return compile_task(_run_job, (
        types.intp, types.intp, types.Array(from_dtype(JOB), 1, "C"), numbers, SHAPE, numbers,
        WEIGHTS_TYPE, types.intp, types.intp, numbers, types.intp, numbers, SHAPE, PAIR, PAIR,
        types.intp, types.intp, scratch, types.intp, types.intp, typeof(Blocks(0, 0, 0)),
        types.intp, types.intp, INTEGERS, types.intp, types.intp, scratch))


# ---- launchers


def forward(x, weights, bias, y_shape, m, r, padding, relu=False, pool=False, transposed=False,
            blocks=None):
    """The convolution, y (n, out_h, out_w, out).

    `weights` are from `transform_weights`, or w (r, r, in, out) itself, where `transposed` stands
    for what it does there. With `pool`, which needs an even m, y's maxima over 2 x 2 pixels.
    """
    dtype = x.dtype
    y = memory.empty((y_shape[0], -(-y_shape[1] // 2), -(-y_shape[2] // 2), y_shape[3]) if pool
                     else y_shape, dtype)
    if y.size == 0:
        return y
    n, width, lane_count = m + r - 1, panel_width(dtype), lanes_of(dtype)
    tiles = -(-y_shape[1] // m), -(-y_shape[2] // m)
    total = y_shape[0] * tiles[0] * tiles[1]
    panels = -(-y_shape[3] // width)
    workers = thread_count()
    channels = -(-x.shape[3] // lane_count) * lane_count
    blocks = blocks or choose_blocks(n, total, channels, panels, workers, dtype)
    if weights.ndim == 4 and not blocks.split:  # several jobs would transform the same weights
        weights = transform_weights(weights, m, transposed)
    given = describe(weights, m, r, x.shape[3], transposed)
    u_size = 0 if given.ready else n * n * given.tap_step
    patches = max(n * n * channels, patch_size(r, given.patch_rows, dtype))
    slots = -(-total // blocks.tile_rows) * blocks.tile_rows if blocks.split else blocks.tiles
    tap_step = memory.apart(slots * channels, dtype)
    v = memory.empty((1 if blocks.split else workers, n * n * tap_step), dtype)
    scratch = memory.scratch(
        workers, (n * n + m * m) * lane_count + u_size + patches
        + n * n * (blocks.tiles * width + lane_count), dtype)

    def run(jobs, transforms, multiplies):
        do_jobs(_forward_task(dtype), len(jobs), workers, m, r, jobs, x, x.shape, weights, given,
                u_size, patches, y if bias is None else bias, bias is not None, y, y_shape, padding,
                tiles, transforms, multiplies, v, tap_step, channels, blocks,
                transform("input", m, r, dtype), transform("output", m, r, dtype),
                micro_kernels(dtype, blocks.tile_rows), relu, pool, scratch)

    if blocks.split:
        run(_jobs(total, blocks.tile_rows, panels, panels), True, False)
        run(_jobs(total, blocks.tiles, panels, 1), False, True)
    else:
        run(_jobs(total, blocks.tiles, panels, panels), True, True)
    return y


def choose_blocks(n, total, channels, panels, workers, dtype):
    """The blocks that measured best, or nearly, on the layers of VGG.

    With few tiles, U is larger than all of V: each number of U shall be read once, by one thread.
    """
    width = panel_width(dtype)
    split = panels * width > total
    if split:
        tiles = PRODUCT_BYTES // (n * n * width * dtype.itemsize)
        tiles = -(-total // -(-total // tiles))
    else:
        tiles = V_BYTES // (n * n * channels * dtype.itemsize) // TILE_ROWS * TILE_ROWS
        tiles = min(max(LEAST_TILES, tiles), -(-total // workers))
    tile_rows = best_rows(min(tiles, total))
    return Blocks(-(-min(tiles, total) // tile_rows) * tile_rows, tile_rows, split)


def _jobs(tiles, job_tiles, panels, job_panels):
    return np.array(
        [
            (tile, min(tiles, tile + job_tiles), panel, min(panels, panel + job_panels))
            for panel in range(0, panels, job_panels)
            for tile in range(0, tiles, job_tiles)
        ],
        JOB,
    )
