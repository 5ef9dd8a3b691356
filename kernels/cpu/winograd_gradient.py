"""The gradient of a convolution's weights by Winograd's minimal filtering: `winograd`'s adjoint.

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

import functools

from numba import prange, types

from . import memory
from .algorithms import PART_BYTES
from .caches import l2_bytes
from .callables import INTEGERS, PAIR, SHAPE, TRIPLE, call, compile_callable, number_types, pointer
from .compilation import inline, kernel
from .jobs import compile_task, do_jobs, task_types
from .micro_kernel import (
    ADD,
    TILE_VECTORS,
    copy,
    fetch_tile,
    micro_kernels,
    multiply,
    panel_width,
    part_ahead,
    put_tile,
    row_starts,
)
from .simd import BITS, fence, lanes, lanes_of
from .threads import thread_count
from .winograd import copy_patch, tile_place
from .winograd_transforms import transform

# Parts of the tiles with a gU of their own, and what of one core's cache it and some tiles take.
PARTS = 8
CACHE_BYTES = l2_bytes() * 7 // 8
LEAST_BLOCK, MOST_BLOCK = 16, 128

# What a job of `_multiply_pairs` takes of the transformed gradient.
PANELS_BYTES = 512 << 10

# Tiles whose V and gradient are there at a time; tests make them fewer.
BATCH_BYTES = 8 << 20
LEAST_BATCH = 192
# Rows of the product's tiles, so that a vector of V holds one or more of them.
ROWS = 8 if BITS == 512 else 4
# Pairs of channels that are transformed back in one go.
BACK = 1024
# So large a gradient is written past the caches, which could not hold it.
STREAMED_BYTES = 64 << 20


@inline
def _transform_patch(image, top, left, side, source, shape, channels, to, target, tap_step, n,
                     width, slots, slot, patch, buffer):
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
    for first in range(0, min(width, channels), lanes(patch)):
        call(to, pointer(start, first), row_step, channels, width,
             pointer(target, slot * width + first), n * tap_step, tap_step, slots * width,
             (channels - first + width - 1) // width, pointer(buffer, 0))


@inline
def _place(c, width, slots):
    """Where channel c of a tap's first tile is."""
    return c // width * width * slots + c % width


def _transform_tile(tile, m, n, x, x_shape, gy, gy_shape, padding, tiles, to_v, v, v_step, channels,
                    to_g, g, g_step, outputs, slots, slot, scratch):
    """V and the transformed gy of a tile, to its slot."""
    width = TILE_VECTORS * lanes(scratch)
    buffer, patch = scratch[: n * n * lanes(scratch)], scratch[n * n * lanes(scratch) :]
    image, top, left = tile_place(tile, tiles, m)
    _transform_patch(image, top - padding[0], left - padding[1], n, x, x_shape, channels, to_v, v,
                     v_step, n, lanes(scratch), slots, slot, patch, buffer)
    _transform_patch(image, top, left, m, gy, gy_shape, outputs, to_g, g, g_step, n, width, slots,
                     slot, patch, buffer)


@functools.cache
def _tile_transform(dtype):
    """The address of `_transform_tile`."""
    numbers, scratch = number_types(dtype)
    return compile_callable(_transform_tile, (
        *(types.intp,) * 3, numbers, SHAPE, numbers, SHAPE, PAIR, PAIR, types.intp, numbers,
        types.intp, types.intp, types.intp, numbers, *(types.intp,) * 4, scratch))


def _transform_slot(given, slot, worker):
    """V and the transformed gy of one of the tiles from `first` on."""
    (transform_tile, m, n, x, x_shape, gy, gy_shape, padding, tiles, first, slots, to_v, v, v_step,
     channels, to_g, g, g_step, outputs, scratch) = given[0]
    call(transform_tile, first + slot, m, n, x, x_shape, gy, gy_shape, padding, tiles, to_v, v,
         v_step, channels, to_g, g, g_step, outputs, slots, slot, scratch[worker])


