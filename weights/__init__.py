"""Weight files: from a file to {name: array} and back. Knows formats, not models.

The format of a file is told by its content, never by its name. Formats read: Caffe's .caffemodel,
Keras's and the project's own HDF5, PyTorch's .pth and .pt, safetensors, NumPy's .npz and .npy,
MatConvNet's .mat. What each calls its tensors stands at the head of its module.
"""
import hashlib
import importlib
import os
import stat

import numpy as np

from tinyfcn.weights.errors import WeightsError, weights_error
from tinyfcn.weights.tensors import SLICE_BYTES, forget

__all__ = ["WeightsError", "describe", "read", "read_into", "sha256", "shapes", "shipped", "write"]

# The module of each format, in the order in which they are asked whether a file is theirs: those
# that are sure of it first.
FORMATS = ("numpy_files", "torch_pickle", "matconvnet", "keras_hdf5", "hdf5_file",
           "safetensors_file", "caffe")

# What lies under the name of a weight file when a download went wrong, by its first bytes.
OTHER_FILES = {
    b"<!doctype html": "a web page", b"<html": "a web page", b"<?xml": "an XML text",
    b"version https://git-lfs": "a pointer of Git LFS to the file (git lfs pull fetches it)",
    b"\x1f\x8b": "compressed by gzip (gunzip it)", b"pk\x03\x04": "a zip archive without arrays",
    b"\x80": "a bare pickle",
}


def read(path):
    """Read all tensors of a file as they are stored.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    Tensors
        A dict of str to ndarray, by the names of the file, such as "conv1_1/weights"; dtypes are
        those of the file, in the machine's byte order, and float32 for what NumPy has no type for
        (bfloat16, PyTorch's floating-point numbers of 8 bits and its quantised ones). `format`
        says what kind of file it is, `notes` what was left out. Large arrays are read-only views
        of the mapped file: only what is touched takes memory, and `tensors.forget` gives that
        back.

    Raises
    ------
    WeightsError
        The file is missing, damaged, hostile or of no format known here.
    """
    return _format_of(path).read(path)


def describe(path):
    """Read what a file says of itself.

    Returns
    -------
    dict
        For the project's own files "format", "model", "arguments", "class_names", "colours",
        "ignore_label", "preprocessing" and "training", as far as they were written; empty if
        the file says nothing. The values are the file's: check them before use.

    Raises
    ------
    WeightsError
    """
    module = _format_of(path)
    return module.describe(path) if hasattr(module, "describe") else {}


def shapes(path):
    """Read the shapes of all tensors without their data.

    Returns
    -------
    dict of str to tuple of int

    Raises
    ------
    WeightsError
    """
    module = _format_of(path)
    if hasattr(module, "shapes"):
        return module.shapes(path)
    return {name: array.shape for name, array in module.read(path).items()}


def read_into(path, arrays):
    """Read tensors into existing arrays, one after the other.

    Parameters
    ----------
    path : str or path-like
    arrays : dict of str to ndarray
        Are modified in place: all of them, or none if an error is raised. Shapes must be those
        of the file; values are cast.

    Raises
    ------
    WeightsError
    """
    module = _format_of(path)
    if hasattr(module, "read_into"):
        module.read_into(path, arrays)
        return
    tensors = module.read(path)
    for name, array in arrays.items():
        if name not in tensors:
            raise weights_error(path, f"holds no {name}")
        if tensors[name].shape != array.shape:
            raise weights_error(path, f"{name} is {tensors[name].shape} in the file, "
                                      f"{array.shape} expected")
    for name, array in arrays.items():
        _copy(array, tensors[name])


def _copy(array, stored):
    """Copy a tensor slice by slice, so that little of the mapped file is in memory at a time."""
    target = array.reshape(array.shape or (1,))
    stored = stored.reshape(target.shape)
    step = max(1, SLICE_BYTES * len(target) // max(1, target.nbytes))
    for start in range(0, len(target), step):
        with np.errstate(over="ignore"):
            np.copyto(target[start:start + step], stored[start:start + step], casting="same_kind")
        forget(stored)


def write(path, tensors, about, dtype=None):
    """Write tensors and a description, all or nothing.

    Parameters
    ----------
    path : str or path-like
        A name that ends in ".safetensors" makes a file of that format, any other an HDF5 file.
    tensors : dict of str to ndarray
    about : dict
        JSON values; what `describe` returns.
    dtype : optional
        Floating-point tensors are stored in it, such as "float16"; None keeps each one's own.

    Raises
    ------
    WeightsError
        Nothing was written; a file of that name is as it was.
    """
    name = "safetensors_file" if os.fsdecode(path).endswith(".safetensors") else "hdf5_file"
    _module(name).write(path, tensors, about, dtype)


def sha256(path):
    """Compute the SHA-256 of a file's bytes, as 64 hexadecimal digits.

    Raises
    ------
    WeightsError
        The file cannot be read.
    """
    _check_is_file(path)
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise weights_error(path, f"cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def shipped(model_name):
    """Find the weights that come with the package.

    Parameters
    ----------
    model_name : str
        As in `tinyfcn.models.BY_NAME`, for instance "fcn8s".

    Returns
    -------
    str or None
        The path of the file, which is named DATASET_MODEL.h5; None if there is none.
    """
    folder = os.path.dirname(os.path.abspath(__file__))
    names = sorted(name for name in os.listdir(folder) if name.endswith(f"_{model_name}.h5"))
    return os.path.join(folder, names[0]) if names else None


def _format_of(path):
    _check_is_file(path)
    try:
        for name in FORMATS:
            module = _module(name)
            if module.recognise(path):
                return module
    except OSError as error:
        raise weights_error(path, f"cannot be read: {error.strerror}") from error
    with open(path, "rb") as stream:
        head = stream.read(1024).lstrip().lower()
    for start, what in OTHER_FILES.items():
        if head.startswith(start):
            raise weights_error(path, f"not a weight file of a known format, but {what}")
    raise weights_error(path, "not a weight file of a known format (known: Caffe, HDF5, Keras, "
                              "MatConvNet, NumPy, PyTorch, safetensors)")


def _check_is_file(path):
    # Opening a pipe would wait for ever.
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise weights_error(path, f"cannot be read: {reason}") from error
    if stat.S_ISDIR(status.st_mode):
        raise weights_error(path, "is a folder, not a weight file")
    if not stat.S_ISREG(status.st_mode):
        raise weights_error(path, "is not a regular file")
    if status.st_size == 0:
        raise weights_error(path, "is empty")


def _module(name):
    # Only now: the formats' libraries take longer to import than all the rest.
    return importlib.import_module(f"{__name__}.{name}")
