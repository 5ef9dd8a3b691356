"""What the processor's vector units can do at best: the ceiling that kernels are held against."""

import time

import numpy as np
from numba import prange

from ..kernels.cpu.compilation import kernel
from ..kernels.cpu.simd import fma, lanes, lanes_of, load, store

CHAINS = 12  # independent sums: two units, each busy with four or more at a time
STEPS = 4_000_000
TRIALS = 20


def peak(threads):
    """GFLOP/s of `threads`: float32 fused multiply-adds on registers, the best of some trials."""
    numbers = np.full((threads, CHAINS * lanes_of(np.dtype(np.float32))), 0.5, np.float32)
    _multiply(numbers, 1)
    best = np.inf
    for _ in range(TRIALS):
        began = time.perf_counter()
        _multiply(numbers, STEPS)
        best = min(best, time.perf_counter() - began)
    return 2e-9 * numbers.size * STEPS / best


@kernel
def _multiply(numbers, steps):
    width = lanes(numbers)
    for thread in prange(len(numbers)):
        i = thread * numbers.shape[1]
        x = load(numbers, i)
        a, b, c = x, load(numbers, i + width), load(numbers, i + 2 * width)
        d, e, f = (load(numbers, i + 3 * width), load(numbers, i + 4 * width),
                   load(numbers, i + 5 * width))
        g, h, j = (load(numbers, i + 6 * width), load(numbers, i + 7 * width),
                   load(numbers, i + 8 * width))
        k, m, n = (load(numbers, i + 9 * width), load(numbers, i + 10 * width),
                   load(numbers, i + 11 * width))
        for _ in range(steps):
            a, b, c = fma(a, x, x), fma(b, x, x), fma(c, x, x)
            d, e, f = fma(d, x, x), fma(e, x, x), fma(f, x, x)
            g, h, j = fma(g, x, x), fma(h, x, x), fma(j, x, x)
            k, m, n = fma(k, x, x), fma(m, x, x), fma(n, x, x)
        store(numbers, i + width, a + b + c + d + e + f)
        store(numbers, i + 2 * width, g + h + j + k + m + n)
