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
from .column_sums import chunk_pixels, cover, sum_chunk, zero_sums
from .compilation import inline, kernel
from .simd import fma, lanes, load, maximum, splat, store, where_positive


@kernel
def _statistics(x, channels, pixels, means, squares):
    """Mean and sum of squared deviations of each block's pixels, chunk by chunk (Chan et al.)."""
    blocks = means.shape[0]
    step = chunk_pixels(channels)
    for block in prange(blocks):
        first, last = pixels * block // blocks, pixels * (block + 1) // blocks
        mean, sums = np.empty(channels, x.dtype), np.empty(channels, x.dtype)
        for begin in range(first, last, step):
            end = min(last, begin + step)
            sum_chunk(x, begin, end, channels, sums)
            for c in range(channels):
                mean[c] = sums[c] / x.dtype.type(end - begin)
            _sum_squares(x, begin, end, channels, mean, sums)
            seen, count = begin - first, end - begin
            for c in range(channels):
                apart = np.float64(mean[c]) - means[block, c]
                means[block, c] += apart * count / (seen + count)
                squares[block, c] += sums[c] + apart * apart * seen * count / (seen + count)


@inline
def _sum_squares(x, begin, end, channels, mean, sums):
    for vector in range(cover(channels, lanes(x))):
        c = min(vector * lanes(x), channels - lanes(x))
        centre, result = load(mean, c), splat(x, x.dtype.type(0))
        for pixel in range(begin, end):
            deviation = load(x, pixel * channels + c) - centre
            result = fma(deviation, deviation, result)
        store(sums, c, result)
    if channels < lanes(x):
        sums[:] = 0
        for pixel in range(begin, end):
            for c in range(channels):
                deviation = x[pixel * channels + c] - mean[c]
                sums[c] += deviation * deviation


