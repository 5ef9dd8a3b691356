"""Convolution as a matrix product whose left rows are gathered from the image (implicit GEMM).

The two products are those of the CPU, which explains taps and phases (`cpu/gathered_product.py`)::

    product    y[origin + q * out_step] = sum over t, c:  x[q * in_step + tap(t), c]  w[t, c]
    gradient   gw[t, c]                 = sum over q:     x[q * in_step + tap(t), c]  gy[q]

A block of threads computes a tile of results, in registers (`float32_product`, `tensor_product`).
Rows of the image are gathered on the way to shared memory, and never written side by side.

Pixels lie groups * depth numbers apart, depth divisible by 4, so that all loads are of 128 bits:
`padded` makes it so where it isn't. Where results are too few to occupy the GPU, several blocks
share the depth of a tile and `_add_up` adds their sums in a fixed order: no atomics, the same bits
from run to run on the same GPU.
"""

import functools

import numpy as np
from numba import cuda
from numba.cuda.types import float32, int32

from . import algorithms, float32_product, launch, memory, tensor_product
from .compilation import FLOATS, INT, kernel
from .elementwise import rectified
from .indexing import remainder
from .padding import Padded, pad_weights, padded


@kernel(FLOATS, FLOATS, FLOATS, *(INT,) * 5)
def _add_up(shares, bias, y, size, parts, channels, has_bias, relu):
    i = int32(cuda.grid(1))
    if i < size:
        total = float32(0)
        for part in range(parts):
            total += shares[part * size + i]
        if has_bias:
            total += bias[remainder(i, channels)]
        y[i] = rectified(total, relu)


def product(x, w, y, bias, phases, taps, in_step, out_step, groups=1, transposed=False, relu=False,
            algorithm=algorithms.IM2COL):
    """Run the product of this module's heading into `y`.

    Parameters
    ----------
    x : DeviceArray (n, h, w, c)
        The source.
    w : DeviceArray (kh, kw, in / groups, out)
        Weights; with `transposed` the sum runs over out and the results are in.
    y : DeviceArray (n, out_h, out_w, c)
        Modified: every pixel that belongs to a phase.
    bias : DeviceArray (out,) or None
    phases : sequence of (first_tap, last_tap, origin_y, origin_x, grid_h, grid_w)
    taps : NumPy array (t, 3)
        Rows (offset_y, offset_x, index into kh * kw).
    in_step, out_step : pairs of ints, (y, x)
    algorithm : str
        One of `algorithms.NAMES`.
    """
    if not isinstance(w, Padded):
        w = pad_weights(w, groups, transposed)
    if y.size == 0:
        return
    outputs = y.shape[3] // groups
    x, depth = padded(x, groups)
    tap_table, phase_table, most_taps = _tables(
        tuple(phases), taps.tobytes(), tuple(in_step), x.shape[1:3])
    rows = max(x.shape[0] * grid_h * grid_w for *_, grid_h, grid_w in phases)
    module, tile, resident, row_tiles, column_tiles = _tiling(algorithm, rows, outputs)
    parts = launch.shares(row_tiles * column_tiles * groups * len(phases), resident,
                          most_taps * depth // module.DEPTH, y.nbytes)
    target = y if parts == 1 else memory.empty((parts, *y.shape))
    module.products(algorithm)[tile, transposed].launch(
        (row_tiles * column_tiles, groups * parts, len(phases)),
        x, w.numbers, bias, target, tap_table, phase_table, *x.shape[:3], depth, *y.shape[1:3],
        outputs, groups, w.rows, w.columns, *in_step, *out_step, column_tiles, parts, y.size,
        bias is not None and parts == 1, relu and parts == 1, outputs % 4 == 0)
    if parts > 1:
        _add_up.launch(launch.blocks_for(y.size), target, bias, y, y.size, parts, y.shape[3],
                       bias is not None, relu)


def gradient(x, gy, gw, taps, in_step, groups=1, algorithm=algorithms.IM2COL):
    """Run the gradient of this module's heading into `gw` (kh, kw, in / groups, out), all of it."""
    if gw.size == 0:
        return
    channels, outputs = gw.shape[2], gw.shape[3] // groups
    x, depth = padded(x, groups)
    gy, columns = padded(gy, groups)
    rows = len(taps) * depth
    module, tile, resident, row_tiles, column_tiles = _tiling(algorithm, rows, outputs)
    parts = launch.shares(row_tiles * column_tiles * groups, resident,
                          gy.shape[0] * gy.shape[1] * gy.shape[2] // module.DEPTH, gw.nbytes)
    target = gw if parts == 1 else memory.empty((parts, *gw.shape))
    module.gradients(algorithm)[tile].launch(
        (row_tiles * column_tiles, groups * parts),
        x, gy, target, _tap_table(taps.tobytes()), *x.shape[:3], depth, channels, *gy.shape[1:3],
        columns, outputs, groups, *in_step, len(taps), column_tiles, parts, gw.size,
        outputs % 4 == 0)
    if parts > 1:
        _add_up.launch(launch.blocks_for(gw.size), target, None, gw, gw.size, parts, 1, 0, 0)


def _tiling(algorithm, rows, columns):
    """The module with an algorithm's kernels, its tile's index, how many blocks with such tiles a
    multiprocessor has at once, how many tiles down and across."""
    module, blocks, tiles = float32_product, launch.BLOCKS, launch.TILES
    if algorithm != algorithms.IM2COL:
        module, blocks, tiles = tensor_product, launch.TENSOR_BLOCKS, launch.TENSOR_TILES
    tile = launch.choose_tile(tiles, rows, columns)
    return (module, tile, blocks[tile][2], -(-rows // tiles[tile][0]),
            -(-columns // tiles[tile][1]))


@functools.lru_cache(maxsize=1024)
def _tap_table(taps):
    """Taps, as their bytes, on the GPU."""
    return memory.upload(np.frombuffer(taps, np.int64).astype(np.int32))


@functools.lru_cache(maxsize=1024)
def _tables(phases, taps, in_step, size):
    """Taps and phases on the GPU, without taps that no pixel of an image of `size` is under.

    Few are left of a large kernel on a small image. Also returns the most that a phase has.
    """
    taps = np.frombuffer(taps, np.int64).reshape(-1, 3)
    kept, table, count = [], [], 0
    for first, last, origin_y, origin_x, *grid in phases:
        here = taps[first:last]
        for axis in (0, 1):
            offsets = here[:, axis]
            here = here[(offsets < size[axis]) & (offsets > -(grid[axis] - 1) * in_step[axis] - 1)]
        kept.append(here)
        table.append((count, count + len(here), origin_y, origin_x, *grid))
        count += len(here)
    most = max(map(len, kept))
    return (_tap_table(np.concatenate(kept).astype(np.int64).tobytes()),
            memory.upload(np.array(table, np.int32)), most)
