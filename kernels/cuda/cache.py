"""The compiled kernels on disk."""

import contextlib
import logging

from numba.cuda.dispatcher import CUDACache

from .compilation import SOURCE_DIGEST, announce_compilation

logger = logging.getLogger("tinyfcn")


class KernelCache(CUDACache):
    """Numba's on-disk cache of a kernel, keyed also by all the source that it may be made of."""

    def _index_key(self, sig, codegen):
        return (*super()._index_key(sig, codegen), SOURCE_DIGEST)

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
