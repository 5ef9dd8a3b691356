"""The gradient of a convolution's weights by Winograd's minimal filtering, the adjoint of `winograd`.

With V = B^T d B of the input's tiles, as there, and the transformed gradient of the output::

    gU[c, k] = sum over tiles of  V[c] * (A gY A^T)[k]        gW = G^T gU G

For each of the n * n taps the sum over the tiles is a matrix product, V^T (in, tiles) times the
transformed gradient (tiles, out). Each number of gU is added up by one thread, tiles in order.

Three ways, by the sizes. Where there are few channels, as in the first layers, gU fits a core's
cache: a thread takes a part of the tiles, transforms some and adds their products to a gU of its
own; the parts, as many for any number of threads, are added up in the end. Where there are more, gU
is summed up batch by batch of tiles, each thread doing some taps. Where there are few tiles, gU
would be larger than all else: then a thread computes all taps for a few pairs of channels and
transforms them back at once.
"""

import numpy as np
from numba import prange

from . import memory
from .algorithms import PART_BYTES
from .callables import call, pointer
from .compilation import inline, kernel
from .micro_kernel import (
    TILE_ROWS,
    TILE_VECTORS,
    best_rows,
    copy,
    micro_kernels,
    multiply,
    panel_width,
    put_tile,
)
from .simd import fence, lanes, lanes_of
from .threads import thread_count
from .winograd import apart, copy_patch, tile_place
from .winograd_transforms import transform

# Parts of the tiles with a gU of their own, and what of one core's cache it and some tiles take.
PARTS = 8
CACHE_BYTES = 896 << 10
LEAST_BLOCK, MOST_BLOCK = 16, 128

# Tiles whose V and gradient are there at a time; tests make them fewer.
BATCH_BYTES = 8 << 20
LEAST_BATCH = 192
# So large a gradient is written past the caches, which could not hold it.
STREAMED_BYTES = 64 << 20


