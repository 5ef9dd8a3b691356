"""Where arrays live: in the host's memory, as NumPy arrays, or on a GPU.

A device is "cpu" or "cuda:N" (`tinyfcn.kernels.devices`). Nothing is copied from one to the other
but by these functions. What a GPU needs is imported when the first array goes there.
"""

import sys

import numpy as np

from .kernels.devices import CPU, DeviceError, DeviceMemoryError, describe, find

__all__ = [
    "CPU", "DeviceError", "DeviceMemoryError", "describe", "device_of", "find",
    "set_precision", "synchronize", "to_device", "to_host", "zeros_like",
]


def to_device(array, device):
    """The array on a device: itself if it is there already, else a copy.

    Parameters
    ----------
    array : NumPy array, or one of a GPU
    device : "cpu" or "cuda:N"

    Raises
    ------
    DeviceError
        If this process uses another GPU already, or the GPU failed.
    DeviceMemoryError
        If the GPU has too little memory left.
    """
    if device == CPU:
        return to_host(array)
    cuda = _cuda()
    cuda.launch.select(int(device.partition(":")[2]))
    return cuda.memory.upload(array) if isinstance(array, np.ndarray) else array


def to_host(array):
    """The array as a NumPy array: itself, or a copy of one of a GPU, when that has computed it."""
    return array if isinstance(array, np.ndarray) else _cuda().memory.download(array)


def device_of(array):
    """The device that an array is on."""
    return CPU if isinstance(array, np.ndarray) else _cuda().launch.device_name()


def zeros_like(array):
    """Zeros of an array's shape and dtype, on its device."""
    zeros = np.zeros(array.shape, array.dtype)
    return to_device(zeros, device_of(array))


def synchronize():
    """Wait until the GPU in use, if any, has done all that was asked of it."""
    cuda = sys.modules.get("tinyfcn.kernels.cuda")
    if cuda is not None:
        cuda.launch.synchronize()


def set_precision(precision, device):
    """Compute convolutions with "float32", "tf32" or "bf16" factors from now on.

    Raises
    ------
    DeviceError
        If the device cannot: tensor cores of compute capability 8.0 are needed.
    """
    if device != CPU:
        cuda = _cuda()
        cuda.launch.select(int(device.partition(":")[2]))
        cuda.algorithms.set_precision(precision)
    elif precision != "float32":
        raise DeviceError(f"the precision {precision} needs a GPU")


def _cuda():
    from .kernels import cuda

    return cuda
