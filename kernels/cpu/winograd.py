"""Convolution by Winograd's minimal filtering: fewer multiplications, the same numbers but rounding.

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

from typing import NamedTuple

import numba
import numpy as np
from numba import prange

from . import memory
from .compilation import inline, kernel
from .jobs import take_job
from .micro_kernel import (
    TILE_ROWS,
    TILE_VECTORS,
    copy,
    multiply_depth,
    multiply_woven,
    panel_width,
    put_tile,
)
from .simd import BITS, lanes, lanes_of, load, maximum, splat, store
from .winograd_transforms import (
    input_transform,
    output_adjoint,
    output_transform,
    weight_adjoint,
    weight_transform,
)

# Some tiles, counted through all images, for some panels of outputs.
JOB = np.dtype(
    [(name, np.int64) for name in ("first_tile", "last_tile", "first_panel", "last_panel")]
)

# Sizes of the blocks; tests make them smaller.
LEAST_TILES = (2 if BITS == 512 else 4) * TILE_ROWS
MOST_TILES = (4 if BITS == 512 else 8) * TILE_ROWS
V_BYTES = (2 if BITS == 512 else 1) << 20
PRODUCT_BYTES = (800 if BITS == 512 else 400) << 10
# Of the weights' gradient: tiles whose V and gradient are there at a time.
BATCH_BYTES = 8 << 20
LEAST_BATCH = 192


@inline
def _tile_place(tile, tiles, m):
    """Image, top and left of a tile's outputs; `tiles` are those of a column and of a row."""
    image = tile // (tiles[0] * tiles[1])
    tile -= image * tiles[0] * tiles[1]
    return image, tile // tiles[1] * m, tile % tiles[1] * m


@inline
def _transform_pixels(m, r, source, start, row_step, pixel_step, channels, v, at, tap_step, weave,
                      buffer):
    """V of one tile, from n x n pixels of `source`, ``v[at + tap * tap_step + c * weave]``."""
    n = len(m) + len(r) - 1
    for c in range(0, channels, lanes(v)):
        for j in range(n):
            input_transform(m, r, source, start + j * pixel_step + c, row_step,
                            buffer, j * lanes(v), n * lanes(v))
        for i in range(n):
            input_transform(m, r, buffer, i * n * lanes(v), lanes(v),
                            v, at + i * n * tap_step + c * weave, tap_step)


