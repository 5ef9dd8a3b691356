"""Sums over pixels for each channel, in an order that the shape alone determines.

Some pixels at a time are added up in vectors, and those sums in float64; blocks of pixels have sums
of their own, as many for any number of threads.
"""

import numpy as np
from numba import prange

from .compilation import inline, kernel
from .simd import lanes, load, splat, store

# Numbers of a chunk of pixels, which stays in the cache while it is summed up twice.
CHUNK = 4096
LEAST_PIXELS = 64

# Blocks of pixels with sums of their own: as many for any number of threads.
MOST_BLOCKS = 64
BLOCK_PIXELS = 256


@inline
def chunk_pixels(channels):
    """How many pixels to add up at a time."""
    return max(LEAST_PIXELS, CHUNK // channels)


@inline
def cover(channels, lane_count):
    """How many vectors cover the channels; the last overlaps the one before, or there are none."""
    return (channels + lane_count - 1) // lane_count if channels >= lane_count else 0


@inline
def sum_chunk(x, begin, end, channels, sums):
    """The sums of pixels begin : end of x, a flat array."""
    for vector in range(cover(channels, lanes(x))):
        c = min(vector * lanes(x), channels - lanes(x))
        result = splat(x, x.dtype.type(0))
        for pixel in range(begin, end):
            result = result + load(x, pixel * channels + c)
        store(sums, c, result)
    if channels < lanes(x):
        sums[:] = 0
        for pixel in range(begin, end):
            for c in range(channels):
                sums[c] += x[pixel * channels + c]


@kernel
def _block_sums(x, channels, pixels, totals):
    blocks = totals.shape[0]
    step = chunk_pixels(channels)
    for block in prange(blocks):
        first, last = pixels * block // blocks, pixels * (block + 1) // blocks
        sums = np.empty(channels, x.dtype)
        for begin in range(first, last, step):
            sum_chunk(x, begin, min(last, begin + step), channels, sums)
            for c in range(channels):
                totals[block, c] += sums[c]


def column_sums(x):
    """Sum a C-contiguous x (n, h, w, c) over everything but channels: (c,) of float64."""
    totals = zero_sums(x)
    if x.size:
        _block_sums(x.reshape(-1), x.shape[3], x.size // x.shape[3], totals)
    return totals.sum(axis=0)


def zero_sums(x):
    """A float64 array of zeros (blocks, c) for sums of each block of pixels."""
    pixels = x.size // max(1, x.shape[3])
    return np.zeros((min(MOST_BLOCKS, -(-pixels // BLOCK_PIXELS)), x.shape[3]))
