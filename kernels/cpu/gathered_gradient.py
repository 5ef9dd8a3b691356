"""The gradient of a convolution's weights, a blocked product whose left rows are gathered (im2col).

With the taps of `gathered_product`, for a forward convolution::

    gw[t, c] = sum over q:  x[q * in_step + tap(t), c]  gy[q]

The sum's depth are the pixels. Each number of gw is added up by one thread, pixels in order.
"""

import functools

import numpy as np
from numba import from_dtype, typeof, types

from .callables import INTEGERS, PAIR, SHAPE, TABLE
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
    TILE_ROWS,
    TILE_VECTORS,
    micro_kernels,
    multiply,
    pack_row,
    put_tile,
    row_starts,
)
from .simd import lanes

# Sizes of the blocks; tests make them smaller.
ROWS = 8 * TILE_ROWS
DEPTH_BYTES = 768
COLUMNS = 256

# Some rows (t, c) of the weights' gradient, for some outputs, over all pixels.
JOB = np.dtype(
    [(name, np.int64) for name in
     ("group", "first_row", "last_row", "first_output", "last_output")]
)


def _run_gradient(given, index, worker):
    """One job."""
    (jobs, x, x_shape, gy, gy_shape, gw, taps, in_step, groups, blocks, kernels,
     all_scratch) = given[0]
    job, scratch = jobs[index], all_scratch[worker]
    width = TILE_VECTORS * lanes(scratch)
    tile, panels, rows = split_scratch(scratch, blocks)
    # Rows up to a full tile, and a cache line, so that pixels do not compete for places in the L1.
    row_size = blocks.rows + TILE_ROWS + width - (blocks.rows + TILE_ROWS) % width
    channels = x_shape[3] // groups
    all_outputs = gy_shape[3]
    first_output = job.group * (all_outputs // groups) + job.first_output
    outputs = job.last_output - job.first_output
    tile_starts = row_starts(TILE_ROWS, width)
    starts = np.empty(job.last_row - job.first_row, np.int64)
    for i in range(starts.size):
        starts[i] = (job.first_row + i) * all_outputs

    grid = gy_shape[1] * gy_shape[2]
    grid_blocks = (grid + blocks.depth - 1) // blocks.depth
    for image in range(gy_shape[0]):
        for block in range(grid_blocks):
            pixel = grid * block // grid_blocks
            pixels = grid * (block + 1) // grid_blocks - pixel
            for k in range(pixels):
                at = (image * grid + pixel + k) * all_outputs + first_output
                pack_row(gy, at, outputs, panels, pixels, k)
            for row in range(job.first_row, job.last_row, blocks.rows):
                count = min(blocks.rows, job.last_row - row)
                gather_rows(x, x_shape, image, job.group * channels, channels, pixel, pixels,
                            gy_shape[2], in_step, taps, row, row + count, rows, row_size, 0)
                for j in range(0, outputs, width):
                    columns = min(width, outputs - j)
                    again = image + block > 0
                    for i in range(0, count, TILE_ROWS):
                        first, at = row - job.first_row + i, first_output + j
                        panel = j * pixels
                        if columns % lanes(gw) == 0 and count - i >= TILE_ROWS:
                            multiply(kernels, rows, i, row_size, i, panels, panel, panel, columns,
                                     gw, starts, first, at, pixels, again)
                        else:
                            multiply(kernels, rows, i, row_size, i, panels, panel, panel, columns,
                                     tile, tile_starts, 0, 0, pixels, False)
                            put_tile(tile, min(TILE_ROWS, count - i), columns, gw, starts, first,
                                     at, ADD if again else 0, gw)


@functools.cache
def _gradient_task(dtype):
    numbers, scratch = task_types(dtype)
    return compile_task(_run_gradient, (
        types.Array(from_dtype(JOB), 1, "C"), numbers, SHAPE, numbers, SHAPE, numbers, TABLE, PAIR,
        types.intp, typeof(Blocks(0, 0, 0, 0)), INTEGERS, scratch))


# ---- launcher


def gradient(x, gy, gw, taps, in_step, groups=1):
    """Run the product of this module's heading into `gw` (kh, kw, in / groups, out), all of it."""
    if x.size == 0 or gy.size == 0:
        gw[...] = 0
        return
    blocks = Blocks(max(1, DEPTH_BYTES // gw.dtype.itemsize),
                    whole_panels(COLUMNS, gw.dtype), ROWS, TILE_ROWS)
    workers = workers_for(gy.size * (gw.size // gw.shape[3]))
    jobs = _gradient_jobs(groups, taps.shape[0] * gw.shape[2], gw.shape[3] // groups, workers,
                          blocks.columns)
    do_jobs(_gradient_task(gw.dtype), len(jobs), workers, jobs, x, x.shape, gy, gy.shape, gw, taps,
            in_step, groups, blocks, micro_kernels(gw.dtype, TILE_ROWS, woven=False),
            scratch_for(workers, blocks, gw.dtype))


@functools.lru_cache(maxsize=512)
def _gradient_jobs(groups, rows, outputs, workers, block_columns):
    columns = [(j, min(outputs, j + block_columns)) for j in range(0, outputs, block_columns)]
    parts = 1 if groups * len(columns) >= JOBS * workers else workers
    jobs = [
        (group, *row_range, *column_range)
        for group in range(groups)
        for row_range in cut(rows, parts, TILE_ROWS)
        for column_range in columns
    ]
    return np.array(jobs, JOB)
