"""HDF5 files of named tensors: one dataset a tensor, under its full name ("conv1_1/weights").

The root attribute "tinyfcn" is a JSON object that says what the tensors are. Any other HDF5 file
of plain numeric datasets can be read too; it merely says nothing of itself. How damaged and
hostile files are met is in `hdf5_safety`.
"""
import io

import h5py
import numpy as np

from tinyfcn.weights.description import KEY, to_text
from tinyfcn.weights.errors import weights_error
from tinyfcn.weights.hdf5_safety import (
    MAX_DEPTH, append_trailer, opened, read_pieces, recognise)
from tinyfcn.weights.replacing import replacing, stored_dtype, to_store
from tinyfcn.weights.tensors import (
    MAX_NAME, MAX_TENSORS, Tensors, forget, map_file, native, room, view)

# Smaller tensors are read: a view would keep the file open for nothing.
MAPPED_BYTES = 1 << 16

__all__ = ["describe", "map_tensor", "read", "read_into", "recognise", "shapes", "write"]


def read(path):
    """Read all tensors as they are stored.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    Tensors
        By full name, in the order of the names; float16, float32, float64 or integers, in the
        machine's byte order. Large ones are views of the mapped file, where it is not compressed.

    Raises
    ------
    WeightsError
        The file is missing, damaged, or holds something that a weight file has no use for.
    """
    with opened(path) as (datasets, about):
        tensors = Tensors(path, "tinyfcn model (HDF5)" if about else "HDF5")
        data = map_file(path)
        for name, dataset in datasets.items():
            tensors.put(name, map_tensor(path, name, dataset, data))
        return tensors


def map_tensor(path, name, dataset, data):
    """See a tensor in the mapped file; read it, if it is small or does not lie there as it is."""
    offset = dataset.id.get_offset()
    if offset is not None and dataset.size * dataset.dtype.itemsize >= MAPPED_BYTES:
        return native(view(data, offset, dataset.dtype, dataset.shape))
    array = room(path, name, dataset.dtype.newbyteorder("="), dataset.shape)
    for place, piece in read_pieces(path, name, dataset):
        array[place] = piece
        forget(array)
    return array


def shapes(path):
    """Read the shapes of all tensors, without their data.

    Returns
    -------
    dict of str to tuple of int

    Raises
    ------
    WeightsError
    """
    with opened(path) as (tensors, _):
        return {name: tuple(dataset.shape) for name, dataset in tensors.items()}


def describe(path):
    """Read what the file says of itself: the JSON object in its attribute "tinyfcn".

    Returns
    -------
    dict
        Empty if there is no such attribute.

    Raises
    ------
    WeightsError
    """
    with opened(path) as (_, about):
        return about


def read_into(path, arrays):
    """Read tensors into arrays that exist, one after the other.

    Every tensor is read once for trial before the first array is touched: a file that fails half
    way leaves the arrays as they were. Beyond the arrays, memory for a piece of a tensor is taken.

    Parameters
    ----------
    path : str or path-like
    arrays : dict of str to ndarray
        Are modified in place. Each must have the shape of the tensor; values are cast to its
        dtype.

    Raises
    ------
    WeightsError
        Also when a name is not in the file, or its shape is another one.
    """
    with opened(path) as (tensors, _):
        for name, array in arrays.items():
            if name not in tensors:
                raise weights_error(path, f"holds no {name}")
            if tuple(tensors[name].shape) != array.shape:
                raise weights_error(path, f"{name} is {tuple(tensors[name].shape)} in the file, "
                                          f"{array.shape} expected")
        for name in arrays:
            for _ in read_pieces(path, name, tensors[name]):
                pass
        for name, array in arrays.items():
            for place, piece in read_pieces(path, name, tensors[name]):
                with np.errstate(over="ignore"):
                    np.copyto(array[(*place, ...)], piece, casting="same_kind")


def write(path, tensors, about, dtype=None):
    """Write tensors and their description, in one step: all of the new file or all of the old.

    The file appears under its name when it is complete and on the disk.

    Parameters
    ----------
    path : str or path-like
    tensors : dict of str to ndarray
        By full name, such as "conv1_1/weights".
    about : dict
        Whatever JSON can hold; "format" is added.
    dtype : optional
        Floating-point tensors are stored in it, for instance "float16"; None keeps each one's own.

    Raises
    ------
    WeightsError
        A name or the description cannot be stored, a finite value is infinite in `dtype`, or the
        folder or the disk does not take the file. The old file is untouched then.
    """
    about = to_text(path, about)
    stored_bytes = sum(
        stored_dtype(path, name, tensor, dtype).itemsize * tensor.size
        for name, tensor in tensors.items()
    )
    if len(tensors) > MAX_TENSORS:
        raise weights_error(path, f"cannot be written: more than {MAX_TENSORS} tensors")

    with replacing(path, stored_bytes) as temporary:
        _write_hdf5(path, temporary, tensors, about, dtype)
        append_trailer(temporary)


class _PatientFile(io.FileIO):
    """A file that keeps the first error for itself, and from then on only pretends to write.

    A libhdf5 that cannot write does not close its file, and some versions crash at the end of
    the process.
    """

    failure = None

    def _try(self, function, *arguments):
        if self.failure is None:
            try:
                return function(*arguments)
            except OSError as error:
                self.failure = error
        return None

    def write(self, data):
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            # The system may take a part only; None is a failure, now or earlier.
            count = self._try(super().write, view[done:])
            if count is None:
                break
            done += count
        return len(view)

    def readinto(self, buffer):
        count = self._try(super().readinto, buffer)
        return len(buffer) if self.failure else count

    def truncate(self, size=None):
        self._try(super().truncate, size)
        return size


def _write_hdf5(path, temporary, tensors, about, dtype):
    with _PatientFile(temporary, "r+") as stream:
        _write_tensors(path, stream, tensors, about, dtype)
        if stream.failure is not None:
            raise stream.failure


def _write_tensors(path, stream, tensors, about, dtype):
    with h5py.File(stream, "w") as file:
        file.attrs[KEY] = about
        for name, tensor in tensors.items():
            _check_name(path, name)
            file.create_dataset(name, data=to_store(path, name, tensor, dtype))


def _check_name(path, name):
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts) or len(name) > MAX_NAME \
            or len(parts) > MAX_DEPTH:
        raise weights_error(path, f"cannot be written: {name[:80]!r} is not a tensor's name")
