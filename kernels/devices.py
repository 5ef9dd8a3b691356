"""Which devices kernels can run on, asked of the driver without loading what a GPU needs.

A device is named "cpu" or "cuda:N". `find` takes what a user writes, `usable_gpus` says what there
is. Nothing here imports numba.cuda or makes a context, so it costs a process nothing.
"""

import ctypes
import functools
import importlib.util
import os
import re
import sys
from typing import NamedTuple

import numpy as np

CPU = "cpu"
LOWEST_CAPABILITY = (7, 5)
LOWEST_DRIVER = 13000  # CUDA 13.0, which numba-cuda[cu13] compiles for

# Numbers of cuDeviceGetAttribute.
_MAJOR, _MINOR = 75, 76


class DeviceError(RuntimeError):
    """A device cannot be used, or failed; the message is one line."""


class DeviceMemoryError(MemoryError):
    """A device has too little memory; the message is one line."""


class GPU(NamedTuple):
    """A GPU as its driver describes it."""

    name: str
    capability: tuple


def find(wanted):
    """The device that a user means.

    Parameters
    ----------
    wanted : "auto", "cpu", "cuda" or "cuda:N"
        "auto" is the first usable GPU, or the CPU where there is none.

    Returns
    -------
    str
        "cpu" or "cuda:N".

    Raises
    ------
    ValueError
        If it is none of these.
    DeviceError
        If it is a GPU that is not there or cannot be used; says what is missing.
    """
    if wanted == CPU:
        return CPU
    match = re.fullmatch(r"auto|cuda(?::(\d{1,4}))?", wanted)
    if match is None:
        raise ValueError(f"a device is auto, cpu, cuda or cuda:N, not {wanted!r}")
    try:
        gpus = usable_gpus()
        number = int(match[1] or _first_capable(gpus))
        if number >= len(gpus):
            raise DeviceError(f"there is no cuda:{number}: {_count(len(gpus))}")
        _check_capability(number, gpus[number])
    except DeviceError:
        if wanted == "auto":
            return CPU
        raise
    return f"cuda:{number}"


def describe(device):
    """A device's name for people: "cuda:0 (NVIDIA A100, compute capability 8.0)"."""
    if device == CPU:
        return CPU
    gpu = usable_gpus()[int(device.partition(":")[2])]
    return f"{device} ({gpu.name}, compute capability {gpu.capability[0]}.{gpu.capability[1]})"


@functools.cache
def usable_gpus():
    """All GPUs that the driver shows, in its order.

    Raises
    ------
    DeviceError
        If there are none; says whether package, driver or device is missing, or what is too new.
    """
    if importlib.util.find_spec("numba_cuda") is None:
        raise DeviceError("the package numba-cuda is not installed: pip install 'tinyfcn[cuda]'")
    if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0"):
        return (GPU("Numba's simulator", (8, 0)),)
    if os.environ.get("NUMBA_DISABLE_CUDA", "0") not in ("", "0"):
        raise DeviceError("NUMBA_DISABLE_CUDA is set")
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
    except OSError:
        raise DeviceError(f"there is no NVIDIA driver ({name} is not found)") from None
    gpus = _ask(driver)
    if not hasattr(np, "row_stack"):
        raise DeviceError(f"numba-cuda cannot use NumPy {np.__version__}, which has no row_stack: "
                          "pip install 'numpy<2.5'")
    return gpus


def _ask(driver):
    def call(function, *arguments):
        status = getattr(driver, function)(*arguments)
        if status:
            raise DeviceError(f"the NVIDIA driver cannot be used ({function} gives {status})")

    def number(function, *arguments):
        value = ctypes.c_int(0)
        call(function, ctypes.byref(value), *arguments)
        return value.value

    status = driver.cuInit(0)
    if status == 100:  # CUDA_ERROR_NO_DEVICE
        raise DeviceError("there is no NVIDIA GPU")
    if status:
        raise DeviceError(f"the NVIDIA driver cannot be used (cuInit gives {status})")
    version = number("cuDriverGetVersion")
    if version < LOWEST_DRIVER:
        raise DeviceError(
            f"the NVIDIA driver is for CUDA {version // 1000}.{version % 1000 // 10}, too old: "
            f"{LOWEST_DRIVER // 1000}.0 is needed")
    gpus = []
    for index in range(number("cuDeviceGetCount")):
        device = number("cuDeviceGet", index)
        text = ctypes.create_string_buffer(256)
        call("cuDeviceGetName", text, len(text), device)
        capability = tuple(number("cuDeviceGetAttribute", attribute, device)
                           for attribute in (_MAJOR, _MINOR))
        gpus.append(GPU(text.value.decode(errors="replace"), capability))
    if not gpus:
        raise DeviceError("there is no NVIDIA GPU")
    return tuple(gpus)


def _first_capable(gpus):
    """The number of the first GPU that is new enough, else 0."""
    return next((i for i, gpu in enumerate(gpus) if gpu.capability >= LOWEST_CAPABILITY), 0)


def _check_capability(number, gpu):
    if gpu.capability < LOWEST_CAPABILITY:
        raise DeviceError(
            f"cuda:{number} ({gpu.name}) has compute capability {gpu.capability[0]}."
            f"{gpu.capability[1]}; {LOWEST_CAPABILITY[0]}.{LOWEST_CAPABILITY[1]} is needed")


def _count(gpus):
    return "there is one GPU, cuda:0" if gpus == 1 else (
        f"there are {gpus} GPUs, cuda:0 to cuda:{gpus - 1}")