@functools.cache
def _slot_task(dtype):
    numbers, scratch = task_types(dtype)
    return compile_task(_transform_slot, (
        *(types.intp,) * 3, numbers, SHAPE, numbers, SHAPE, PAIR, PAIR, *(types.intp,) * 3, numbers,
        *(types.intp,) * 3, numbers, types.intp, types.intp, scratch))


@inline
def _multiply_tap(kernels, v, v_start, g, g_start, slots, gu, gu_start, starts, outputs, again,
                  tile):
    """V^T gy' of one tap to gU, or `again` added to it, a row for each of `starts`."""
    width, tile_rows = TILE_VECTORS * lanes(tile), min(ROWS, lanes(tile))
    tile_starts = row_starts(tile_rows, width)
    for j in range(0, outputs, width):
        columns = min(width, outputs - j)
        panel = g_start + j * slots
        for c in range(0, starts.size, tile_rows):
            rows = min(tile_rows, starts.size - c)
            at = v_start + _place(c, lanes(tile), slots)
            # The next channels of V, and what follows of the panel.
            v_ahead = at + lanes(tile) * slots
            g_ahead = part_ahead(g, panel + width * slots, slots, c // tile_rows)
            if rows == tile_rows and columns % lanes(tile) == 0:
                fetch_tile(gu, starts, c, rows, gu_start + j, columns)
                multiply(kernels, v, at, lanes(tile), v_ahead, g, panel, g_ahead, columns, gu,
                         starts, c, gu_start + j, slots, again)
            else:
                multiply(kernels, v, at, lanes(tile), v_ahead, g, panel, g_ahead, columns, tile,
                         tile_starts, 0, 0, slots, False)
                put_tile(tile, rows, columns, gu, starts, c, gu_start + j, ADD if again else 0, gu)


def _multiply_part(given, part, worker):
    """gU of a part of the tiles, block by block of them, all of it in a core's cache."""
    (transform_tile, total, block, m, n, x, x_shape, gy, gy_shape, padding, tiles, to_v, v_step,
     channels, to_g, g_step, outputs, gu, gu_step, kernels, all_scratch) = given[0]
    sums, scratch, parts = gu[part], all_scratch[worker], gu.shape[0]
    begin, end = total * part // parts, total * (part + 1) // parts
    width, rows = TILE_VECTORS * lanes(scratch), min(ROWS, lanes(scratch))
    room = n * n * (lanes(scratch) + max(channels, outputs))  # for `_transform_tile`
    tile, v = scratch[room : room + rows * width], scratch[room + rows * width :]
    g = v[n * n * v_step :]
    starts = row_starts(x_shape[3], gy_shape[3])
    for first in range(begin, end, block):
        slots = min(block, end - first)
        for slot in range(slots):
            call(transform_tile, first + slot, m, n, x, x_shape, gy, gy_shape, padding, tiles, to_v,
                 pointer(v, 0), v_step, channels, to_g, pointer(g, 0), g_step, outputs, slots, slot,
                 scratch)
        for tap in range(n * n):
            _multiply_tap(kernels, v, tap * v_step, g, tap * g_step, slots, sums, tap * gu_step,
                          starts, gy_shape[3], first > begin, tile)


@functools.cache
def _part_task(dtype):
    numbers, scratch = task_types(dtype)
    return compile_task(_multiply_part, (
        *(types.intp,) * 5, numbers, SHAPE, numbers, SHAPE, PAIR, PAIR, *(types.intp,) * 6, scratch,
        types.intp, INTEGERS, scratch))


@kernel
def _add_parts(gu):
    """The sum of all parts, to the first."""
    parts, size = gu.shape
    blocks = (size + LEAST_BATCH - 1) // LEAST_BATCH
    for block in prange(blocks):
        for part in range(1, parts):
            for i in range(block * LEAST_BATCH, min(size, (block + 1) * LEAST_BATCH)):
                gu[0, i] += gu[part, i]


def _add_batch(given, tap, worker):
    """gU (taps, in, out) = or, `again`, += V^T gy' of a batch of tiles, for one tap."""
    v, v_step, g, g_step, gu, gu_step, gu_shape, slots, again, kernels, scratch = given[0]
    starts = row_starts(gu_shape[1], gu_shape[2])
    _multiply_tap(kernels, v, tap * v_step, g, tap * g_step, slots, gu, tap * gu_step, starts,
                  gu_shape[2], again, scratch[worker])


@functools.cache
def _batch_task(dtype):
    numbers, scratch = task_types(dtype)
    return compile_task(_add_batch, (
        numbers, types.intp, numbers, types.intp, numbers, types.intp, TRIPLE, types.intp,
        types.intp, INTEGERS, scratch))


def _transform_back(given, block, worker):
    """gW = G^T gU G, for some of all `size` pairs of channels, as they lie in memory."""
    r, n, gu, gu_step, to_w, gw, size, scratch = given[0]
    buffer, lane = scratch[worker, : n * n * lanes(gu)], scratch[worker, n * n * lanes(gu) :]
    for at in range(block * BACK, min(size, (block + 1) * BACK), lanes(gu)):
        count = size - at
        if count >= lanes(gu):
            call(to_w, pointer(gu, at), n * gu_step, gu_step, 0, pointer(gw, at), r * size, size, 0,
                 1, pointer(buffer, 0))
            continue
        call(to_w, pointer(gu, at), n * gu_step, gu_step, 0, pointer(lane, 0), r * lanes(gu),
             lanes(gu), 0, 1, pointer(buffer, 0))
        for tap in range(r * r):
            copy(lane, tap * lanes(gu), gw, tap * size + at, count)


@functools.cache
def _back_task(dtype):
    numbers, scratch = task_types(dtype)
    return compile_task(_transform_back, (
        types.intp, types.intp, numbers, types.intp, types.intp, numbers, types.intp, scratch))


def _multiply_pairs(given, job, worker):
    """gW from all tiles at once, for a vector of inputs, c and on, and some outputs, j and on."""
    (r, n, v, v_step, g, g_step, slots, to_w, gw, gw_shape, job_columns, kernels,
     all_scratch) = given[0]
    scratch = all_scratch[worker]
    row_blocks = (gw_shape[0] + lanes(v) - 1) // lanes(v)
    c, j = job % row_blocks * lanes(v), job // row_blocks * job_columns
    rows, columns = min(lanes(v), gw_shape[0] - c), min(job_columns, gw_shape[1] - j)
    width, tile_rows = TILE_VECTORS * lanes(scratch), min(ROWS, lanes(scratch))
    step = lanes(scratch) * job_columns + lanes(scratch)
    size = gw_shape[0] * gw_shape[1]
    buffer = scratch[: n * n * lanes(scratch)]
    lane = scratch[n * n * lanes(scratch) :][: r * r * lanes(scratch)]
    products = scratch[(n * n + r * r) * lanes(scratch) :]
    starts = row_starts(lanes(scratch), job_columns)
    for tap in range(n * n):
        for k in range(0, columns, width):
            panel = tap * g_step + (j + k) * slots
            for row in range(0, rows, tile_rows):
                at = tap * v_step + _place(c + row, lanes(v), slots)
                # V of the next tap, and the next panel.
                ahead = part_ahead(g, panel + width * slots, slots, row // tile_rows)
                multiply(kernels, v, at, lanes(v), at + v_step, g, panel, ahead,
                         min(width, columns - k), products, starts, row, tap * step + k, slots,
                         False)
    for i in range(rows):
        for k in range(0, columns, lanes(v)):
            source = pointer(products, i * job_columns + k)
            at = (c + i) * gw_shape[1] + j + k
            if columns - k >= lanes(v):
                call(to_w, source, n * step, step, 0, pointer(gw, at), r * size, size, 0, 1,
                     pointer(buffer, 0))
                continue
            call(to_w, source, n * step, step, 0, pointer(lane, 0), r * lanes(v), lanes(v), 0, 1,
                 pointer(buffer, 0))
            for tap in range(r * r):
                copy(lane, tap * lanes(v), gw, tap * size + at, columns - k)
    fence(v)


@functools.cache
def _pairs_task(dtype):
    numbers, scratch = task_types(dtype)
    return compile_task(_multiply_pairs, (
        types.intp, types.intp, numbers, types.intp, numbers, *(types.intp,) * 3, numbers, PAIR,
        types.intp, INTEGERS, scratch))


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
    rows = min(ROWS, lane_count)
    kernels = micro_kernels(dtype, rows, woven=False)
    workers = thread_count()
    to_w = transform("weights_adjoint", m, r, dtype)
    size = x.shape[3] * gy.shape[3]
    gu_step = memory.apart(-(-size // lane_count) * lane_count, dtype)
    shared = x, x.shape, gy, gy.shape, tuple(padding), tiles
    to_v, to_g = transform("input", m, r, dtype), transform("output_adjoint", m, r, dtype)

    def transform_back(gu):
        do_jobs(_back_task(dtype), -(-size // BACK), workers, r, n, gu, gu_step, to_w, gw, size,
                memory.scratch(workers, (n * n + r * r) * lane_count, dtype))
        return gw

    part_bytes = n * n * gu_step * dtype.itemsize
    if part_bytes <= PART_BYTES and total >= PARTS * LEAST_BLOCK and outputs == gy.shape[3]:
        tile_bytes = n * n * (channels + whole_panels) * dtype.itemsize
        block = min(MOST_BLOCK, max(LEAST_BLOCK, (CACHE_BYTES - part_bytes) // tile_bytes))
        v_step = memory.apart(block * channels, dtype)
        g_step = memory.apart(block * whole_panels, dtype)
        gu = memory.empty((PARTS, n * n * gu_step), dtype)
        room = (n * n * (lane_count + max(channels, outputs)) + rows * width
                + n * n * (v_step + g_step))
        do_jobs(_part_task(dtype), PARTS, workers, _tile_transform(dtype), total, block, m, n,
                *shared, to_v, v_step, channels, to_g, g_step, outputs, gu, gu_step, kernels,
                memory.scratch(workers, room, dtype))
        _add_parts(gu)
        return transform_back(gu[0])
    batch = max(LEAST_BATCH, BATCH_BYTES // (n * n * (channels + whole_panels) * dtype.itemsize))
    at_once = total <= batch
    batch = -(-total // -(-total // batch))
    v_step = memory.apart(batch * channels, dtype)
    g_step = memory.apart(batch * whole_panels, dtype)
    v = memory.empty((n * n * v_step,), dtype)
    g = memory.empty((n * n * g_step,), dtype)

    def transform_tiles(first, last):
        room = n * n * (lane_count + max(channels, outputs))
        do_jobs(_slot_task(dtype), last - first, workers, _tile_transform(dtype), m, n, *shared,
                first, last - first, to_v, v, v_step, channels, to_g, g, g_step, outputs,
                memory.scratch(workers, room, dtype))

    if at_once:
        transform_tiles(0, total)
        # Wide enough to write long runs; what meets all of V shall stay in the cache.
        panels = max(1, PANELS_BYTES // (n * n * total * width * dtype.itemsize))
        job_columns = min(whole_panels, panels * width)
        room = (n * n + r * r) * lane_count + n * n * lane_count * (job_columns + 1)
        if gw.nbytes >= STREAMED_BYTES and gw.shape[3] % lane_count == 0:
            to_w = transform("weights_adjoint", m, r, dtype, streaming=True)
        jobs = -(-gw.shape[3] // job_columns) * -(-gw.shape[2] // lane_count)
        do_jobs(_pairs_task(dtype), jobs, workers, r, n, v, v_step, g, g_step, total, to_w, gw,
                gw.shape[2:], job_columns, kernels, memory.scratch(workers, room, dtype))
        return gw
    gu = memory.empty((n * n * gu_step,), dtype)
    for first in range(0, total, batch):
        last = min(total, first + batch)
        transform_tiles(first, last)
        do_jobs(_batch_task(dtype), n * n, workers, v, v_step, g, g_step, gu, gu_step,
                (n * n, x.shape[3], gy.shape[3]), last - first, first > 0, kernels,
                memory.scratch(workers, rows * width, dtype))
    return transform_back(gu)
