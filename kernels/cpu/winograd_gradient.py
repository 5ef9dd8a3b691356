"""The gradient of a convolution's weights by Winograd's minimal filtering, the adjoint of `winograd`.

With V = B^T d B of the input's tiles, as there, and the transformed gradient of the output::

    gU[c, k] = sum over tiles of  V[c] * (A gY A^T)[k]        gW = G^T gU G

For each of the n * n taps the sum over the tiles is a matrix product, V^T (in, tiles) times the
transformed gradient (tiles, out). Each number of gU is added up by one thread, tiles in order.

Where there are many tiles, as in the first layers, gU is small: it is summed up batch by batch of
tiles, each thread doing some taps. Where there are few, gU would be larger than all else: then a
thread computes all taps for a few pairs of channels and transforms them back at once.
"""

import numpy as np
from numba import prange

from . import memory
from .callables import call, pointer
from .compilation import kernel
from .micro_kernel import (
    TILE_ROWS,
    TILE_VECTORS,
    copy,
    micro_kernels,
    multiply,
    panel_width,
    put_tile,
)
from .simd import lanes, lanes_of
from .threads import thread_count
from .winograd import apart, copy_patch, tile_place
from .winograd_transforms import transform

# Tiles whose V and gradient are there at a time; tests make them fewer.
BATCH_BYTES = 8 << 20
LEAST_BATCH = 192


