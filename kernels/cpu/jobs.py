"""Work that threads share job by job, so that one which is held up delays no other.

A task is a function of what all jobs are given, a job's number and that of the thread that does it,
compiled by itself like all that is called by its address (`callables`)::

    def _run(given, job, worker):
        x, x_shape, y, scratch = given[0]
        ...

    task = compile_task(_run, (numbers, SHAPE, numbers, types.Array(number, 2, "C")))
    do_jobs(task, count, workers, x, x.shape, y, scratch)

One parallel kernel, `_do_jobs`, serves them all: Numba makes four functions of each `prange`, and
the second of compiling that this takes would be due for every task.
"""

import functools
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import from_dtype, prange, types
from numba.extending import intrinsic

from .callables import call, compile_callable, pointer
from .compilation import kernel
from .simd import INT, build_pointer


class Task(NamedTuple):
    address: int
    kinds: tuple  # of what it is given: Numba types


def task_types(dtype):
    """Types of what a task is given: a pointer to numbers, scratch memory with a row a thread."""
    number = from_dtype(dtype)
    return types.CPointer(number), types.Array(number, 2, "C")


def compile_task(run, kinds):
    """Compile ``run(given, job, worker)``; ``given[0]`` is a tuple of such Numba types.

    They are pointers, arrays, tuples of int64, or `types.intp` for integers and booleans.
    """
    given = types.CPointer(types.Tuple(kinds))
    return Task(compile_callable(run, (given, types.intp, types.intp)), kinds)


def do_jobs(task, count, workers, *given):
    """Have so many threads do the jobs 0 : count of a task.

    Raises
    ------
    TypeError
        If an array is not what the task was compiled for.
    """
    words = [word for kind, value in zip(task.kinds, given, strict=True)
             for word in _words(kind, value)]
    _do_jobs(task.address, np.array(words, np.int64), count, counter(), workers,
             threads=workers)


_number = functools.cache(from_dtype)


def _words(kind, value):
    """A value as it lies in memory, in numbers of 8 bytes."""
    if not isinstance(value, np.ndarray):
        return value if isinstance(value, tuple) else (value,)
    any_shape = isinstance(kind, types.CPointer)
    if not (_number(value.dtype) == kind.dtype and value.flags.c_contiguous
            and (any_shape or value.ndim == kind.ndim)):
        raise TypeError(f"a task for {kind} was given {value.dtype} {value.shape}, strides "
                        f"{value.strides}")
    address = value.ctypes.data
    if any_shape:
        return (address,)
    # As Numba lays out arrays; their owner, asked for twice, is nobody.
    return 0, 0, value.size, value.itemsize, address, *value.shape, *value.strides


def counter():
    """A counter of jobs for `take_job`, at the first."""
    return np.zeros(1, np.int64)


@intrinsic
def take_job(typingctx, counter):
    """The number in ``counter[0]``, which is raised by one for whoever asks next."""

    def codegen(context, builder, signature, args):
        pointer = build_pointer(context, builder, counter, args[0], ir.Constant(INT, 0))
        return builder.atomic_rmw("add", pointer, ir.Constant(INT, 1), "monotonic")

    return types.int64(counter), codegen


@kernel
def _do_jobs(run, given, count, taken, workers):
    for worker in prange(workers):
        job = take_job(taken)
        while job < count:
            call(run, pointer(given, 0), job, worker)
            job = take_job(taken)
