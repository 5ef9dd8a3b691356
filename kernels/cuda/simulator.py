"""Stand-ins for `intrinsics` in Numba's simulator, which runs each CUDA thread as a Python thread.

The simulator knows no alignment of shared arrays either: here it is accepted and dropped. All this
permits more than hardware does, except for the alignment of places, which is checked.
"""

import sys
import threading

import numpy as np
from numba.cuda.np import numpy_support
from numba.cuda.simulator import kernelapi


def _shared_array(self, shape, dtype, alignment=None):
    """A block's array for the line that asks for it."""
    frame = sys._getframe(1)
    key = frame.f_code.co_filename, frame.f_lineno
    with _lock:
        if key not in self._allocations:
            numbers = np.full(shape, np.nan, numpy_support.as_dtype(dtype))
            self._allocations[key] = numbers
        return self._allocations[key]


kernelapi.FakeCUDAShared.array = _shared_array

_lock = threading.Lock()


def _numbers(a):
    """The NumPy array of a global or a shared array."""
    return a if isinstance(a, np.ndarray) else a._item._ary


def load4(a, i):
    assert i >= 0 and i % 4 == 0
    a = _numbers(a)
    assert i + 4 <= a.size
    return tuple(a[i : i + 4])


def store4(a, i, x0, x1, x2, x3):
    assert i >= 0 and i % 4 == 0
    a = _numbers(a)
    assert i + 4 <= a.size
    a[i : i + 4] = x0, x1, x2, x3


def load1(a, i):
    assert i >= 0
    return _numbers(a)[i]


def copy4_async(target, to, source, at, size):
    assert to >= 0 and to % 4 == 0 and at >= 0 and at % 4 == 0 and size in (0, 16)
    target[to : to + 4] = _numbers(source)[at : at + 4] if size else 0


def commit_copies():
    pass


def wait_for_copies():
    pass


def to_tf32(x):
    bits = int(np.float32(x).view(np.uint32))
    return np.uint32((bits + 0x1000) & 0xFFFFE000)


def to_bf16_pair(low, high):
    halves = []
    for x in low, high:
        bits = int(np.float32(x).view(np.uint32))
        halves.append((bits + 0x7FFF + (bits >> 16 & 1)) >> 16 & 0xFFFF)
    return np.uint32(halves[1] << 16 | halves[0])


class _Warp:
    """32 threads that exchange what they hold."""

    def __init__(self):
        self.barrier = threading.Barrier(32)
        self.held = [None] * 32
        self.result = None


def _multiply(operands, add, unpack):
    thread = threading.current_thread()
    warps = vars(thread._manager).setdefault("_warps", {})
    with _lock:
        warp = warps.setdefault(thread.thread_id // 32, _Warp())
    lane = thread.thread_id % 32
    warp.held[lane] = operands
    if warp.barrier.wait() == 0:
        warp.result = unpack(warp.held)
    warp.barrier.wait()
    row, column = lane >> 2, 2 * (lane & 3)
    d = warp.result
    return (add[0] + d[row, column], add[1] + d[row, column + 1],
            add[2] + d[row + 8, column], add[3] + d[row + 8, column + 1])


def _tf32_product(held):
    a, b = np.empty((16, 8), np.float32), np.empty((8, 8), np.float32)
    for lane, words in enumerate(held):
        g, q = lane >> 2, lane & 3
        numbers = np.array(words, np.uint32).view(np.float32)
        a[g, q], a[g + 8, q], a[g, q + 4], a[g + 8, q + 4], b[q, g], b[q + 4, g] = numbers
    return a @ b


def _bf16_product(held):
    a, b = np.empty((16, 16), np.float32), np.empty((16, 8), np.float32)
    for lane, words in enumerate(held):
        g, q = lane >> 2, 2 * (lane & 3)
        words = np.array(words, np.uint32)
        pairs = np.stack([words << 16, words & 0xFFFF0000], 1).view(np.float32)
        a[g, q : q + 2], a[g + 8, q : q + 2] = pairs[:2]
        a[g, q + 8 : q + 10], a[g + 8, q + 8 : q + 10] = pairs[2:4]
        b[q : q + 2, g], b[q + 8 : q + 10, g] = pairs[4:]
    return a @ b


def multiply_tf32(a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
    return _multiply((a0, a1, a2, a3, b0, b1), (c0, c1, c2, c3), _tf32_product)


def multiply_bf16(a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
    return _multiply((a0, a1, a2, a3, b0, b1), (c0, c1, c2, c3), _bf16_product)
