"""Arrays that begin on a cache line, and scratch memory that kernels use again and again."""

import math
import threading

import numba
import numpy as np

CACHE_LINE = 64

_scratch = threading.local()


def empty(shape, dtype):
    """Like `numpy.empty`, with the first number on a cache line: vectors never straddle two."""
    dtype = np.dtype(dtype)
    count = math.prod(shape)
    raw = np.empty(count * dtype.itemsize + CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    return raw[start : start + count * dtype.itemsize].view(dtype).reshape(shape)


def scratch(numbers, dtype):
    """A (workers, numbers) array for one kernel call: a row for each thread that will work.

    It belongs to the calling Python thread and is handed out again at its next call, so only a
    kernel may hold it. It starts as zeros and then keeps what earlier kernels left.
    """
    workers = numba.get_num_threads()
    line = CACHE_LINE // np.dtype(dtype).itemsize
    numbers += -numbers % line
    held = getattr(_scratch, "bytes", None)
    size = workers * numbers * np.dtype(dtype).itemsize
    if held is None or held.size < size:
        held = _scratch.bytes = empty((size,), np.uint8)
        held[:] = 0
    return held[:size].view(dtype).reshape(workers, numbers)
