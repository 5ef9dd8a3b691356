"""Sums over pixels for each channel, in float64 and in an order that the shape alone determines."""

import math

from numba import cuda
from numba.cuda.types import float32, float64, int32

from . import memory
from .compilation import DOUBLES, FLOATS, INT, kernel

LANES, ROWS = 32, 8  # threads of a block: neighbouring channels, and pixels
MOST_BLOCKS = 256

# What of each number is added up.
NUMBERS, SQUARED_DEVIATIONS, PRODUCTS = 0, 1, 2


@kernel(FLOATS, FLOATS, FLOATS, DOUBLES, INT, INT, INT, threads=(LANES, ROWS))
def _partial_sums(x, gy, mean, partial, pixels, channels, what):
    """partial (blocks, channels); sums of x, of (x - mean)^2 or of gy (x - mean)."""
    shared = cuda.shared.array(256, float64)
    lane, row = int32(cuda.threadIdx.x), int32(cuda.threadIdx.y)
    channel = int32(cuda.blockIdx.x * LANES + lane)
    total = float64(0)
    if channel < channels:
        pixel = int32(cuda.blockIdx.y * ROWS + row)
        while pixel < pixels:
            number = x[pixel * channels + channel]
            if what == SQUARED_DEVIATIONS:
                number = (number - mean[channel]) * (number - mean[channel])
            elif what == PRODUCTS:
                number = gy[pixel * channels + channel] * (number - mean[channel])
            total += float64(number)
            pixel = int32(pixel + cuda.gridDim.y * ROWS)
    shared[row * LANES + lane] = total
    cuda.syncthreads()
    if row == 0 and channel < channels:
        for other in range(1, ROWS):
            total += shared[other * LANES + lane]
        partial[cuda.blockIdx.y * channels + channel] = total


@kernel(DOUBLES, FLOATS, INT, INT, INT, threads=LANES)
def _finish(partial, sums, blocks, channels, count):
    """The sums over blocks, divided by `count`."""
    channel = int32(cuda.grid(1))
    if channel < channels:
        total = float64(0)
        for block in range(blocks):
            total += partial[block * channels + channel]
        sums[channel] = float32(total / float64(count))


def column_sums(x, gy=None, mean=None, what=NUMBERS, count=1):
    """One of the sums above over n, h, w of x (n, h, w, c), divided by `count`: (c,)."""
    pixels, channels = math.prod(x.shape[:3]), x.shape[3]
    result = memory.empty((channels,))
    if channels == 0:
        return result
    blocks = max(1, min(MOST_BLOCKS, -(-pixels // (4 * ROWS))))
    partial = memory.empty((blocks, channels), "f8")
    _partial_sums.launch((-(-channels // LANES), blocks), x, gy, mean, partial, pixels, channels,
                         what)
    _finish.launch(-(-channels // LANES), partial, result, blocks, channels, count)
    return result
