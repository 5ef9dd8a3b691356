"""Weight files: from a file to {name: array} and back. Knows formats, not models.

The format of a file is told by its content, never by its name. Formats read: HDF5.
"""
import hashlib
import importlib
import os
import stat

from tinyfcn.weights.errors import WeightsError, weights_error

__all__ = ["WeightsError", "describe", "read", "read_into", "sha256", "shapes", "shipped", "write"]

# The module of each format, in the order in which they are asked whether a file is theirs.
FORMATS = ("hdf5_file",)


def read(path):
    """Read all tensors of a file as they are stored.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    dict of str to ndarray
        By full name, such as "conv1_1/weights"; dtypes are those of the file.

    Raises
    ------
    WeightsError
        The file is missing, damaged or of no format known here.
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
    return _format_of(path).describe(path)


def shapes(path):
    """Read the shapes of all tensors without their data.

    Returns
    -------
    dict of str to tuple of int

    Raises
    ------
    WeightsError
    """
    return _format_of(path).shapes(path)


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
    _format_of(path).read_into(path, arrays)


def write(path, tensors, about, dtype=None):
    """Write tensors and a description as HDF5, all or nothing.

    Parameters
    ----------
    path : str or path-like
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
    _module("hdf5_file").write(path, tensors, about, dtype)


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
    raise weights_error(path, "not a weight file of a known format (known: HDF5)")


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