@inline
def _copy_patch(x, x_shape, image, top, left, n, patch, channels):
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
def _transform_input(m, r, x, x_shape, padding, tiles, first, last, v, base, tap_step, channels,
                     buffer, patch):
    """V of tiles first : last, woven, from slot first - base on; rows that fill a group are zero."""
    n = len(m) + len(r) - 1
    for tile in range(first, last):
        image, top, left = _tile_place(tile, tiles, len(m))
        top, left = top - padding[0], left - padding[1]
        lane = (tile - base) % TILE_ROWS
        at = (tile - base - lane) * channels + lane * lanes(v)
        if (top >= 0 and left >= 0 and top + n <= x_shape[1] and left + n <= x_shape[2]
                and x_shape[3] == channels):
            start = ((image * x_shape[1] + top) * x_shape[2] + left) * channels
            _transform_pixels(m, r, x, start, x_shape[2] * channels, channels, channels, v, at,
                              tap_step, TILE_ROWS, buffer)
        else:
            _copy_patch(x, x_shape, image, top, left, n, patch, channels)
            _transform_pixels(m, r, patch, 0, n * channels, channels, channels, v, at, tap_step,
                              TILE_ROWS, buffer)
    zero = splat(v, v.dtype.type(0))
    slots = last - base
    for slot in range(slots, (slots + TILE_ROWS - 1) // TILE_ROWS * TILE_ROWS):
        lane = slot % TILE_ROWS
        for tap in range(n * n):
            at = tap * tap_step + (slot - lane) * channels + lane * lanes(v)
            for c in range(0, channels, lanes(v)):
                store(v, at + c * TILE_ROWS, zero)


@inline
def _transform_output(m, r, products, start, tap_step, columns, y, y_shape, image, top, left, output,
                      bias, relu, pool, buffer):
    """One tile of y from the products of a panel, which begins with y's channel `output`.

    `y_shape` is that of the convolution's result; with `pool`, y holds the maxima of its 2 x 2
    pixels, at the bottom and right of those there are.
    """
    n = len(m) + len(r) - 1
    lane_count = lanes(y)
    zero = splat(y, y.dtype.type(0))
    result = n * n * lane_count
    rows, pixels = min(len(m), y_shape[1] - top), min(len(m), y_shape[2] - left)
    size = 2 if pool else 1
    out_h, out_w = (y_shape[1] + size - 1) // size, (y_shape[2] + size - 1) // size
    for c in range(0, columns, lane_count):
        for j in range(n):
            output_transform(m, r, products, start + j * tap_step + c, n * tap_step,
                             buffer, j * lane_count, n * lane_count)
        count = min(lane_count, columns - c)
        shift = zero
        if bias.size > 0:
            copy(bias, output + c, buffer, result, count)
            shift = load(buffer, result)
        for i in range(0, rows, size):
            # The last row alone is its own second.
            second = min(i + size, rows) - 1
            for row in range(i, second + 1):
                output_transform(m, r, buffer, row * n * lane_count, lane_count,
                                 buffer, result + (row - i) * len(m) * lane_count, lane_count)
            below = result + (second - i) * len(m) * lane_count
            at = ((image * out_h + (top + i) // size) * out_w + left // size) * y_shape[3]
            at += output + c
            for j in range(0, pixels, size):
                value = load(buffer, result + j * lane_count)
                if pool:
                    right = min(j + 1, pixels - 1) * lane_count
                    value = maximum(maximum(value, load(buffer, result + right)),
                                    maximum(load(buffer, below + j * lane_count),
                                            load(buffer, below + right)))
                value = value + shift
                if relu:
                    value = maximum(value, zero)
                if count == lane_count:
                    store(y, at, value)
                else:
                    store(buffer, result + j * lane_count, value)
                    copy(buffer, result + j * lane_count, y, at, count)
                at += y_shape[3]


@inline
def _multiply(m, r, job, v, base, tap_step, channels, depth, u, u_step, bias, y, y_shape, tiles, chunk,
              relu, pool, scratch):
    """The outputs of a job, from V: for some panels at a time, all products, then back to pixels."""
    n = len(m) + len(r) - 1
    width = TILE_VECTORS * lanes(v)
    buffer, zeros = scratch[: (n * n + 2 * n) * lanes(v)], scratch[(n * n + 2 * n) * lanes(v) :][:width]
    products = scratch[(n * n + 2 * n) * lanes(v) + width :]
    zeros[:] = 0.0
    below_all = v.dtype.type(-np.inf)
    slots = (job.last_tile - job.first_tile + TILE_ROWS - 1) // TILE_ROWS * TILE_ROWS
    starts = np.arange(slots) * width
    product_step = slots * width
    for first in range(job.first_panel, job.last_panel, chunk):
        last = min(first + chunk, job.last_panel)
        for tap in range(n * n):
            for panel in range(first, last):
                columns = min(width, y_shape[3] - panel * width)
                to = ((panel - first) * n * n + tap) * product_step
                at = (panel * n * n + tap) * u_step
                after = at + n * n * u_step
                if panel == last - 1:
                    after = (first * n * n + tap + 1) * u_step
                for slot in range(0, slots, TILE_ROWS):
                    row = tap * tap_step + (job.first_tile - base + slot) * channels
                    quarter = slot // TILE_ROWS % 4 * (depth * width // 4)
                    multiply_woven(v, row, u, at, after + quarter, columns, products, starts, slot,
                                   to, False, depth, zeros, 0, below_all)
        for panel in range(first, last):
            columns = min(width, y_shape[3] - panel * width)
            for tile in range(job.first_tile, job.last_tile):
                image, top, left = _tile_place(tile, tiles, len(m))
                start = (panel - first) * n * n * product_step + (tile - job.first_tile) * width
                _transform_output(m, r, products, start, product_step, columns, y, y_shape, image,
                                  top, left, panel * width, bias, relu, pool, buffer)


@kernel
def _forward(m, r, x, x_shape, u, u_step, bias, y, y_shape, padding, tiles, jobs, counter, transforms,
             multiplies, v, private, tap_step, channels, chunk, relu,
             pool, scratch):
    n = len(m) + len(r) - 1
    workers = scratch.shape[0]
    for worker in prange(workers):
        own = scratch[worker]
        while True:
            index = take_job(counter)
            if index >= jobs.shape[0]:
                break
            job = jobs[index]
            # A V of the worker's own begins with the job's first tile.
            base = job.first_tile if private else 0
            own_v = v[np.int64(worker) if private else 0]
            if transforms:
                after = (n * n + 2 * n) * lanes(own)
                _transform_input(m, r, x, x_shape, padding, tiles, job.first_tile, job.last_tile,
                                 own_v, base, tap_step, channels, own[:after], own[after:])
            if multiplies:
                _multiply(m, r, job, own_v, base, tap_step, channels, x_shape[3], u, u_step, bias,
                          y, y_shape, tiles, chunk, relu, pool, own)


@kernel
def _transform_weights(m, r, w, w_shape, transposed, u, u_step, patches):
    n = len(m) + len(r) - 1
    width = TILE_VECTORS * lanes(u)
    depth, outputs = (w_shape[2], w_shape[1]) if transposed else (w_shape[1], w_shape[2])
    panels = (outputs + width - 1) // width
    workers = patches.shape[0]
    size = w_shape[1] * w_shape[2]
    for worker in prange(workers):
        patch = patches[worker, : len(r) * len(r) * width]
        buffer = patches[worker, len(r) * len(r) * width :]
        for panel in range(panels * worker // workers, panels * (worker + 1) // workers):
            columns = min(width, outputs - panel * width)
            patch[:] = 0.0
            for k in range(depth):
                at = panel * n * n * u_step + k * width
                for tap in range(len(r) * len(r)):
                    if transposed:
                        start = (len(r) * len(r) - 1 - tap) * size + k
                        for j in range(columns):
                            row = (panel * width + j) * w_shape[2]
                            patch[tap * width + j] = w[start + row]
                    else:
                        copy(w, tap * size + k * w_shape[2] + panel * width, patch, tap * width,
                             columns)
                for j in range(0, width, lanes(u)):
                    for tap in range(len(r)):
                        weight_transform(m, r, patch, tap * width + j, len(r) * width,
                                         buffer, tap * lanes(u), len(r) * lanes(u))
                    for i in range(n):
                        weight_transform(m, r, buffer, i * len(r) * lanes(u), lanes(u),
                                         u, at + j + i * n * u_step, u_step)


@kernel
def _transform_for_gradient(m, r, x, x_shape, gy, gy_shape, padding, tiles, first, last, v, v_step,
                            channels, g, g_step, outputs, buffers):
    """V, by tiles, and the transformed gy, A gY A^T, in panels, of tiles first : last."""
    n = len(m) + len(r) - 1
    width = TILE_VECTORS * lanes(v)
    workers = buffers.shape[0]
    lane_count = lanes(v)
    slots = last - first
    for worker in prange(workers):
        buffer = buffers[worker, : n * n * lane_count]
        patch = buffers[worker, n * n * lane_count :]
        for tile in range(first + slots * worker // workers, first + slots * (worker + 1) // workers):
            image, top, left = _tile_place(tile, tiles, len(m))
            slot = tile - first
            _copy_patch(x, x_shape, image, top - padding[0], left - padding[1], n, patch, channels)
            _transform_pixels(m, r, patch, 0, n * channels, channels, channels, v,
                              slot * channels, v_step, 1, buffer)
            _copy_patch(gy, gy_shape, image, top, left, len(m), patch, outputs)
            for c in range(0, outputs, lane_count):
                for j in range(len(m)):
                    output_adjoint(m, r, patch, j * outputs + c, len(m) * outputs,
                                   buffer, j * lane_count, len(m) * lane_count)
                at = c // width * slots * width + slot * width + c % width
                for i in range(n):
                    output_adjoint(m, r, buffer, i * len(m) * lane_count, lane_count,
                                   g, at + i * n * g_step, g_step)


@kernel
def _multiply_for_gradient(v, v_step, channels, g, g_step, gu, gu_step, gu_shape, slots, again):
    """gU (taps, in, out) = or, `again`, += V^T gy', each tap by one thread."""
    width = TILE_VECTORS * lanes(v)
    for tap in prange(gu_shape[0]):
        buffer = np.empty(TILE_ROWS * width + width, v.dtype)
        tile, zeros = buffer[: TILE_ROWS * width], buffer[TILE_ROWS * width :]
        zeros[:] = 0.0
        tile_starts = np.arange(TILE_ROWS) * width
        starts = tap * gu_step + np.arange(gu_shape[1]) * gu_shape[2]
        below_all = v.dtype.type(-np.inf)
        for j in range(0, gu_shape[2], width):
            columns = min(width, gu_shape[2] - j)
            panel = tap * g_step + j * slots
            for c in range(0, gu_shape[1], TILE_ROWS):
                rows = min(TILE_ROWS, gu_shape[1] - c)
                at = tap * v_step + c
                if rows == TILE_ROWS and columns % lanes(v) == 0:
                    multiply_depth(v, at, channels, g, panel, columns, gu, starts, c, j, again,
                                   slots, zeros, below_all)
                else:
                    multiply_depth(v, at, channels, g, panel, columns, tile, tile_starts, 0, 0,
                                   False, slots, zeros, below_all)
                    put_tile(tile, rows, columns, gu, starts, c, j, again, zeros[:0], False, False)


@kernel
def _transform_weight_gradient(m, r, gu, gu_step, gw, size, buffers):
    """gW = G^T gU G, for all `size` pairs of channels."""
    n = len(m) + len(r) - 1
    lane_count = lanes(gu)
    workers = buffers.shape[0]
    vectors = (size + lane_count - 1) // lane_count
    for worker in prange(workers):
        buffer = buffers[worker]
        rest = n * n * lane_count
        for vector in range(vectors * worker // workers, vectors * (worker + 1) // workers):
            at = vector * lane_count
            for j in range(n):
                weight_adjoint(m, r, gu, j * gu_step + at, n * gu_step,
                               buffer, j * lane_count, n * lane_count)
            for i in range(len(r)):
                if at + lane_count <= size:
                    weight_adjoint(m, r, buffer, i * n * lane_count, lane_count,
                                   gw, at + i * len(r) * size, size)
                    continue
                weight_adjoint(m, r, buffer, i * n * lane_count, lane_count,
                               buffer, rest, lane_count)
                for j in range(len(r)):
                    copy(buffer, rest + j * lane_count, gw, (i * len(r) + j) * size + at, size - at)


# ---- launchers


class Plan(NamedTuple):
    """How a convolution is cut: tiles of a job, panels that meet a job's V at a time, and whether
    V of all tiles is there before any product."""

    tiles: int
    chunk: int
    split: bool


def transform_weights(w, m, transposed=False):
    """U for `forward`, from w (r, r, in, out).

    With `transposed`, of the convolution that is the input's gradient: the kernel turned by 180
    degrees, from out to in.

    Returns
    -------
    array (panels, n * n, numbers)
        By panels of outputs, each tap as (depth, panel_width) numbers and some to spare; columns
        beyond the outputs are zero.
    """
    r = w.shape[0]
    n = m + r - 1
    depth, outputs = (w.shape[3], w.shape[2]) if transposed else (w.shape[2], w.shape[3])
    width = panel_width(w.dtype)
    u_step = _apart(depth * width, w.dtype)
    u = memory.empty((-(-outputs // width), n * n, u_step), w.dtype)
    workers = numba.get_num_threads()
    patches = memory.scratch(workers, r * r * width + n * r * lanes_of(w.dtype), w.dtype)
    _transform_weights((0,) * m, (0,) * r, w.reshape(-1), (r * r, w.shape[2], w.shape[3]),
                       transposed, u.reshape(-1), u_step, patches)
    return u


def forward(x, u, bias, y_shape, m, r, padding, relu=False, pool=False, plan=None):
    """The convolution, y (n, out_h, out_w, out), with `u` from `transform_weights`.

    With `pool`, which needs an even m, its maxima over 2 x 2 pixels.
    """
    y = memory.empty((y_shape[0], -(-y_shape[1] // 2), -(-y_shape[2] // 2), y_shape[3]) if pool
                     else y_shape, x.dtype)
    if y.size == 0:
        return y
    n, width, lane_count = m + r - 1, panel_width(x.dtype), lanes_of(x.dtype)
    tiles = -(-y_shape[1] // m), -(-y_shape[2] // m)
    total = y_shape[0] * tiles[0] * tiles[1]
    panels = u.shape[0]
    workers = numba.get_num_threads()
    channels = -(-x.shape[3] // lane_count) * lane_count
    plan = plan or choose_plan(n, total, channels, panels, x.dtype)
    job_tiles = -(-min(plan.tiles, total) // TILE_ROWS) * TILE_ROWS
    all_tiles = -(-total // TILE_ROWS) * TILE_ROWS if plan.split else job_tiles
    tap_step = _apart(all_tiles * channels, x.dtype)
    v = memory.empty((1 if plan.split else workers, n * n * tap_step), x.dtype)
    numbers = (n * n + 2 * n) * lane_count + max(
        width + plan.chunk * n * n * job_tiles * width, n * n * channels)
    scratch = memory.scratch(workers, numbers, x.dtype)
    bias = np.empty(0, x.dtype) if bias is None else bias

    def run(jobs, transforms, multiplies):
        _forward((0,) * m, (0,) * r, x.reshape(-1), x.shape, u.reshape(-1), u.shape[2], bias,
                 y.reshape(-1), y_shape, padding, tiles, jobs, np.zeros(1, np.int64), transforms, multiplies, v,
                 not plan.split, tap_step, channels, plan.chunk, relu, pool, scratch)

    if plan.split:
        run(_jobs(total, TILE_ROWS, panels, panels), True, False)
        run(_jobs(total, job_tiles, panels, plan.chunk), False, True)
    else:
        run(_jobs(total, job_tiles, panels, panels), True, True)
    return y


def weight_gradient(x, gy, m, r, padding):
    """The gradient of w (r, r, in, out), from x and that of y."""
    n, lane_count, dtype = m + r - 1, lanes_of(x.dtype), x.dtype
    width = panel_width(dtype)
    size = x.shape[3] * gy.shape[3]
    gw = memory.empty((r, r, x.shape[3], gy.shape[3]), dtype)
    tiles = -(-gy.shape[1] // m), -(-gy.shape[2] // m)
    total = gy.shape[0] * tiles[0] * tiles[1]
    if total == 0 or size == 0:
        gw[...] = 0
        return gw
    channels = -(-x.shape[3] // lane_count) * lane_count
    outputs = -(-gy.shape[3] // lane_count) * lane_count
    whole_panels = -(-outputs // width) * width
    tile_bytes = n * n * (channels + whole_panels) * dtype.itemsize
    batches = -(-total // max(LEAST_BATCH, BATCH_BYTES // tile_bytes))
    batch = -(-total // batches)
    v_step = _apart(batch * channels, dtype)
    g_step = _apart(batch * whole_panels, dtype)
    # Behind the last row, what a tile of rows reads too much.
    v = memory.empty((n * n * v_step + TILE_ROWS,), dtype)
    g = memory.empty((n * n * g_step,), dtype)
    gu_step = _apart(-(-size // lane_count) * lane_count, dtype)
    gu = memory.empty((n * n * gu_step,), dtype)
    workers = numba.get_num_threads()
    patch = n * n * max(channels, outputs)
    buffers = memory.scratch(workers, (n * n + r) * lane_count + patch, dtype)
    for first in range(0, total, batch):
        last = min(total, first + batch)
        _transform_for_gradient(
            (0,) * m, (0,) * r, x.reshape(-1), x.shape, gy.reshape(-1), gy.shape, padding, tiles,
            first, last, v, v_step, channels, g, g_step, outputs, buffers)
        _multiply_for_gradient(v, v_step, channels, g, g_step, gu, gu_step,
                               (n * n, x.shape[3], gy.shape[3]), last - first, first > 0)
    _transform_weight_gradient((0,) * m, (0,) * r, gu, gu_step, gw.reshape(-1), size, buffers)
    return gw


def choose_plan(n, total, channels, panels, dtype):
    """The blocks that measured best, or nearly, on the layers of VGG.

    Where U is larger than V of all tiles, each number of U shall be read once, by one thread. Else
    a job's V should stay in the L2 cache, and needs some tiles to be worth reading U for.
    """
    tile_bytes = n * n * channels * dtype.itemsize
    split = panels * panel_width(dtype) > total
    tiles = MOST_TILES if split else min(MOST_TILES, max(LEAST_TILES, V_BYTES // tile_bytes))
    tiles = -(-min(tiles, total) // TILE_ROWS) * TILE_ROWS
    chunk = PRODUCT_BYTES // (n * n * tiles * panel_width(dtype) * dtype.itemsize)
    return Plan(tiles, min(panels, max(1, chunk)), split)


def _apart(numbers, dtype):
    """How far apart the taps lie: an odd count of cache lines, so that they do not all compete for
    the same places in the caches."""
    line = memory.CACHE_LINE // dtype.itemsize
    return (-(-numbers // line) | 1) * line


def _jobs(tiles, job_tiles, panels, job_panels):
    return np.array(
        [
            (tile, min(tiles, tile + job_tiles), panel, min(panels, panel + job_panels))
            for panel in range(0, panels, job_panels)
            for tile in range(0, tiles, job_tiles)
        ],
        JOB,
    )
