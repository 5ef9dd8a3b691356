"""The layers, one a file: construct, forward, backward."""

from .add import Add
from .batch_norm import BatchNorm
from .convolution import Convolution
from .crop import Crop
from .dropout import Dropout
from .frozen import FrozenConvolution, FrozenLinear, Interpolation
from .layer import Layer
from .linear import Linear
from .local_response_normalization import LocalResponseNormalization
from .pooling import MaxPooling
from .relu import ReLU
from .scale import Scale
from .transposed_convolution import TransposedConvolution, separable_filter

__all__ = [
    "Add",
    "BatchNorm",
    "Convolution",
    "Crop",
    "Dropout",
    "FrozenConvolution",
    "FrozenLinear",
    "Interpolation",
    "Layer",
    "Linear",
    "LocalResponseNormalization",
    "MaxPooling",
    "ReLU",
    "Scale",
    "TransposedConvolution",
    "separable_filter",
]
