"""Stand-ins for `intrinsics` in Numba's simulator, which runs each CUDA thread as a Python thread.

Two things of the simulator are replaced. It knows no alignment of shared arrays: here it is
accepted and dropped. And it lets all threads of a block compete for the interpreter: here one runs
at a time, up to where it has to wait for the others, which is many times faster.

All this permits more than hardware does, except for the alignment of places, which is checked, and
for asynchronous copies, which arrive as late as they may.
"""

import sys
import threading

import numpy as np
from numba.cuda.np import numpy_support
from numba.cuda.simulator import kernel, kernelapi


def _shared_array(self, shape, dtype, alignment=None):
    """A block's array for the line that asks for it."""
    frame = sys._getframe(1)
    key = frame.f_code.co_filename, frame.f_lineno
    if key not in self._allocations:
        self._allocations[key] = np.full(shape, np.nan, numpy_support.as_dtype(dtype))
    return self._allocations[key]


def _run_block(self, grid_point, *args):
    """Run the threads of a block in turns."""
    self.held, self.products = {}, {}  # of matrix instructions
    block_points = list(np.ndindex(*self._block_dim))
    if "syncthreads" not in self._f.__code__.co_names:  # no one waits: they need no Python threads
        thread = threading.current_thread()
        thread.blockIdx = kernelapi.Dim3(*grid_point)
        for point in block_points:
            thread.threadIdx = kernelapi.Dim3(*point)
            self._f(*args)
        return

    def body():
        thread = threading.current_thread()
        thread.turn.acquire()
        try:
            if not thread.abort:
                self._f(*args)
        except BaseException as error:
            self.failure = self.failure or error
        finally:
            thread.done = True
            self.turn.release()

    self.turn, self.failure = threading.Semaphore(0), None
    threads = [kernel.BlockThread(body, self, grid_point, point, False) for point in block_points]
    for thread in threads:
        thread.turn, thread.done = threading.Semaphore(0), False
        thread.start()
    while threads:
        for thread in threads:
            thread.abort = self.failure is not None
            thread.turn.release()
            self.turn.acquire()
        threads = [thread for thread in threads if not thread.done]
    if self.failure is not None:
        raise self.failure


def _syncthreads(self):
    """Let the other threads of the block come as far."""
    self._manager.turn.release()
    self.turn.acquire()
    if self.abort:
        raise RuntimeError("another thread of the block failed")


kernelapi.FakeCUDAShared.array = _shared_array
kernel.BlockManager.run = _run_block
kernel.BlockThread.syncthreads = _syncthreads


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


def add_outer_product(sums, left, right):
    sums += np.multiply.outer(left, right)


def two_sided(matrix):
    matrix = np.array([[float(factor) for factor in row] for row in matrix], np.float32)
    columns = matrix.shape[1]

    def transform(source, target):
        target[:] = (matrix @ source.reshape(columns, columns) @ matrix.T).ravel()

    return transform


# Until copies arrive the target holds no number: who reads too early, or still reads what was there
# before, gets NaN.


def copy4_async(target, to, source, at, size):
    assert to >= 0 and to % 4 == 0 and at >= 0 and at % 4 == 0 and size in (0, 16)
    numbers = np.array(_numbers(source)[at : at + 4]) if size else np.zeros(4, np.float32)
    assert numbers.size == 4
    target[to : to + 4] = np.nan
    _copies().append((target, to, numbers))


def commit_copies():
    _copies(begin=True)


def wait_for_older_copies():
    groups = threading.current_thread().groups
    while len(groups) > 2:  # the newest that is complete, and the one after it
        for target, to, numbers in groups.pop(0):
            target[to : to + 4] = numbers


def _copies(begin=False):
    """The thread's newest group of copies."""
    thread = threading.current_thread()
    if not hasattr(thread, "groups"):
        thread.groups = [[]]
    if begin:
        thread.groups.append([])
    return thread.groups[-1]


def to_tf32(x):
    bits = int(np.float32(float(x) * (1 + 2.0**-11)).view(np.uint32))
    return np.uint32(bits & 0xFFFFE000)


def to_bf16_pair(low, high):
    halves = []
    for x in low, high:
        bits = int(np.float32(x).view(np.uint32))
        halves.append((bits + 0x7FFF + (bits >> 16 & 1)) >> 16 & 0xFFFF)
    return np.uint32(halves[1] << 16 | halves[0])


def _multiply(operands, add, unpack):
    """A lane's share of a b + c, when all lanes of its warp, and so of its block, are here."""
    thread = threading.current_thread()
    lane, turn = thread.thread_id % 32, getattr(thread, "multiplications", 0)
    thread.multiplications = turn + 1
    key = thread.thread_id // 32, turn
    held = thread._manager.held.setdefault(key, [None] * 32)
    held[lane] = operands
    thread.syncthreads()
    d = thread._manager.products.get(key)
    if d is None:
        d = thread._manager.products[key] = unpack(held)
    row, column = lane >> 2, 2 * (lane & 3)
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
