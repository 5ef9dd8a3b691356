"""Convolution as a blocked matrix product whose left rows are gathered from the image (im2col).

Convolutions, their gradients and the transposed ones are one of two products: this one or
`gathered_gradient`. In both, a *tap* t reads the source x at a fixed offset from each pixel q of a
grid, zero outside the image::

    product    y[origin + q * out_step] = sum over t, c:  x[q * in_step + tap(t), c]  w[t, c]
    gradient   gw[t, c]                 = sum over q:     x[q * in_step + tap(t), c]  gy[q]

A forward convolution has one grid, the output, and in_step = stride. An input gradient (the same as
a transposed convolution) with stride s has s * s grids, the *phases*: output pixels of one phase
see the same taps, and read the source in steps of 1. So each output is written once, by one
thread, with its terms in a fixed order: no atomics, the same bits from run to run and for any
number of threads.

The rows x[...] for a block of pixels and a block of the depth (t, c) are copied (`im2col`) into
a buffer that fits the L2 cache, whatever the size of the image; w is packed panel by panel, unless
`pack_weights` did so once for many calls.
"""

import functools

import numpy as np
from numba import from_dtype, prange, typeof, types

from . import memory
from .callables import (
    INTEGERS,
    PAIR,
    SHAPE,
    TABLE,
    TRIPLE,
    call,
    compile_callable,
    number_types,
    pointer,
)
from .compilation import kernel
from .gathered_blocks import (
    JOBS,
    Blocks,
    cut,
    scratch_for,
    split_scratch,
    whole_panels,
    workers_for,
)
from .im2col import gather_rows
from .jobs import compile_task, do_jobs, task_types
from .micro_kernel import (
    ADD,
    BIAS,
    RELU,
    TILE_VECTORS,
    best_rows,
    fetch_tile,
    micro_kernels,
    multiply,
    multiply_and_finish,
    pack_row,
    panel_width,
    part_ahead,
    put_tile,
    row_starts,
)
from .simd import BITS, lanes, lanes_of, prefetch
from .transposition import transposition

# Sizes of the blocks; tests make them smaller. A panel of weights as deep as a block stays in the
# L1 cache while it meets the gathered rows, which stay in the L2 cache (1 MB where there is
# AVX-512, else often half of that). The weights are packed once for the pixels of a job, whose
# results stay in the L3 cache until all blocks of the depth are added to them.
PANEL_BYTES = (64 if BITS == 512 else 24) << 10
ROWS_BYTES = (384 if BITS == 512 else 192) << 10
JOB_PIXELS = 2048
BLOCK_COLUMNS = 512
PREFETCH_ROWS = 8

# What one thread does at a time: some pixels of one image and grid, some of a group's outputs.
PRODUCT_JOB = np.dtype(
    [(name, np.int64) for name in (
        "image", "group", "first_tap", "last_tap", "origin_y", "origin_x", "grid_w",
        "first_pixel", "last_pixel", "first_output", "last_output",
    )]
)


def _pack_weights(w, w_shape, transpose, group_start, channels, output, outputs, taps,
                  k_start, k_stop, panels):
    """Pack the weights' rows k = (tap, c) for `outputs` columns from `output` on into panels.

    The weights are (taps, in, out); `group_start` is where the group begins among out. If
    `transpose` (an address) is not 0, in and out change roles: c runs over out, the columns are in.
    """
    width = TILE_VECTORS * lanes(panels)
    depth = k_stop - k_start
    tap = k_start // channels
    c = k_start - tap * channels
    k = 0
    while k < depth:
        count = min(channels - c, depth - k)
        start = taps[tap, 2] * w_shape[1] * w_shape[2] + group_start
        if transpose:
            for j in range(0, outputs, width):
                call(transpose, w, start + (output + j) * w_shape[2] + c, w_shape[2],
                     min(width, outputs - j), count, panels, j * depth + k * width, width)
        else:
            for i in range(count):
                row = start + (c + i) * w_shape[2] + output
                # Rows lie up to pages apart, where the processor foresees nothing.
                for j in range(0, outputs, lanes(panels)):
                    prefetch(w, row + PREFETCH_ROWS * w_shape[2] + j)
                pack_row(w, row, outputs, panels, depth, k + i)
        k += count
        tap += 1
        c = 0


