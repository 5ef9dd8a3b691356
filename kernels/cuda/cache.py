"""The compiled kernels on disk."""

import contextlib
import functools
import hashlib
import logging
import pathlib

import numba_cuda
from numba.cuda.core.caching import IndexDataCacheFile
from numba.cuda.dispatcher import CUDACache

logger = logging.getLogger("tinyfcn")


def source_digest():
    """A hash of every source file of this package."""
    digest = hashlib.sha256()
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


# At the import, so that it is of the code that runs, whatever is edited later.
SOURCE_DIGEST = source_digest()


@functools.cache
def warn_of_missing_folder():
    """Say, once a process, why every process compiles."""
    logger.warning("no folder to keep compiled kernels in: compiling in every process")


@functools.cache
def announce_compilation():
    """Say, once a process, why the first call takes long."""
    logger.info("compiling kernels for this GPU (done once, then kept on disk) ...")


class KernelCache(CUDACache):
    """Numba's on-disk cache of a kernel, keyed also by all the source that it may be made of.

    Kernels of one factory have one name and one line, and differ in the constants that they were
    made with. Each has files of its own, so that processes that compile at once do not disturb each
    other. Intrinsics among the constants go by their names: pickled, as Numba would, they would
    differ from process to process.
    """

    def __init__(self, function, argument_types):
        super().__init__(function)
        constants = [cell.cell_contents for cell in function.__closure__ or ()]
        identity = [getattr(each, "__name__", repr(each)) for each in constants]
        digest = hashlib.sha256(repr((argument_types, identity)).encode()).hexdigest()[:16]
        self._cache_file = IndexDataCacheFile(
            self._cache_path, f"{self._impl.filename_base}-{digest}",
            self._impl.locator.get_source_stamp())

    def _index_key(self, sig, codegen):
        return sig, codegen.magic_tuple(), numba_cuda.__version__, SOURCE_DIGEST

    def load_overload(self, sig, target_context):
        try:
            found = super().load_overload(sig, target_context)
        except Exception as error:  # a damaged file: whatever unpickling it leads to
            logger.debug("cache of %s: %s", self._name, error)
            with contextlib.suppress(OSError):
                self.flush()
            found = None
        if found is None:
            announce_compilation()
        return found

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except OSError as error:  # a full disk, say: the kernel is compiled and can run
            logger.warning("cannot keep a compiled kernel: %s", error)
