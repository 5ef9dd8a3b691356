"""Run kernels on arrays that end, or begin, at a page that must not be touched.

A program for test_kernels.py: `python guarded_calls.py DTYPE KERNEL...` calls each kernel of the
CPU backend, first with all its arrays, arguments and whatever it allocates through
`tinyfcn.kernels.cpu.memory`, right before such a page, then right after one. A read or write over
an end kills the process with SIGSEGV. `overrun` instead of a kernel reads one number too many,
which shows that the guard works.
"""
import ctypes
import math
import mmap
import pathlib
import resource
import runpy
import sys

import numpy as np

PROT_NONE = 0
libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def guarded_empty(shape, dtype, at_end):
    """An uninitialised array between two untouchable pages, adjacent to the last or the first."""
    dtype = np.dtype(dtype)
    count = math.prod(shape)
    page = mmap.PAGESIZE
    inner = -(-max(count * dtype.itemsize, 1) // page) * page
    region = mmap.mmap(-1, inner + 2 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(region))
    for address in (start, start + page + inner):
        if libc.mprotect(address, page, PROT_NONE) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")
    offset = page + (inner - count * dtype.itemsize if at_end else 0)
    return np.frombuffer(region, dtype, count, offset).reshape(shape)


def guarded(value, at_end):
    if not isinstance(value, np.ndarray):
        return value
    copy = guarded_empty(value.shape, value.dtype, at_end)
    copy[...] = value
    return copy


def guard_allocations(memory, at_end):
    """Let the backend allocate guarded arrays too, and drop the scratch memory it has."""
    memory.empty = lambda shape, dtype: guarded_empty(shape, dtype, at_end)
    vars(memory._scratch).clear()


def overrun():
    x = guarded(np.zeros(5, np.float32), True)
    return ctypes.cast(x.ctypes.data, ctypes.POINTER(ctypes.c_float))[5]


def main(dtype, names):
    from tinyfcn.kernels import cpu
    from tinyfcn.kernels.cpu import gathered_blocks, memory

    gathered_blocks.PARALLEL_WORK = 0  # all threads take part
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    shared = runpy.run_path(str(pathlib.Path(__file__).with_name("calls.py")))
    calls, kernel_of = shared["CALLS"], shared["kernel_of"]
    for at_end in (True, False):
        for name in names:
            if name == "overrun":
                overrun()
            guard_allocations(memory, at_end)
            args, kwargs = calls[name](np.random.default_rng(1), dtype)
            kernel_of(name, cpu)(*(guarded(value, at_end) for value in args), **kwargs)
        if "matrix_product" in names:
            for m, k, n in [(1, 1, 1), (13, 3, 1), (14, 32, 33), (15, 100, 31), (33, 257, 17)]:
                for transpose_a in (False, True):
                    for transpose_b in (False, True):
                        a = np.ones((k, m) if transpose_a else (m, k), dtype)
                        b = np.ones((n, k) if transpose_b else (k, n), dtype)
                        guard_allocations(memory, at_end)
                        c = cpu.matrix_product(guarded(a, at_end), guarded(b, at_end),
                                               transpose_a, transpose_b)
                        assert (c == k).all()


if __name__ == "__main__":
    main(np.dtype(sys.argv[1]).type, sys.argv[2:])