def _run_product(given, index, worker):
    """One job. `pack` is the address of `_pack_weights`, or 0 for weights that are packed."""
    (jobs, x, x_shape, w, w_shape, pack, bias, has_bias, y, y_shape, taps, in_step, out_step,
     groups, transpose, relu, blocks, kernels, all_scratch) = given[0]
    job, scratch = jobs[index], all_scratch[worker]
    width = TILE_VECTORS * lanes(scratch)
    tile, panels, rows = split_scratch(scratch, blocks)
    group_out = w_shape[2] // groups
    channels, group_outputs = (group_out, w_shape[1]) if transpose else (w_shape[1], group_out)
    taps = taps[job.first_tap : job.last_tap]
    depth = taps.shape[0] * channels
    pixels = job.last_pixel - job.first_pixel

    starts = np.empty(pixels, np.int64)
    q_y = job.first_pixel // job.grid_w
    q_x = job.first_pixel - q_y * job.grid_w
    for i in range(pixels):
        out_y = job.origin_y + q_y * out_step[0]
        out_x = job.origin_x + q_x * out_step[1]
        starts[i] = ((job.image * y_shape[1] + out_y) * y_shape[2] + out_x) * y_shape[3]
        q_x += 1
        if q_x == job.grid_w:
            q_x = 0
            q_y += 1

    tile_starts = row_starts(blocks.tile_rows, width)
    if depth == 0:  # no tap reaches this phase: the sum is empty
        tile[:] = 0.0
    b = pointer(panels, 0) if pack else w
    # Blocks end on whole vectors, so that those of x stay whole.
    depth_blocks = max(1, (depth + blocks.depth - 1) // blocks.depth)
    block_depth = (depth + depth_blocks * lanes(x) - 1) // (depth_blocks * lanes(x)) * lanes(x)
    for first in range(job.first_output, job.last_output, blocks.columns):
        count = min(blocks.columns, job.last_output - first)
        for block in range(depth_blocks):
            k_start = min(depth, block * block_depth)
            k_stop = min(depth, k_start + block_depth)
            last = block == depth_blocks - 1
            mode = ADD if block > 0 else 0
            if last:
                mode += (BIAS if has_bias else 0) + (RELU if relu else 0)
            row_size = (k_stop - k_start + lanes(x) - 1) // lanes(x) * lanes(x)
            # Where panels of this block begin, and how far apart they are.
            panel_start, panel_step = 0, (k_stop - k_start) * width
            if not pack:
                group_panels = (group_outputs + width - 1) // width
                panel_step = depth * width
                panel_start = (job.group * group_panels + first // width) * panel_step
                panel_start += k_start * width
            else:
                call(pack, w, w_shape, transpose, job.group * group_out, channels, first, count,
                     taps, k_start, k_stop, b)
            for start in range(0, pixels, blocks.rows):
                end = min(pixels, start + blocks.rows)
                gather_rows(x, x_shape, job.image, job.group * channels, channels,
                            job.first_pixel + start, end - start, job.grid_w, in_step, taps,
                            k_start, k_stop, rows, row_size, blocks.tile_rows)
                for j in range(0, count, width):
                    outputs = min(width, count - j)
                    column = job.group * group_outputs + first + j
                    panel = panel_start + j // width * panel_step
                    for i in range(start, end, blocks.tile_rows):
                        count_rows = min(blocks.tile_rows, end - i)
                        if block > 0:
                            fetch_tile(y, starts, i, count_rows, column, outputs)
                        at = (i - start) * row_size
                        ahead = part_ahead(b, panel + panel_step, k_stop - k_start,
                                           (i - start) // blocks.tile_rows)
                        if (outputs % lanes(y) == 0 and count_rows == blocks.tile_rows
                                and depth > 0):
                            multiply_and_finish(
                                kernels, rows, at, 0, at, b, panel, ahead, outputs, y, starts, i,
                                column, k_stop - k_start, mode, bias, column)
                            continue
                        if depth > 0:
                            multiply(kernels, rows, at, 0, at, b, panel, ahead, outputs, tile,
                                     tile_starts, 0, 0, k_stop - k_start, False)
                        put_tile(tile, count_rows, outputs, y, starts, i, column, mode, bias)


@kernel
def _pack(w, w_shape, groups, packed):
    """All panels of a convolution's weights, for each group one after the other."""
    outputs = w_shape[2] // groups
    depth = w_shape[0] * w_shape[1]
    size = packed.shape[0] // groups
    for part in prange(groups * w_shape[0]):
        group, tap = part // w_shape[0], part % w_shape[0]
        panels = packed[group * size :]
        for k in range(tap * w_shape[1], (tap + 1) * w_shape[1]):
            pack_row(w, k * w_shape[2] + group * outputs, outputs, panels, depth, k)


# ---- the work of a job, compiled by itself


@functools.cache
def _packing(dtype):
    """The address of `_pack_weights`."""
    numbers, _ = number_types(dtype)
    return compile_callable(_pack_weights, (
        numbers, TRIPLE, *(types.intp,) * 5, TABLE, types.intp, types.intp, numbers))


@functools.cache
def _product_task(dtype):
    numbers, scratch = task_types(dtype)
    return compile_task(_run_product, (
        types.Array(from_dtype(PRODUCT_JOB), 1, "C"), numbers, SHAPE, numbers, TRIPLE, types.intp,
        numbers, types.intp, numbers, SHAPE, TABLE, PAIR, PAIR, types.intp, types.intp, types.intp,
        typeof(Blocks(0, 0, 0, 0)), INTEGERS, scratch))


# ---- launchers


def pack_weights(w, groups):
    """Weights (kh, kw, in / groups, out) as `product` needs them, for many calls.

    Returns
    -------
    array (numbers,)
    """
    width = panel_width(w.dtype)
    panels = -(-(w.shape[3] // groups) // width)
    taps, depth, outputs = _flat_shape(w.shape)
    packed = memory.empty((groups * panels * taps * depth * width,), w.dtype)
    if w.shape[3] // groups % width:
        packed[:] = 0
    _pack(w.reshape(-1), (taps, depth, outputs), groups, packed)
    return packed


def product(x, w, w_shape, y, bias, phases, taps, in_step, out_step, groups=1, transposed=False,
            relu=False):
    """Run the product of this module's heading into `y`.

    Parameters
    ----------
    x : array (n, h, w, c)
        The source, C-contiguous like all arrays here and of one dtype.
    w : array (kh, kw, in / groups, out), or (numbers,) from `pack_weights`
        Weights; with `transposed` the sum runs over out and the results are in.
    w_shape : tuple
        (kh, kw, in / groups, out)
    y : array (n, out_h, out_w, c)
        Modified: every pixel that belongs to a phase.
    bias : array (out,) or None
    phases : sequence of (first_tap, last_tap, origin_y, origin_x, grid_h, grid_w)
    taps : array (t, 3) of int64
        Rows (offset_y, offset_x, index into kh * kw). Packed weights need all, in order.
    in_step, out_step : pairs of ints, (y, x)
    """
    if y.size == 0:
        return
    depth, outputs = (w_shape[3] // groups, w_shape[2]) if transposed else (
        w_shape[2], w_shape[3] // groups)
    depth *= max(last_tap - first_tap for first_tap, last_tap, *_ in phases)
    pack = 0 if w.ndim == 1 else _packing(y.dtype)
    transpose = transposition(y.dtype) if transposed else 0
    pixels = max(grid_h * grid_w for *_, grid_h, grid_w in phases)
    blocks = _product_blocks(y.dtype, depth, outputs, pixels)
    workers = workers_for(y.size * depth)
    jobs = _product_jobs(x.shape[0], groups, tuple(phases), outputs, workers, JOB_PIXELS,
                         blocks.tile_rows, panel_width(y.dtype))
    do_jobs(_product_task(y.dtype), len(jobs), workers, jobs, x, x.shape, w, _flat_shape(w_shape),
            pack, y if bias is None else bias, bias is not None, y, y.shape, taps, in_step,
            out_step, groups, transpose, relu, blocks, micro_kernels(y.dtype, blocks.tile_rows),
            scratch_for(workers, blocks, y.dtype))


def _product_blocks(dtype, depth, outputs, pixels):
    """Block sizes for sums of `depth` products, at so many pixels of a grid."""
    lane_count = lanes_of(dtype)
    tile_rows = best_rows(min(pixels, JOB_PIXELS))
    depth = max(1, min(depth, PANEL_BYTES // (panel_width(dtype) * dtype.itemsize)))
    depth = -(-depth // lane_count) * lane_count
    tiles = min(ROWS_BYTES // (depth * dtype.itemsize), JOB_PIXELS) // tile_rows
    columns = whole_panels(min(BLOCK_COLUMNS, outputs), dtype)
    return Blocks(depth, columns, max(1, tiles) * tile_rows, tile_rows)


@functools.lru_cache(maxsize=512)
def _product_jobs(images, groups, phases, outputs, workers, job_pixels, tile_rows, width):
    """Cut the work so that there is some for every thread and each reads the weights seldom.

    Each job packs all weights of its outputs, so a grid of few pixels is cut along the outputs, a
    large one into blocks of pixels.
    """
    jobs = []
    for first_tap, last_tap, origin_y, origin_x, grid_h, grid_w in phases:
        pixels = grid_h * grid_w
        blocks = -(-pixels // job_pixels)
        parts = 1
        if images * groups * len(phases) < JOBS * workers:
            if pixels > outputs:
                blocks = -(-blocks // workers) * workers
            else:
                parts = JOBS * workers
        for image in range(images):
            for group in range(groups):
                for p, q in cut(pixels, blocks, tile_rows):
                    for first, last in cut(outputs, parts, width):
                        jobs.append((image, group, first_tap, last_tap, origin_y, origin_x,
                                     grid_w, p, q, first, last))
    return np.array(jobs, PRODUCT_JOB)


def _flat_shape(w_shape):
    """The weights' shape as (taps, in, out)."""
    return w_shape[0] * w_shape[1], w_shape[2], w_shape[3]