@kernel
def _transform_tiles(m, n, x, x_shape, gy, gy_shape, padding, tiles, first, last, to_v, v, v_step,
                     channels, to_g, g, g_step, outputs, buffers):
    """V, tile by tile, and the transformed gy in panels, of tiles first : last."""
    width = TILE_VECTORS * lanes(v)
    workers = buffers.shape[0]
    slots = last - first
    for worker in prange(workers):
        buffer = buffers[worker, : n * n * lanes(v)]
        patch = buffers[worker, n * n * lanes(v) :]
        for slot in range(slots * worker // workers, slots * (worker + 1) // workers):
            image, top, left = tile_place(first + slot, tiles, m)
            copy_patch(x, x_shape, image, top - padding[0], left - padding[1], n, patch, channels)
            call(to_v, pointer(patch, 0), n * channels, channels, lanes(v),
                 pointer(v, slot * channels), n * v_step, v_step, lanes(v), channels // lanes(v),
                 pointer(buffer, 0))
            copy_patch(gy, gy_shape, image, top, left, m, patch, outputs)
            for c in range(0, outputs, width):
                call(to_g, pointer(patch, c), m * outputs, outputs, lanes(v),
                     pointer(g, c * slots + slot * width), n * g_step, g_step, lanes(v),
                     min(width, outputs - c) // lanes(v), pointer(buffer, 0))


@kernel
def _multiply_tiles(v, v_step, channels, g, g_step, gu, gu_step, gu_shape, slots, again, kernels):
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
                    multiply(kernels, v, at, channels, g, panel, panel, columns, gu, starts, c, j,
                             again, slots, zeros, 0, below_all)
                else:
                    multiply(kernels, v, at, channels, g, panel, panel, columns, tile, tile_starts,
                             0, 0, False, slots, zeros, 0, below_all)
                    put_tile(tile, rows, columns, gu, starts, c, j, again, zeros[:0], False, False)


@kernel
def _transform_back(r, n, gu, gu_step, to_w, gw, size, buffers):
    """gW = G^T gU G, for all `size` pairs of channels."""
    workers = buffers.shape[0]
    vectors = size // lanes(gu)
    for worker in prange(workers):
        first, last = vectors * worker // workers, vectors * (worker + 1) // workers
        # Some at a time: the taps lie far apart.
        for vector in range(first, last):
            at = vector * lanes(gu)
            call(to_w, pointer(gu, at), n * gu_step, gu_step, 0, pointer(gw, at), r * size, size, 0,
                 1, pointer(buffers[worker], 0))
    rest = size - vectors * lanes(gu)
    if rest > 0:
        buffer = buffers[0, n * n * lanes(gu) :]
        at = vectors * lanes(gu)
        call(to_w, pointer(gu, at), n * gu_step, gu_step, 0, pointer(buffer, 0), r * lanes(gu),
             lanes(gu), 0, 1, pointer(buffers, 0))
        for tap in range(r * r):
            copy(buffer, tap * lanes(gu), gw, tap * size + at, rest)


@kernel
def _multiply_pairs(r, n, v, v_step, channels, g, g_step, slots, to_w, gw, gw_shape, kernels,
                    scratch):
    """gW for all pairs of channels, some rows and a panel at a time, from all tiles at once."""
    width = TILE_VECTORS * lanes(v)
    step = TILE_ROWS * width + lanes(v)
    size = gw_shape[0] * gw_shape[1]
    panels = (gw_shape[1] + width - 1) // width
    jobs = (gw_shape[0] + TILE_ROWS - 1) // TILE_ROWS * panels
    workers = scratch.shape[0]
    for worker in prange(workers):
        buffer = scratch[worker, : n * n * lanes(v)]
        lane = scratch[worker, n * n * lanes(v) :][: r * r * lanes(v)]
        zeros = scratch[worker, (n * n + r * r) * lanes(v) :][:width]
        products = scratch[worker, (n * n + r * r) * lanes(v) + width :]
        zeros[:] = 0.0
        starts = np.arange(TILE_ROWS) * width
        below_all = v.dtype.type(-np.inf)
        for job in range(jobs * worker // workers, jobs * (worker + 1) // workers):
            # Panels side by side, since gw's rows lie up to pages apart.
            j, c = job % panels * width, job // panels * TILE_ROWS
            columns, rows = min(width, gw_shape[1] - j), min(TILE_ROWS, gw_shape[0] - c)
            for tap in range(n * n):
                panel = tap * g_step + j * slots
                multiply(kernels, v, tap * v_step + c, channels, g, panel, panel, columns, products,
                         starts, 0, tap * step, False, slots, zeros, 0, below_all)
            for i in range(rows):
                for k in range(0, columns, lanes(v)):
                    source = pointer(products, i * width + k)
                    at = (c + i) * gw_shape[1] + j + k
                    if columns - k >= lanes(v):
                        call(to_w, source, n * step, step, 0, pointer(gw, at), r * size, size, 0, 1,
                             pointer(buffer, 0))
                        continue
                    call(to_w, source, n * step, step, 0, pointer(lane, 0), r * lanes(v), lanes(v),
                         0, 1, pointer(buffer, 0))
                    for tap in range(r * r):
                        copy(lane, tap * lanes(v), gw, tap * size + at, columns - k)


# ---- launcher


def weight_gradient(x, gy, m, r, padding):
    """The gradient of w (r, r, in, out), from x and that of y."""
    n, lane_count, dtype = m + r - 1, lanes_of(x.dtype), x.dtype
    width = panel_width(dtype)
    gw = memory.empty((r, r, x.shape[3], gy.shape[3]), dtype)
    tiles = -(-gy.shape[1] // m), -(-gy.shape[2] // m)
    total = gy.shape[0] * tiles[0] * tiles[1]
    if total == 0 or gw.size == 0:
        gw[...] = 0
        return gw
    channels = -(-x.shape[3] // lane_count) * lane_count
    outputs = -(-gy.shape[3] // lane_count) * lane_count
    whole_panels = -(-outputs // width) * width
    batch = max(LEAST_BATCH, BATCH_BYTES // (n * n * (channels + whole_panels) * dtype.itemsize))
    at_once = total <= batch
    batch = -(-total // -(-total // batch))
    v_step, g_step = apart(batch * channels, dtype), apart(batch * whole_panels, dtype)
    # Behind the last row, what a tile of rows reads too much.
    v = memory.empty((n * n * v_step + TILE_ROWS,), dtype)
    g = memory.empty((n * n * g_step,), dtype)
    workers = thread_count()
    to_w = transform("weights_adjoint", m, r, dtype)
    kernels = micro_kernels(dtype, TILE_ROWS, woven=False)

    def transform_tiles(first, last):
        room = n * n * (lane_count + max(channels, outputs))
        _transform_tiles(
            m, n, x.reshape(-1), x.shape, gy.reshape(-1), gy.shape, padding, tiles, first, last,
            transform("input", m, r, dtype), v, v_step, channels,
            transform("output_adjoint", m, r, dtype), g, g_step, outputs,
            memory.scratch(workers, room, dtype))

    if at_once:
        transform_tiles(0, total)
        room = (n * n + r * r) * lane_count + width + n * n * (TILE_ROWS * width + lane_count)
        _multiply_pairs(r, n, v, v_step, channels, g, g_step, total, to_w, gw.reshape(-1),
                        gw.shape[2:], kernels, memory.scratch(workers, room, dtype))
        return gw
    size = x.shape[3] * gy.shape[3]
    gu_step = apart(-(-size // lane_count) * lane_count, dtype)
    gu = memory.empty((n * n * gu_step,), dtype)
    for first in range(0, total, batch):
        last = min(total, first + batch)
        transform_tiles(first, last)
        _multiply_tiles(v, v_step, channels, g, g_step, gu, gu_step,
                        (n * n, x.shape[3], gy.shape[3]), last - first, first > 0, kernels)
    _transform_back(r, n, gu, gu_step, to_w, gw.reshape(-1), size,
                    memory.scratch(workers, (n * n + r * r) * lane_count, dtype))
    return gw
