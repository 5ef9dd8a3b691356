"""Batch normalization over images and pixels, channel by channel (Ioffe and Szegedy 2015).

The equations are those of `cpu/batch_norm.py`. Sums over pixels are float64 (`column_sums`); what
there is to compute for each channel alone, small kernels do on the way.
"""

import math

from numba import cuda
from numba.cuda.types import float32, int32

from . import launch, memory
from .checks import check_arrays, check_match
from .column_sums import PRODUCTS, SQUARED_DEVIATIONS, column_sums
from .compilation import FLOAT, FLOATS, INT, kernel
from .indexing import remainder


@kernel(FLOATS, FLOATS, FLOATS, FLOATS, FLOATS, FLOAT, INT, FLOATS, INT, INT)
def _normalize(x, mean, var, gamma, beta, eps, relu, y, size, channels):
    i = int32(cuda.grid(1))
    if i < size:
        c = remainder(i, channels)
        factor = gamma[c] / math.sqrt(var[c] + eps)
        number = (x[i] - mean[c]) * factor + beta[c]
        if relu and number < float32(0):
            number = float32(0)
        y[i] = number


@kernel(FLOATS, FLOATS, FLOATS, FLOATS, FLOATS, FLOATS, FLOAT, FLOATS, INT, INT)
def _mask(gy, x, mean, var, gamma, beta, eps, masked, size, channels):
    """gy where batch norm's output, computed as `_normalize` does, is positive, else 0."""
    i = int32(cuda.grid(1))
    if i < size:
        c = remainder(i, channels)
        factor = gamma[c] / math.sqrt(var[c] + eps)
        positive = (x[i] - mean[c]) * factor + beta[c] > float32(0)
        masked[i] = gy[i] if positive else float32(0)


@kernel(FLOATS, FLOATS, FLOAT, FLOATS, INT)
def _scale_gamma(products, var, eps, ggamma, channels):
    c = int32(cuda.grid(1))
    if c < channels:
        ggamma[c] = products[c] / math.sqrt(var[c] + eps)


@kernel(*(FLOATS,) * 7, FLOAT, FLOAT, FLOATS, INT, INT)
def _input_gradient(gy, x, mean, var, gamma, ggamma, gbeta, eps, count, gx, size, channels):
    i = int32(cuda.grid(1))
    if i < size:
        c = remainder(i, channels)
        deviation = float32(1) / math.sqrt(var[c] + eps)
        normal = (x[i] - mean[c]) * deviation
        gx[i] = gamma[c] * deviation * (gy[i] - (gbeta[c] + normal * ggamma[c]) / count)


def batch_norm_statistics(x):
    """Mean and biased variance of each channel of x (n, h, w, c): two arrays (c,)."""
    check_arrays("batch_norm_statistics", x=(x, 4))
    if x.size == 0:
        raise ValueError(f"batch_norm_statistics: no pixels in shape {x.shape}")
    count = x.size // x.shape[3]
    mean = column_sums(x, count=count)
    return mean, column_sums(x, mean=mean, what=SQUARED_DEVIATIONS, count=count)


def batch_norm_forward(x, mean, var, gamma, beta, eps, relu=False):
    """y = gamma * (x - mean) / sqrt(var + eps) + beta for x (n, h, w, c) and the rest (c,).

    With `relu` y is clipped at zero; NaN stays NaN.
    """
    _check("batch_norm", x, mean=mean, var=var, gamma=gamma, beta=beta)
    y = memory.empty(x.shape)
    if y.size:
        _normalize.launch(launch.blocks_for(y.size), x, mean, var, gamma, beta, eps, int(relu),
                          y, y.size, x.shape[3])
    return y


def batch_norm_backward(gy, x, mean, var, gamma, eps, relu_beta=None):
    """Gradients of x, gamma and beta, where mean and var are the statistics of x itself.

    With normal = (x - mean) / sqrt(var + eps) and m pixels::

        gbeta  = sum gy
        ggamma = sum gy * normal
        gx     = gamma / sqrt(var + eps) * (gy - gbeta / m - normal * ggamma / m)

    Given beta as `relu_beta`, gy is the gradient behind a ReLU that forward did on the way.
    """
    _check("batch_norm_backward", x, mean=mean, var=var, gamma=gamma)
    check_arrays("batch_norm_backward", gy=(gy, 4))
    check_match("batch_norm_backward: shape of gy", gy.shape, x.shape)
    channels = x.shape[3]
    if x.size == 0:
        return memory.zeros(x.shape), memory.zeros(gamma.shape), memory.zeros(gamma.shape)
    if relu_beta is not None:
        check_match("batch_norm_backward: shape of relu_beta", relu_beta.shape, gamma.shape)
        masked = memory.empty(gy.shape)
        _mask.launch(launch.blocks_for(gy.size), gy, x, mean, var, gamma, relu_beta, eps, masked,
                     gy.size, channels)
        gy = masked
    gbeta = column_sums(gy)
    products = column_sums(x, gy, mean, PRODUCTS)
    gx, ggamma = memory.empty(x.shape), memory.empty(gamma.shape)
    _scale_gamma.launch(launch.blocks_for(channels), products, var, eps, ggamma, channels)
    _input_gradient.launch(
        launch.blocks_for(gx.size), gy, x, mean, var, gamma, ggamma, gbeta, eps,
        x.size // channels, gx, gx.size, channels)
    return gx, ggamma, gbeta


def _check(name, x, **channels):
    check_arrays(name, x=(x, 4), **{key: (array, 1) for key, array in channels.items()})
    for key, array in channels.items():
        check_match(f"{name}: shape of {key}", array.shape, x.shape[3:])
