"""Batch normalization over images and pixels, channel by channel (Ioffe and Szegedy 2015).

::

    mean, var = statistics of x over n, h, w (biased variance)
    normal    = (x - mean) / sqrt(var + eps)
    y         = gamma * normal + beta
"""

import numpy as np
from numba import prange

from . import memory
from .checks import check_arrays, check_match, contiguous
from .compilation import kernel
from .convolution import sum_blocks, sum_pixels


@kernel
def _squared_deviations(x, mean, partial):
    rows, channels = x.shape
    blocks = partial.shape[0]
    for block in prange(blocks):
        for row in range(rows * block // blocks, rows * (block + 1) // blocks):
            for c in range(channels):
                deviation = x[row, c] - mean[c]
                partial[block, c] += deviation * deviation


@kernel
def _affine(x, factor, shift, y):
    for row in prange(x.shape[0]):
        for c in range(x.shape[1]):
            y[row, c] = x[row, c] * factor[c] + shift[c]


@kernel
def _gradient_products(gy, x, mean, partial):
    rows, channels = x.shape
    blocks = partial.shape[0]
    for block in prange(blocks):
        for row in range(rows * block // blocks, rows * (block + 1) // blocks):
            for c in range(channels):
                partial[block, c] += gy[row, c] * (x[row, c] - mean[c])


@kernel
def _input_gradient(gy, x, mean, gy_factor, x_factor, shift, gx):
    for row in prange(x.shape[0]):
        for c in range(x.shape[1]):
            deviation = x[row, c] - mean[c]
            gx[row, c] = gy[row, c] * gy_factor[c] + deviation * x_factor[c] + shift[c]


def batch_norm_statistics(x):
    """Mean and biased variance of each channel of x (n, h, w, c): two arrays (c,)."""
    (x,) = contiguous(x)
    check_arrays("batch_norm_statistics", x=(x, 4))
    if x.size == 0:
        raise ValueError(f"batch_norm_statistics: no pixels in shape {x.shape}")
    count = x.size // x.shape[3]
    mean = sum_pixels(x) / count
    var = sum_blocks(_squared_deviations, x.shape, x.reshape(-1, x.shape[3]), mean) / count
    return mean.astype(x.dtype), var.astype(x.dtype)


def batch_norm_forward(x, mean, var, gamma, beta, eps):
    """y = gamma * (x - mean) / sqrt(var + eps) + beta for x (n, h, w, c) and the rest (c,)."""
    x, mean, var, gamma, beta = contiguous(x, mean, var, gamma, beta)
    _check("batch_norm", x, mean=mean, var=var, gamma=gamma, beta=beta)
    y = memory.empty(x.shape, x.dtype)
    factor = gamma / np.sqrt(var + eps)
    shift = beta - mean * factor
    rows = (-1, x.shape[3])
    if x.size:
        _affine(
            x.reshape(rows), factor.astype(x.dtype), shift.astype(x.dtype), y.reshape(rows)
        )
    return y


def batch_norm_backward(gy, x, mean, var, gamma, eps):
    """Gradients of x, gamma and beta, where mean and var are the statistics of x itself.

    With normal = (x - mean) / sqrt(var + eps) and m pixels::

        gbeta  = sum gy
        ggamma = sum gy * normal
        gx     = gamma / sqrt(var + eps) * (gy - gbeta / m - normal * ggamma / m)
    """
    gy, x, mean, var, gamma = contiguous(gy, x, mean, var, gamma)
    _check("batch_norm_backward", x, mean=mean, var=var, gamma=gamma)
    check_arrays("batch_norm_backward", x=(x, 4), gy=(gy, 4))
    check_match("batch_norm_backward: shape of gy", gy.shape, x.shape)
    rows = (-1, x.shape[3])
    count = x.size // x.shape[3]
    if count == 0:
        return np.zeros_like(x), np.zeros_like(gamma), np.zeros_like(gamma)
    deviation = 1 / np.sqrt(var.astype(np.float64) + eps)
    gbeta = sum_pixels(gy)
    products = sum_blocks(
        _gradient_products, x.shape, gy.reshape(rows), x.reshape(rows), mean.astype(np.float64)
    )
    ggamma = products * deviation
    factor = gamma * deviation
    gx = memory.empty(x.shape, x.dtype)
    _input_gradient(
        gy.reshape(rows),
        x.reshape(rows),
        mean,
        factor.astype(x.dtype),
        (-factor * deviation * ggamma / count).astype(x.dtype),
        (-factor * gbeta / count).astype(x.dtype),
        gx.reshape(rows),
    )
    return gx, ggamma.astype(x.dtype), gbeta.astype(x.dtype)


def _check(name, x, **channels):
    check_arrays(name, x=(x, 4), **{key: (array, 1) for key, array in channels.items()})
    for key, array in channels.items():
        check_match(f"{name}: shape of {key}", array.shape, x.shape[3:])
