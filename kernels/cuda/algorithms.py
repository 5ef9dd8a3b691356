"""The one place that chooses how a convolution is computed: with which precision.

"im2col" multiplies float32 numbers in float32. "im2col-tf32" and "im2col-bf16" round the factors
to TF32 (10 bits of mantissa) or BF16 (7 bits) for the tensor cores and add in float32: faster, and
less precise. `set_precision` says which of them is the choice where none is pinned.
"""

from ..devices import DeviceError
from . import launch

IM2COL = "im2col"
TF32 = "im2col-tf32"
BF16 = "im2col-bf16"
NAMES = (IM2COL, TF32, BF16)

PRECISIONS = {"float32": IM2COL, "tf32": TF32, "bf16": BF16}
TENSOR_CORES = (8, 0)  # the first compute capability with those of TF32 and BF16

_choice = IM2COL


def set_precision(precision):
    """Compute convolutions with "float32", "tf32" or "bf16" from now on.

    Raises
    ------
    ValueError
        If it is none of these.
    DeviceError
        If the GPU is too old for it.
    """
    global _choice
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    algorithm = PRECISIONS[precision]
    if algorithm != IM2COL and launch.capability() < TENSOR_CORES:
        raise DeviceError(
            f"{launch.device_name()} has compute capability {'.'.join(map(str, launch.capability()))}; "
            f"{precision} needs {'.'.join(map(str, TENSOR_CORES))}")
    _choice = algorithm


def choose(algorithm=None):
    """The algorithm to use: the one that is pinned, or that of the precision."""
    algorithm = algorithm or _choice
    if algorithm not in NAMES:
        raise ValueError(
            f"algorithm must be one of {', '.join(map(repr, NAMES))} on a GPU, got {algorithm!r}")
    return algorithm
