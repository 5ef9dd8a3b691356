"""How kernels are compiled: at the first call, once a machine, kept on disk.

A kernel states its types, so that it can be compiled without being called, which the tests do for
GPUs that are not there. Arrays are passed as bare pointers and numbers as NumPy's scalars, straight
to cuda.core: a launch then costs a fraction of what it costs through Numba, which looks at every
argument anew and passes shape and strides of arrays along.
"""

import functools
import threading

import numpy as np
from numba import cuda
from numba.cuda import types

from . import launch
from .launch import SIMULATED

# Types of arguments. A pointer's are what an array holds.
FLOATS = types.CPointer(types.float32)
DOUBLES = types.CPointer(types.float64)
INTS = types.CPointer(types.int32)
BYTES = types.CPointer(types.uint8)
SHORTS = types.CPointer(types.uint16)
WORDS = types.CPointer(types.uint32)
INT = types.int32
FLOAT = types.float32
LONG = types.uint64

# Numbers as a launch passes them; pointers are Python's ints.
AS_PASSED = {INT: np.int32, FLOAT: np.float32, LONG: np.uint64}

if not SIMULATED:
    from cuda import core

# Compiling, and the simulator's launches, take one thread at a time.
_one_at_a_time = threading.RLock()


def inline(function):
    """Decorator of a function that kernels call; compiled into its callers.

    It must not use `cuda` itself: the simulator calls it as the Python function that it is.
    """
    return function if SIMULATED else cuda.jit(device=True, forceinline=True)(function)


def kernel(*argument_types, threads=256, blocks=1, lowest=(7, 5)):
    """Decorator of a kernel; ``launch(grid, *arguments)`` of what it makes runs it.

    Parameters
    ----------
    *argument_types
        From the list above.
    threads : int or tuple
        Of a block.
    blocks : int
        How many shall fit on a multiprocessor at once: bounds the registers.
    lowest : (major, minor)
        The lowest compute capability that has what the kernel uses.
    """
    return lambda function: Kernel(function, argument_types, threads, blocks, lowest)


class Kernel:
    """A kernel, compiled when it is first launched."""

    def __init__(self, function, argument_types, threads, blocks, lowest):
        functools.update_wrapper(self, function)
        self.function = function
        self.argument_types = argument_types
        self.as_passed = [AS_PASSED.get(kind, int) for kind in argument_types]
        self.threads = (threads, 1, 1) if isinstance(threads, int) else (*threads, 1)[:3]
        self.bounds = self.threads[0] * self.threads[1] * self.threads[2], blocks
        self.lowest = lowest
        self.compiled = self.loaded = None

    def launch(self, grid, *arguments):
        """Queue a run on the compute stream. `grid` is an int or up to three: blocks in x, y, z."""
        grid = (grid, 1, 1) if isinstance(grid, int) else (*grid, 1, 1)[:3]
        arguments = [getattr(argument, "address", argument) for argument in arguments]
        try:
            stream = launch.compute_stream()
            if self.compiled is None:
                self.compile()
            if SIMULATED:
                self._simulate(grid, arguments)
            else:
                self._launch(stream, grid, arguments)
        except Exception as error:
            raise launch.translated(error) from None

    def compile(self):
        """Make it ready to be launched: compile it, or load it from disk."""
        with _one_at_a_time:
            if self.compiled is not None:
                return
            if SIMULATED:
                self.compiled = cuda.jit(self.function)
                return
            from . import cache  # only here: the simulator has nothing to keep

            dispatcher = cuda.jit(launch_bounds=self.bounds)(self.function)
            try:
                dispatcher._cache = cache.KernelCache(self.function, self.argument_types)
            except RuntimeError:  # neither the package's folder nor the user's can be written
                cache.warn_of_missing_folder()
                cache.announce_compilation()
            self.compiled = dispatcher.compile(self.argument_types)

    def _launch(self, stream, grid, arguments):
        if self.loaded is None:
            # The function that Numba found or made, on the GPU that this process uses.
            self.loaded = self.compiled._codelibrary.get_cufunc()
        passed = [as_passed(0 if argument is None else argument)
                  for as_passed, argument in zip(self.as_passed, arguments, strict=True)]
        config = core.LaunchConfig(grid=grid, block=self.threads)
        core.launch(stream, config, self.loaded.kernel, *passed)

    def _simulate(self, grid, arguments):
        nothing = cuda.device_array(0, np.float32)
        as_typed = [
            nothing if argument is None
            else np.float32(argument) if kind == FLOAT
            else np.uint64(argument) if kind == LONG
            else argument
            for kind, argument in zip(self.argument_types, arguments, strict=True)
        ]
        with _one_at_a_time, np.errstate(all="ignore"):
            self.compiled[grid, self.threads](*as_typed)
