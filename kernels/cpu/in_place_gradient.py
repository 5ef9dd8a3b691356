"""The gradient of a convolution's weights without im2col's copies, for few channels, as in photos.

Of a row of the kernel, and a row of gy, it is a product of matrices::

    gw[ky, (kx, c)] += sum over ox:  x[oy * sy - py + ky, ox * sx - px + kx, c]  gy[oy, ox]

Numbers (kx, c) lie side by side in the image, those of the next pixel begin a few further, and
gy's pixels are rows as they are. So the micro-kernel reads both where they lie; only zeros are put
around a row of the image.
"""

import functools

from numba import types

from . import memory
from .callables import INTEGERS, PAIR, SHAPE
from .gathered_blocks import workers_for
from .jobs import compile_task, do_jobs, task_types
from .micro_kernel import (
    TILE_VECTORS,
    best_rows,
    copy,
    micro_kernels,
    multiply,
    row_starts,
)
from .simd import lanes

# The rows of gy are shared out to so many sums, the same for any number of threads.
PARTS = 16


def _run_part(given, part, worker):
    """Add up what a part of the rows of gy, counted through all images, contribute."""
    (x, x_shape, gy, gy_shape, kernel_size, stride, padding, all_sums, tile_rows, tiles, kernels,
     lines) = given[0]
    sums, line = all_sums[part], lines[worker]
    parts, rows = all_sums.shape[0], gy_shape[0] * gy_shape[1]
    channels, outputs, width = x_shape[3], gy_shape[3], TILE_VECTORS * lanes(line)
    line[:] = 0.0
    starts = row_starts(tile_rows, outputs)
    for i in range(kernel_size[0] * tiles * tile_rows * outputs):
        sums[i] = 0.0
    for row in range(rows * part // parts, rows * (part + 1) // parts):
        image, out_y = row // gy_shape[1], row % gy_shape[1]
        for ky in range(kernel_size[0]):
            in_y = out_y * stride[0] + ky - padding[0]
            if in_y < 0 or in_y >= x_shape[1]:
                continue
            copy(x, (image * x_shape[1] + in_y) * x_shape[2] * channels, line,
                 padding[1] * channels, x_shape[2] * channels)
            for tile in range(tiles):
                to = (ky * tiles + tile) * tile_rows * outputs
                for j in range(0, outputs, width):
                    at, pixels = tile * tile_rows, row * gy_shape[2] * outputs + j
                    multiply(kernels, line, at, stride[1] * channels, at, gy, pixels, pixels,
                             min(width, outputs - j), sums, starts, 0, to + j, gy_shape[2], True)


@functools.cache
def _part_task(dtype):
    numbers, scratch = task_types(dtype)
    return compile_task(_run_part, (
        numbers, SHAPE, numbers, SHAPE, PAIR, PAIR, PAIR, scratch, types.intp, types.intp, INTEGERS,
        scratch))


# ---- launcher


def gradient(x, gy, kernel_size, stride, padding):
    """The gradient of w (kh, kw, in, out), where `algorithms.reads_in_place`."""
    dtype, channels, outputs = x.dtype, x.shape[3], gy.shape[3]
    run = kernel_size[1] * channels
    gw = memory.empty((*kernel_size, channels, outputs), dtype)
    if gw.size == 0 or gy.size == 0:
        gw[...] = 0
        return gw
    # The last tile's rows beyond the kernel's are sums of other numbers of the line: never used.
    tile_rows = best_rows(run)
    tiles = -(-run // tile_rows)
    sums = memory.empty((PARTS, kernel_size[0] * tiles * tile_rows * outputs), dtype)
    line = (x.shape[2] + 2 * padding[1]) * channels + tile_rows
    workers = workers_for(gy.size * kernel_size[0] * run)
    do_jobs(_part_task(dtype), PARTS, workers, x, x.shape, gy, gy.shape, kernel_size, stride,
            padding, sums, tile_rows, tiles,
            micro_kernels(dtype, tile_rows, woven=False, b_step=outputs),
            memory.scratch(workers, line, dtype))
    total = sums.sum(axis=0).reshape(kernel_size[0], tiles * tile_rows, outputs)
    gw[...] = total[:, :run].reshape(gw.shape)
    return gw
