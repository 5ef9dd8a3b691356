"""What launchers ask of their arrays before a kernel, which checks nothing, may touch them."""

import numpy as np

from .memory import DeviceArray

LARGEST = 2**31 - 4  # places are 32-bit numbers


def check_arrays(name, **arrays):
    """Raise TypeError or ValueError if an (array, ndim) is not on the GPU, float32, of its ndim."""
    for argument, (array, ndim) in arrays.items():
        if array is None:
            continue
        if not isinstance(array, DeviceArray):
            raise TypeError(f"{name}: {argument} is not on the GPU but a {type(array).__name__}")
        if array.ndim != ndim:
            raise ValueError(f"{name}: {argument} must have {ndim} axes, got shape {array.shape}")
        if array.dtype != np.float32:
            raise ValueError(f"{name}: on a GPU all arrays must be float32, got {array.dtype}")
        check_size(f"{name}: {argument}", array.shape, array.size)


def check_size(what, shape, size):
    """Raise ValueError for an array that 32-bit places cannot reach all of."""
    if size > LARGEST:
        raise ValueError(f"{what}: shape {shape} is larger than the {LARGEST} numbers of a kernel")


def check_match(what, got, wanted):
    """Raise ValueError unless the two agree; None stands for an argument left out."""
    if got is not None and got != wanted:
        raise ValueError(f"{what}: expected {wanted}, got {got}")