@inline
def _transform_patch(image, top, left, side, source, shape, channels, to, target, slot_step,
                     tap_step, n, width, slots, slot, patch, buffer):
    """The side x side pixels at (top, left), transformed, to a slot among the others of each tap.

    The channels lie in panels of `width`, all slots of a panel together.
    """
    if (top >= 0 and left >= 0 and top + side <= shape[1] and left + side <= shape[2]
            and shape[3] == channels):
        start = pointer(source, ((image * shape[1] + top) * shape[2] + left) * channels)
        row_step = shape[2] * channels
    else:
        copy_patch(source, shape, image, top, left, side, patch, channels)
        start, row_step = pointer(patch, 0), side * channels
    for c in range(0, channels, width):
        call(to, pointer(start, c), row_step, channels, lanes(patch),
             pointer(target, c * slots + slot * slot_step), n * tap_step, tap_step, lanes(patch),
             min(width, channels - c) // lanes(patch), pointer(buffer, 0))


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
            _transform_patch(image, top - padding[0], left - padding[1], n, x, x_shape, channels,
                             to_v, v, channels, v_step, n, channels, slots, slot, patch, buffer)
            _transform_patch(image, top, left, m, gy, gy_shape, outputs,
                             to_g, g, width, g_step, n, width, slots, slot, patch, buffer)


@kernel
def _multiply_parts(m, n, x, x_shape, gy, gy_shape, padding, tiles, total, block, to_v, v_step,
                    channels, to_g, g_step, outputs, gu, gu_step, kernels, tile_rows, scratch):
    """gU of each part of the tiles, block by block of them, all of it in a core's cache."""
    width = TILE_VECTORS * lanes(gu)
    parts, workers = gu.shape[0], scratch.shape[0]
    whole_panels = (outputs + width - 1) // width * width
    room = n * n * lanes(gu) + n * n * max(channels, outputs)
    for worker in prange(workers):
        buffer = scratch[worker, : n * n * lanes(gu)]
        patch = scratch[worker, n * n * lanes(gu) : room]
        zeros = scratch[worker, room : room + width]
        products = scratch[worker, room + width : room + width + tile_rows * width]
        v = scratch[worker, room + width + tile_rows * width :]
        g = scratch[worker, room + width + tile_rows * width + n * n * v_step + width :]
        zeros[:] = 0.0
        product_starts = np.arange(tile_rows) * width
        starts = np.arange(x_shape[3]) * gy_shape[3]
        below_all = gu.dtype.type(-np.inf)
        for part in range(parts * worker // workers, parts * (worker + 1) // workers):
            begin, end = total * part // parts, total * (part + 1) // parts
            sums = gu[part]
            for first in range(begin, end, block):
                slots = min(block, end - first)
                for slot in range(slots):
                    image, top, left = tile_place(first + slot, tiles, m)
                    _transform_patch(
                        image, top - padding[0], left - padding[1], n, x, x_shape, channels, to_v,
                        v, channels, v_step, n, channels, slots, slot, patch, buffer)
                    _transform_patch(
                        image, top, left, m, gy, gy_shape, outputs, to_g, g, width, g_step, n,
                        width, slots, slot, patch, buffer)
                again = first > begin
                for tap in range(n * n):
                    for j in range(0, gy_shape[3], width):
                        columns = min(width, gy_shape[3] - j)
                        panel = tap * g_step + j * slots
                        for c in range(0, x_shape[3], tile_rows):
                            count = min(tile_rows, x_shape[3] - c)
                            at = tap * v_step + c
                            if count == tile_rows:
                                multiply(kernels, v, at, channels, g, panel, panel, columns, sums,
                                         starts, c, tap * gu_step + j, again, slots, zeros, 0,
                                         below_all)
                                continue
                            multiply(kernels, v, at, channels, g, panel, panel, columns, products,
                                     product_starts, 0, 0, False, slots, zeros, 0, below_all)
                            for i in range(count):
                                to = tap * gu_step + starts[c + i] + j
                                for k in range(columns):
                                    before = sums[to + k] if again else gu.dtype.type(0)
                                    sums[to + k] = before + products[i * width + k]


@kernel
def _add_parts(gu):
    """The sum of all parts, to the first."""
    parts, size = gu.shape
    blocks = (size + LEAST_BATCH - 1) // LEAST_BATCH
    for block in prange(blocks):
        for part in range(1, parts):
            for i in range(block * LEAST_BATCH, min(size, (block + 1) * LEAST_BATCH)):
                gu[0, i] += gu[part, i]


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
    row_blocks = (gw_shape[0] + TILE_ROWS - 1) // TILE_ROWS
    jobs = (gw_shape[1] + width - 1) // width * row_blocks
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
            j, c = job // row_blocks * width, job % row_blocks * TILE_ROWS
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
        fence(v)


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
    workers = thread_count()
    to_w = transform("weights_adjoint", m, r, dtype)
    size = x.shape[3] * gy.shape[3]
    gu_step = apart(-(-size // lane_count) * lane_count, dtype)
    flat = x.reshape(-1), x.shape, gy.reshape(-1), gy.shape, tuple(padding), tiles
    to_v, to_g = transform("input", m, r, dtype), transform("output_adjoint", m, r, dtype)

    def transform_back(gu):
        _transform_back(r, n, gu, gu_step, to_w, gw.reshape(-1), size,
                        memory.scratch(workers, (n * n + r * r) * lane_count, dtype))
        return gw

    part_bytes = n * n * gu_step * dtype.itemsize
    if part_bytes <= PART_BYTES and total >= PARTS * LEAST_BLOCK and outputs == gy.shape[3]:
        tile_bytes = n * n * (channels + whole_panels) * dtype.itemsize
        block = min(MOST_BLOCK, max(LEAST_BLOCK, (CACHE_BYTES - part_bytes) // tile_bytes))
        v_step, g_step = apart(block * channels, dtype), apart(block * whole_panels, dtype)
        rows = best_rows(x.shape[3])
        gu = memory.empty((PARTS, n * n * gu_step), dtype)
        room = (n * n * (lane_count + max(channels, outputs)) + width + rows * width
                + n * n * (v_step + g_step) + width)
        _multiply_parts(m, n, *flat, total, block, to_v, v_step, channels, to_g, g_step, outputs,
                        gu, gu_step, micro_kernels(dtype, rows, woven=False), rows,
                        memory.scratch(workers, room, dtype))
        _add_parts(gu)
        return transform_back(gu[0])
    batch = max(LEAST_BATCH, BATCH_BYTES // (n * n * (channels + whole_panels) * dtype.itemsize))
    at_once = total <= batch
    batch = -(-total // -(-total // batch))
    v_step, g_step = apart(batch * channels, dtype), apart(batch * whole_panels, dtype)
    # Behind the last row, what a tile of rows reads too much.
    v = memory.empty((n * n * v_step + TILE_ROWS,), dtype)
    g = memory.empty((n * n * g_step,), dtype)
    kernels = micro_kernels(dtype, TILE_ROWS, woven=False)

    def transform_tiles(first, last):
        room = n * n * (lane_count + max(channels, outputs))
        _transform_tiles(m, n, *flat, first, last, to_v, v, v_step, channels, to_g, g, g_step,
                         outputs, memory.scratch(workers, room, dtype))

    if at_once:
        transform_tiles(0, total)
        room = (n * n + r * r) * lane_count + width + n * n * (TILE_ROWS * width + lane_count)
        if gw.nbytes >= STREAMED_BYTES and gw.shape[3] % lane_count == 0:
            to_w = transform("weights_adjoint", m, r, dtype, streaming=True)
        _multiply_pairs(r, n, v, v_step, channels, g, g_step, total, to_w, gw.reshape(-1),
                        gw.shape[2:], kernels, memory.scratch(workers, room, dtype))
        return gw
    gu = memory.empty((n * n * gu_step,), dtype)
    for first in range(0, total, batch):
        last = min(total, first + batch)
        transform_tiles(first, last)
        _multiply_tiles(v, v_step, channels, g, g_step, gu, gu_step,
                        (n * n, x.shape[3], gy.shape[3]), last - first, first > 0, kernels)
    return transform_back(gu)
