"""How kernels are compiled: once a machine, kept on disk, callable from any Python thread.

Numba keys a function's cache by its own source file and the processor. Our kernels also depend on
the files they call into and on the SIMD width in force, so both are added to the key: an edit
anywhere in this package, or another `TINYFCN_SIMD`, compiles anew and never fetches a stale kernel.
"""

import contextlib
import functools
import hashlib
import logging
import pathlib
import threading

import numba
from numba import njit
from numba.core.caching import FunctionCache
from numba.core.runtime import rtsys

from . import simd
from .threads import thread_count

logger = logging.getLogger("tinyfcn")

OPTIMIZATION_LEVEL = 1

# One parallel kernel at a time: Numba's workqueue threading layer aborts the process when two
# Python threads enter it at once, and a kernel uses every core anyway.
_running = threading.Lock()


def source_digest():
    """A hash of every source file of this package."""
    digest = hashlib.sha256()
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@functools.cache
def warn_of_missing_folder():
    """Say, once a process, why every process compiles."""
    logger.warning("no folder to keep compiled kernels in: compiling in every process")


# At the import, so that it is of the code that runs, whatever is edited later.
SOURCE_DIGEST = source_digest()


@functools.cache
def announce_compilation():
    """Say, once a process, why the first call takes long."""
    logger.info("compiling kernels for this machine (done once, then kept on disk) ...")


class KernelCache(FunctionCache):
    """Numba's on-disk cache of a function, keyed also by what its code depends on."""

    def _index_key(self, sig, codegen):
        return (*super()._index_key(sig, codegen), simd.BITS, SOURCE_DIGEST)

    def load_overload(self, sig, target_context):
        try:
            # As Numba's own does, but for what is there to compile with: to load that takes longer
            # than to load all kernels of a net, and who compiles loads it anyway.
            rtsys.initialize(target_context)
            with self._guard_against_spurious_io_errors():
                found = self._load_overload(sig, target_context)
        except Exception as error:  # a damaged file: whatever unpickling it leads to
            logger.debug("cache of %s: %s", self._name, error)
            self.flush_damaged()
            found = None
        if found is None:
            announce_compilation()
        return found

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except OSError as error:  # a full disk, say: the kernel is compiled and can run
            logger.warning("cannot keep a compiled kernel: %s", error)

    def flush_damaged(self):
        """Begin the function's index anew, since it cannot be read or names what cannot be."""
        with contextlib.suppress(OSError):
            self.flush()


def keep_on_disk(function):
    """The cache for what `function` compiles to, or None where no folder can be written."""
    try:
        return KernelCache(function)
    except RuntimeError:  # neither the package's folder nor the user's cache
        warn_of_missing_folder()
        return None


@contextlib.contextmanager
def optimization_level():
    """Compile with another optimization level than the process's `NUMBA_OPT`.

    Explicit vectors leave little to optimize; level 3 takes twice as long for the same speed.
    """
    before = numba.config.OPT
    numba.config.OPT = type(before)(OPTIMIZATION_LEVEL)  # numba asks it more than its number
    try:
        yield
    finally:
        numba.config.OPT = before


inline = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""Decorator of a function that kernels call; compiled into its callers."""


def kernel(function):
    """Decorator of a parallel kernel (its outer loop is a `prange`), called by its launcher.

    Where the work is too little to wake other threads for, the launcher says ``threads=1``.
    """
    compiled = njit(
        parallel=True, nogil=True, error_model="numpy", no_cfunc_wrapper=True
    )(function)
    compile_any_level = compiled.compile

    def compile(signature):
        with optimization_level():
            return compile_any_level(signature)

    compiled.compile = compile
    compiled._cache = keep_on_disk(function) or compiled._cache

    @functools.wraps(function)
    def launch(*arguments, threads=None):
        with _running:
            before = numba.get_num_threads()
            numba.set_num_threads(threads or thread_count())
            try:
                return compiled(*arguments)
            finally:
                numba.set_num_threads(before)

    launch.compiled = compiled
    return launch