@kernel
def _affine(x, channels, factor, shift, lowest, y):
    """y = x * factor + shift, raised to `lowest`."""
    step = chunk_pixels(channels)
    pixels = x.size // channels
    for chunk in prange((pixels + step - 1) // step):
        begin, end = chunk * step, min(pixels, (chunk + 1) * step)
        for pixel in range(begin, end):
            for vector in range(cover(channels, lanes(x))):
                c = min(vector * lanes(x), channels - lanes(x))
                number = fma(load(x, pixel * channels + c), load(factor, c), load(shift, c))
                store(y, pixel * channels + c, maximum(number, splat(x, lowest)))
        if channels < lanes(x):
            for pixel in range(begin, end):
                for c in range(channels):
                    number = x[pixel * channels + c] * factor[c] + shift[c]
                    y[pixel * channels + c] = lowest if number < lowest else number


@kernel
def _gradient_sums(gy, x, channels, mean, factor, shift, relu, totals, products):
    """Each block's sums of gy and of gy * (x - mean)."""
    blocks = totals.shape[0]
    pixels = x.size // channels
    step = chunk_pixels(channels)
    for block in prange(blocks):
        first, last = pixels * block // blocks, pixels * (block + 1) // blocks
        sums, moments = np.empty(channels, x.dtype), np.empty(channels, x.dtype)
        for begin in range(first, last, step):
            end = min(last, begin + step)
            for vector in range(cover(channels, lanes(x))):
                c = min(vector * lanes(x), channels - lanes(x))
                centre, factors, shifts = load(mean, c), load(factor, c), load(shift, c)
                result = splat(x, x.dtype.type(0))
                moment = result
                for pixel in range(begin, end):
                    at = pixel * channels + c
                    g, number = load(gy, at), load(x, at)
                    if relu:
                        g = where_positive(fma(number, factors, shifts), g)
                    result = result + g
                    moment = fma(g, number - centre, moment)
                store(sums, c, result)
                store(moments, c, moment)
            if channels < lanes(x):
                sums[:] = 0
                moments[:] = 0
                for pixel in range(begin, end):
                    for c in range(channels):
                        g, number = gy[pixel * channels + c], x[pixel * channels + c]
                        if not relu or number * factor[c] + shift[c] > 0:
                            sums[c] += g
                            moments[c] += g * (number - mean[c])
            for c in range(channels):
                totals[block, c] += sums[c]
                products[block, c] += moments[c]


@kernel
def _input_gradient(gy, x, channels, mean, factor, shift, relu, x_factor, constant, gx):
    """gx = factor * gy + (x - mean) * x_factor + constant."""
    step = chunk_pixels(channels)
    pixels = x.size // channels
    for chunk in prange((pixels + step - 1) // step):
        begin, end = chunk * step, min(pixels, (chunk + 1) * step)
        for pixel in range(begin, end):
            for vector in range(cover(channels, lanes(x))):
                c = min(vector * lanes(x), channels - lanes(x))
                at = pixel * channels + c
                g, number, factors = load(gy, at), load(x, at), load(factor, c)
                if relu:
                    g = where_positive(fma(number, factors, load(shift, c)), g)
                slope = fma(number - load(mean, c), load(x_factor, c), load(constant, c))
                store(gx, at, fma(g, factors, slope))
        if channels < lanes(x):
            for pixel in range(begin, end):
                for c in range(channels):
                    g, number = gy[pixel * channels + c], x[pixel * channels + c]
                    if relu and not number * factor[c] + shift[c] > 0:
                        g = x.dtype.type(0)
                    deviation = number - mean[c]
                    gx[pixel * channels + c] = g * factor[c] + deviation * x_factor[c] + constant[c]


# ---- launchers


def batch_norm_statistics(x):
    """Mean and biased variance of each channel of x (n, h, w, c): two arrays (c,)."""
    (x,) = contiguous(x)
    check_arrays("batch_norm_statistics", x=(x, 4))
    if x.size == 0:
        raise ValueError(f"batch_norm_statistics: no pixels in shape {x.shape}")
    channels = x.shape[3]
    pixels = x.size // channels
    means, squares = zero_sums(x), zero_sums(x)
    _statistics(x.reshape(-1), channels, pixels, means, squares)
    blocks = len(means)
    counts = np.diff(pixels * np.arange(blocks + 1) // blocks)[:, None]
    mean = (means * counts).sum(axis=0) / pixels
    var = (squares + counts * (means - mean) ** 2).sum(axis=0) / pixels
    return mean.astype(x.dtype), var.astype(x.dtype)


def batch_norm_forward(x, mean, var, gamma, beta, eps, relu=False):
    """y = gamma * (x - mean) / sqrt(var + eps) + beta for x (n, h, w, c) and the rest (c,).

    With `relu` y is clipped at zero; NaN stays NaN.
    """
    x, mean, var, gamma, beta = contiguous(x, mean, var, gamma, beta)
    _check("batch_norm", x, mean=mean, var=var, gamma=gamma, beta=beta)
    y = memory.empty(x.shape, x.dtype)
    factor, shift = _affine_terms(mean, var, gamma, beta, eps)
    lowest = x.dtype.type(0 if relu else -np.inf)
    if x.size:
        _affine(x.reshape(-1), x.shape[3], factor, shift, lowest, y.reshape(-1))
    return y


def batch_norm_backward(gy, x, mean, var, gamma, eps, relu_beta=None):
    """Gradients of x, gamma and beta, where mean and var are the statistics of x itself.

    With normal = (x - mean) / sqrt(var + eps) and m pixels::

        gbeta  = sum gy
        ggamma = sum gy * normal
        gx     = gamma / sqrt(var + eps) * (gy - gbeta / m - normal * ggamma / m)

    Given beta as `relu_beta`, gy is the gradient behind a ReLU that forward did on the way.
    """
    gy, x, mean, var, gamma, relu_beta = contiguous(gy, x, mean, var, gamma, relu_beta)
    _check("batch_norm_backward", x, mean=mean, var=var, gamma=gamma, relu_beta=relu_beta)
    check_arrays("batch_norm_backward", x=(x, 4), gy=(gy, 4))
    check_match("batch_norm_backward: shape of gy", gy.shape, x.shape)
    channels = x.shape[3]
    if x.size == 0:
        return np.zeros_like(x), np.zeros_like(gamma), np.zeros_like(gamma)
    count = x.size // channels
    relu = relu_beta is not None
    factor, shift = _affine_terms(mean, var, gamma, relu_beta if relu else mean, eps)
    flat = gy.reshape(-1), x.reshape(-1), channels, mean, factor, shift, relu
    totals, products = zero_sums(x), zero_sums(x)
    _gradient_sums(*flat, totals, products)
    deviation = 1 / np.sqrt(var.astype(np.float64) + eps)
    gbeta, ggamma = totals.sum(axis=0), products.sum(axis=0) * deviation
    x_factor = (-gamma * deviation * deviation * ggamma / count).astype(x.dtype)
    constant = (-gamma * deviation * gbeta / count).astype(x.dtype)
    gx = memory.empty(x.shape, x.dtype)
    _input_gradient(*flat, x_factor, constant, gx.reshape(-1))
    return gx, ggamma.astype(x.dtype), gbeta.astype(x.dtype)


def _affine_terms(mean, var, gamma, beta, eps):
    """(factor, shift) of y = x * factor + shift: the same bits in forward and backward."""
    factor = gamma / np.sqrt(var.astype(np.float64) + eps)
    return factor.astype(gamma.dtype), (beta - mean * factor).astype(gamma.dtype)


def _check(name, x, **channels):
    given = {key: (array, 1) for key, array in channels.items() if array is not None}
    check_arrays(name, x=(x, 4), **given)
    for key, (array, _) in given.items():
        check_match(f"{name}: shape of {key}", array.shape, x.shape[3:])
