"""The gradient of a convolution's weights without im2col's copies, for few channels, as in photos.

Of a row of the kernel, and a row of gy, it is a product of matrices::

    gw[ky, (kx, c)] += sum over ox:  x[oy * sy - py + ky, ox * sx - px + kx, c]  gy[oy, ox]

Numbers (kx, c) lie side by side in the image, those of the next pixel begin a few further, and
gy's pixels are rows as they are. So the micro-kernel reads both where they lie; only zeros are put
around a row of the image.
"""

import functools

from numba import prange, types

from . import memory
from .callables import INTEGERS, PAIR, SHAPE, call, compile_callable, number_types, pointer
from .compilation import kernel
from .gathered_blocks import workers_for
from .jobs import counter, take_job
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


def _run_part(first, last, x, x_shape, gy, gy_shape, kernel_size, stride, padding, sums, tile_rows,
              tiles, kernels, line):
    """Add up what rows first : last of gy, counted through all images, contribute."""
    channels, outputs, width = x_shape[3], gy_shape[3], TILE_VECTORS * lanes(line)
    line[:] = 0.0
    starts = row_starts(tile_rows, outputs)
    for i in range(kernel_size[0] * tiles * tile_rows * outputs):
        sums[i] = 0.0
    for row in range(first, last):
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
def _part_run(dtype):
    """The address of `_run_part`."""
    numbers, scratch = number_types(dtype)
    return compile_callable(_run_part, (
        types.intp, types.intp, numbers, SHAPE, numbers, SHAPE, PAIR, PAIR, PAIR, numbers,
        types.intp, types.intp, INTEGERS, scratch))


@kernel
def _gradient(run, x, x_shape, gy, gy_shape, kernel_size, stride, padding, sums, tile_rows, tiles,
              kernels, parts_taken, lines):
    parts, workers, rows = sums.shape[0], lines.shape[0], gy_shape[0] * gy_shape[1]
    for worker in prange(workers):
        part = take_job(parts_taken)
        while part < parts:
            call(run, rows * part // parts, rows * (part + 1) // parts, pointer(x, 0), x_shape,
                 pointer(gy, 0), gy_shape, kernel_size, stride, padding, pointer(sums[part], 0),
                 tile_rows, tiles, kernels, lines[worker])
            part = take_job(parts_taken)


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
    _gradient(_part_run(dtype), x.reshape(-1), x.shape, gy.reshape(-1), gy.shape, kernel_size,
              stride, padding, sums, tile_rows, tiles,
              micro_kernels(dtype, tile_rows, woven=False, b_step=outputs), counter(),
              memory.scratch(workers, line, dtype), threads=workers)
    total = sums.sum(axis=0).reshape(kernel_size[0], tiles * tile_rows, outputs)
    gw[...] = total[:, :run].reshape(gw.shape)
    return gw
