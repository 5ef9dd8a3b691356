"""What every reader makes: named arrays, left in their file where they lie there as they are."""
import math
import mmap
import os
import shutil
import tempfile

import numpy as np

from tinyfcn.weights.errors import weights_error

MAX_TENSORS = 10_000
MAX_NAME = 300
MAX_RANK = 8
MAX_TENSOR_BYTES = 2 << 30
MAX_TOTAL_BYTES = 8 << 30
# Tensors that do not lie in their file as they are (compressed, say) and are at least this large
# wait in an unnamed temporary file, not in memory.
SPOOL_BYTES = 4 << 20
BLOCK_BYTES = 1 << 20
# Weights hardly shrink; zeros do, by three orders of magnitude. What is large and unpacks to so
# much more than itself holds nothing but air.
MAX_RATIO, SMALL = 200, 64 << 20
# What is copied or converted at a time, so that no tensor is in memory twice.
SLICE_BYTES = 1 << 22


class Tensors(dict):
    """The tensors of one file, {name: array}.

    Large ones are views of the mapped file: read-only, and in memory only where they are touched.

    Attributes
    ----------
    path : str or path-like
    format : str
        What kind of file it is, in words.
    notes : list of str
        What a user should know of how it was read, such as what was left out.
    """

    def __init__(self, path, format):
        super().__init__()
        self.path = path
        self.format = format
        self.notes = []
        self.bytes = 0

    def put(self, name, array):
        """Add a tensor under a name that is new and can be shown, within the limits."""
        shown = check_name(self.path, name)
        if name in self:
            raise weights_error(self.path, f"{shown} is there twice")
        if len(self) >= MAX_TENSORS:
            raise weights_error(self.path, f"more than {MAX_TENSORS} tensors")
        self.bytes += check_tensor(self.path, shown, array.dtype, array.shape)
        if self.bytes > MAX_TOTAL_BYTES:
            raise weights_error(self.path, f"declares more than {MAX_TOTAL_BYTES} bytes of tensors")
        self[name] = array


def check_name(path, name):
    """Raise WeightsError for a name that is none; returns it as short as a message needs it."""
    shown = short(name)
    if not name:
        raise weights_error(path, "a tensor has no name")
    if len(name) > MAX_NAME:
        raise weights_error(path, f"a name has more than {MAX_NAME} characters: {shown}")
    if not name.isprintable():
        raise weights_error(path, f"a name has control characters: {shown}")
    return shown


def check_tensor(path, name, dtype, shape):
    """Raise WeightsError for what no weight is; returns the bytes that dtype and shape take."""
    if dtype.kind not in "fiub" or dtype.itemsize > 8:
        raise weights_error(path, f"{name} is of type {short(str(dtype))}, which is not read")
    if len(shape) > MAX_RANK:
        raise weights_error(path, f"{name} has {len(shape)} dimensions")
    if any(n < 0 for n in shape):
        raise weights_error(path, f"{name} has a negative size {short(str(tuple(shape)))}")
    size = math.prod(shape) * dtype.itemsize
    if size > MAX_TENSOR_BYTES:
        raise weights_error(path, f"{name} declares {size} bytes {short(str(tuple(shape)))}; "
                                  f"{MAX_TENSOR_BYTES} is the most that is read")
    return size


def check_ratio(path, what, unpacked, packed):
    """Raise WeightsError for compressed data that unpack to far more bytes than they are."""
    if unpacked > MAX_TOTAL_BYTES or unpacked > max(SMALL, MAX_RATIO * packed):
        raise weights_error(path, f"{what} unpacks to {unpacked} bytes from {packed}, which is "
                                  "refused")


def short(text, length=80):
    """Cut a text out of a file to what a message needs."""
    return text if len(text) <= length else text[:length - 3] + "..."


def map_file(path):
    """Map a file as read-only bytes.

    Returns
    -------
    memmap of uint8, (bytes,)
    """
    try:
        return np.memmap(path, np.uint8, mode="r")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise weights_error(path, f"cannot be read: {reason}") from error


def view(data, offset, dtype, shape, strides=None):
    """See a part of mapped bytes as an array; the caller has checked that it lies within.

    Parameters
    ----------
    data : ndarray of uint8, (bytes,)
    offset : int
    dtype : dtype
    shape : tuple of int
    strides : tuple of int, optional
        In elements; none of them negative.
    """
    if 0 in shape:
        return np.empty(shape, dtype)
    if strides is None:
        return data[offset:offset + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
    extent = 1 + sum((n - 1) * step for n, step in zip(shape, strides))
    line = data[offset:offset + extent * dtype.itemsize].view(dtype)
    return np.lib.stride_tricks.as_strided(
        line, shape, [step * dtype.itemsize for step in strides], subok=True, writeable=False)


def gather(path, name, blocks, dtype, shape):
    """Put a tensor together that does not lie in its file as it is.

    Parameters
    ----------
    path, name
        For messages.
    blocks : iterable of bytes-like
        The tensor's bytes in C order, piece by piece.
    dtype : dtype
    shape : tuple of int
        Already checked against the limits.

    Returns
    -------
    ndarray
        As `room` makes it.
    """
    size = math.prod(shape) * dtype.itemsize
    array = room(path, name, dtype, shape)
    target, at = array.reshape(-1).view(np.uint8), 0
    for block in blocks:
        if at + len(block) > size:
            raise weights_error(path, f"{name} {shape} has more data than its shape takes")
        target[at:at + len(block)] = np.frombuffer(block, np.uint8)
        at += len(block)
        forget(array)
    if at < size:
        raise weights_error(path, f"{name} {shape} has less data than its shape takes")
    return array


def room(path, name, dtype, shape):
    """Make an array to be filled: in memory if it is small, else in an unnamed temporary file."""
    size = math.prod(shape) * dtype.itemsize
    if size < SPOOL_BYTES:
        return np.empty(shape, dtype)
    try:
        with tempfile.TemporaryFile() as stream:
            if shutil.disk_usage(tempfile.gettempdir()).free < size + (64 << 20):
                raise OSError(None, "no space left for it in the temporary folder")
            if hasattr(os, "posix_fallocate"):
                # A disk that is full when a mapped page is written ends the process.
                os.posix_fallocate(stream.fileno(), 0, size)
            return np.memmap(stream, dtype, mode="r+", shape=shape)
    except OSError as error:
        raise weights_error(
            path, f"{name} cannot be unpacked: {error.strerror or error}") from error


def native(array):
    """Bring an array of the other byte order into the machine's."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def forget(array):
    """Give back the memory that a view of a mapped file took where it was touched.

    The numbers stay readable: what is touched again comes from the file again.
    """
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
