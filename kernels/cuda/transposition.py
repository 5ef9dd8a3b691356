"""Matrices transposed, through shared memory, so that reads and writes are of whole rows."""

import math

from numba import cuda
from numba.cuda.types import float32

from . import memory
from .compilation import FLOATS, INT, kernel

SIDE = 32  # of a tile
STEP = 8  # rows of a tile that a block moves at once


@kernel(FLOATS, FLOATS, INT, INT, threads=(SIDE, STEP))
def _transpose(source, target, rows, columns):
    # A column more, so that a column of the tile lies in different banks.
    tile = cuda.shared.array(32 * 33, float32)
    first = cuda.blockIdx.z * rows * columns
    column, row = cuda.blockIdx.x * SIDE + cuda.threadIdx.x, cuda.blockIdx.y * SIDE
    for i in range(cuda.threadIdx.y, SIDE, STEP):
        if row + i < rows and column < columns:
            tile[i * (SIDE + 1) + cuda.threadIdx.x] = source[first + (row + i) * columns + column]
    cuda.syncthreads()
    column, row = cuda.blockIdx.y * SIDE + cuda.threadIdx.x, cuda.blockIdx.x * SIDE
    for i in range(cuda.threadIdx.y, SIDE, STEP):
        if row + i < columns and column < rows:
            target[first + (row + i) * rows + column] = tile[cuda.threadIdx.x * (SIDE + 1) + i]


def transposed(matrices):
    """The last two axes of an array exchanged, in memory too."""
    *others, rows, columns = matrices.shape
    result = memory.empty((*others, columns, rows))
    if result.size:
        _transpose.launch((-(-columns // SIDE), -(-rows // SIDE), math.prod(others)), matrices,
                          result, rows, columns)
    return result
