"""The kernels for the CPU: compiled by Numba, parallel, for float32 and float64 arrays."""

from .batch_norm import batch_norm_backward, batch_norm_forward, batch_norm_statistics
from .convolution import (
    convolution_backward_bias,
    convolution_backward_input,
    convolution_backward_weights,
    convolution_forward,
    prepare_weights,
)
from .elementwise import (
    add,
    bias_relu,
    crop_backward,
    crop_forward,
    dropout,
    relu_backward,
    relu_forward,
    scale,
)
from .gemm import matrix_product
from .interpolation import interpolate, interpolate_backward, interpolate_classify
from .local_response_normalization import (
    local_response_normalization_backward,
    local_response_normalization_forward,
)
from .loss import classify, softmax, softmax_cross_entropy
from .pooling import max_pooling_backward, max_pooling_forward
from .transposed_convolution import (
    transposed_convolution_backward_input,
    transposed_convolution_backward_weights,
    transposed_convolution_forward,
)
from .update import adam, move_towards, sgd_momentum

__all__ = [
    "adam",
    "add",
    "batch_norm_backward",
    "batch_norm_forward",
    "batch_norm_statistics",
    "bias_relu",
    "classify",
    "convolution_backward_bias",
    "convolution_backward_input",
    "convolution_backward_weights",
    "convolution_forward",
    "crop_backward",
    "crop_forward",
    "dropout",
    "interpolate",
    "interpolate_backward",
    "interpolate_classify",
    "local_response_normalization_backward",
    "local_response_normalization_forward",
    "matrix_product",
    "max_pooling_backward",
    "max_pooling_forward",
    "move_towards",
    "prepare_weights",
    "relu_backward",
    "relu_forward",
    "scale",
    "sgd_momentum",
    "softmax",
    "softmax_cross_entropy",
    "transposed_convolution_backward_input",
    "transposed_convolution_backward_weights",
    "transposed_convolution_forward",
]
