"""Arrays that begin on a cache line, and scratch memory that kernels use again and again."""

import math
import threading

import numpy as np

CACHE_LINE = 64

# Arrays of at least this many bytes are pooled, in a block of at most so many times their size;
# idle blocks hold no more than LARGEST_IDLE bytes together.
POOLED_SIZE = 1 << 18
LARGEST_WASTE = 4
LARGEST_IDLE = 1 << 30

_idle = {}
_scratch = threading.local()


def empty(shape, dtype):
    """Like `numpy.empty`, with the first number on a cache line: vectors never straddle two.

    Large arrays take the memory of earlier ones that are gone, since fresh pages from the system
    cost more than many a kernel.
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    block = np.asarray(_Block(size)) if size >= POOLED_SIZE else np.empty(size + CACHE_LINE, "u1")
    start = -block.ctypes.data % CACHE_LINE
    return block[start : start + size].view(dtype).reshape(shape)


class _Block:
    """Bytes for an array; they return to the pool when the last array on them is gone."""

    def __init__(self, size):
        self.bytes = None
        size += CACHE_LINE
        # Copies and pop are atomic, a lock is not safe: the garbage collector may run `__del__`
        # while this very thread holds it.
        fitting = [
            (block.size, key)
            for key, block in _idle.copy().items()
            if size <= block.size <= size * LARGEST_WASTE
        ]
        found = _idle.pop(min(fitting)[1], None) if fitting else None
        if found is None or found.size < size:  # another thread was quicker
            found = np.empty(size, np.uint8)
        self.bytes = found

    @property
    def __array_interface__(self):
        return self.bytes.__array_interface__

    def __del__(self, idle=_idle, limit=LARGEST_IDLE):
        # Through defaults, since at exit the module's names are gone before its last arrays.
        if self.bytes is None:  # there was no memory for it
            return
        idle[id(self.bytes)] = self.bytes
        blocks = idle.copy()
        total = sum(block.size for block in blocks.values())
        for key, block in blocks.items():  # the oldest first
            if total <= limit:
                break
            if idle.pop(key, None) is not None:
                total -= block.size


def release():
    """Return the memory that waits for new arrays to the system."""
    _idle.clear()


def scratch(workers, numbers, dtype):
    """A (workers, numbers) array for one kernel call: a row for each thread that will work.

    It belongs to the calling Python thread and is handed out again at its next call, so only a
    kernel may hold it. It starts as zeros and then keeps what earlier kernels left.
    """
    line = CACHE_LINE // np.dtype(dtype).itemsize
    numbers += -numbers % line
    held = getattr(_scratch, "bytes", None)
    size = workers * numbers * np.dtype(dtype).itemsize
    if held is None or held.size < size:
        held = _scratch.bytes = empty((size,), np.uint8)
        held[:] = 0
    return held[:size].view(dtype).reshape(workers, numbers)


def apart(numbers, dtype):
    """How far apart parts of `numbers` shall lie: an odd count of cache lines, so that they do not
    all compete for the same places in the caches."""
    line = CACHE_LINE // dtype.itemsize
    return (-(-numbers // line) | 1) * line
