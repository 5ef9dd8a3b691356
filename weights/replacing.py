"""Writes weight files in one step: all of the new one or all of the old."""
import contextlib
import os
import secrets
import shutil

import numpy as np

from tinyfcn.weights.errors import WeightsError, weights_error


@contextlib.contextmanager
def replacing(path, size):
    """Give a temporary name that becomes `path` if all goes well, and vanishes if not.

    Parameters
    ----------
    path : str or path-like
        A link stays a link, to the new content.
    size : int
        The bytes that the file will take, about.

    Yields
    ------
    str
        The name of an empty file in the same folder. The caller sees to it that what it writes
        there is on the disk.

    Raises
    ------
    WeightsError
        The folder or the disk does not take the file; errors that the caller's writing raises
        become this one.
    """
    # The temporary file must lie on the file system of the real one.
    final = os.path.realpath(path)
    folder, base = os.path.split(final)
    temporary = os.path.join(folder, f".{base[:80]}.{secrets.token_hex(6)}.tmp")
    try:
        if os.path.isdir(final):
            raise IsADirectoryError(None, "it is a folder")
        if shutil.disk_usage(folder).free < size + (1 << 16):
            raise OSError(None, "no space left on device")
        # Unlike those of the tempfile module, the file has the permissions of a normal new one.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        os.replace(temporary, final)
        _sync_folder(folder)
    except (OSError, RuntimeError, ValueError) as error:
        # A WeightsError is a ValueError that has its line already.
        if isinstance(error, WeightsError):
            raise
        reason = " ".join((getattr(error, "strerror", None) or str(error)).split())
        raise weights_error(path, f"cannot be written: {reason[:160]}") from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def stored_dtype(path, name, tensor, dtype):
    """The type that a tensor is stored in: floating-point ones in `dtype`, unless it is None."""
    if tensor.dtype.kind not in "fiu" or tensor.dtype.itemsize > 8:
        raise weights_error(path, f"cannot be written: {name} is of type {tensor.dtype}")
    return tensor.dtype if dtype is None or tensor.dtype.kind != "f" else np.dtype(dtype)


def to_store(path, name, tensor, dtype):
    """A tensor as it is stored: C-contiguous, in `stored_dtype`, and finite where it was."""
    target = stored_dtype(path, name, tensor, dtype)
    with np.errstate(over="ignore"):
        stored = np.asarray(tensor, dtype=target, order="C")
    if target != tensor.dtype and np.isinf(stored).sum() != np.isinf(tensor).sum():
        raise weights_error(path, f"cannot be written: {name} has values beyond {target}")
    return stored


def sync(path):
    """See a file's content on the disk."""
    with open(path, "rb+") as stream:
        os.fsync(stream.fileno())


def _sync_folder(folder):
    """See the new name on the disk: else a power cut may bring the old file back."""
    # The file is whole and in its place: a system that cannot sync a folder is no failure.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
