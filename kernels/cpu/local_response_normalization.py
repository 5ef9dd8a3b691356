"""Local response normalization across channels (Krizhevsky, Sutskever and Hinton 2012, 3.3).

::

    s[c] = k + alpha / size * sum of x[j]^2,  |j - c| <= (size - 1) / 2, of the channels there are
    y[c] = x[c] * s[c]^-beta

alpha is divided by the window's size, as Caffe's lrn_layer.cpp does; the paper does not.
"""

import numpy as np
from numba import prange

from . import memory
from .checks import check_arrays, check_match, contiguous
from .compilation import inline, kernel


@inline
def _negative_power(s, beta):
    # Two square roots take a fraction of the time of a power, and 3/4 is what all nets use.
    return 1 / np.sqrt(s * np.sqrt(s)) if beta == 0.75 else s**-beta


@inline
def _add_window(row, radius, total):
    """Add to each total the sum of `row` over the channels at most `radius` away."""
    channels = row.size
    for shift in range(-radius, radius + 1):
        for c in range(max(0, -shift), min(channels, channels - shift)):
            total[c] += row[c + shift]


@inline
def _sum_squares(x, radius, factor, k, squares, total):
    """total = k + factor * the squares of x in each channel's window."""
    for c in range(x.size):
        squares[c] = factor * x[c] * x[c]
        total[c] = k
    _add_window(squares, radius, total)


@kernel
def _forward(x, y, radius, factor, beta, k, scratch):
    rows, channels = x.shape
    blocks = scratch.shape[0]
    for block in prange(blocks):
        squares = scratch[block, :channels]
        for row in range(rows * block // blocks, rows * (block + 1) // blocks):
            _sum_squares(x[row], radius, factor, k, squares, y[row])
            for c in range(channels):
                y[row, c] = x[row, c] * _negative_power(y[row, c], beta)


@kernel
def _backward(gy, x, gx, radius, factor, beta, k, scratch):
    rows, channels = x.shape
    blocks = scratch.shape[0]
    for block in prange(blocks):
        sums, shares = scratch[block, :channels], scratch[block, channels:2 * channels]
        for row in range(rows * block // blocks, rows * (block + 1) // blocks):
            _sum_squares(x[row], radius, factor, k, shares, sums)
            for c in range(channels):
                power = _negative_power(sums[c], beta)
                gx[row, c] = gy[row, c] * power
                shares[c] = gy[row, c] * x[row, c] * power / sums[c]
                sums[c] = 0
            _add_window(shares, radius, sums)
            for c in range(channels):
                gx[row, c] -= 2 * beta * factor * x[row, c] * sums[c]


# ---- launchers


def local_response_normalization_forward(x, size, alpha, beta, k):
    """Divide each number by a power of the mean square of its neighbours among the channels.

    Parameters
    ----------
    x : array (n, h, w, c), float32 or float64
    size : int, odd
        Of the window of channels; what lies outside counts as zero.
    alpha, beta, k : float
        At least 0; k above 0.

    Returns
    -------
    array like x
    """
    (x,) = contiguous(x)
    check_arrays("local_response_normalization", x=(x, 4))
    y = memory.empty(x.shape, x.dtype)
    _launch(_forward, (x, y), size, alpha, beta, k)
    return y


def local_response_normalization_backward(gy, x, size, alpha, beta, k):
    """The gradient of x::

        gx[c] = gy[c] s[c]^-beta - 2 beta alpha / size x[c] * sum of gy[j] x[j] s[j]^(-beta - 1)
    """
    gy, x = contiguous(gy, x)
    check_arrays("local_response_normalization_backward", gy=(gy, 4), x=(x, 4))
    check_match("shape of gy", gy.shape, x.shape)
    gx = memory.empty(x.shape, x.dtype)
    _launch(_backward, (gy, x, gx), size, alpha, beta, k)
    return gx


# Each thread's share of the pixels is one block, with memory of its own.
BLOCKS = 64


def _launch(run, arrays, size, alpha, beta, k):
    if size < 1 or size % 2 == 0:
        raise ValueError(f"local_response_normalization: size must be odd, got {size}")
    if not (alpha >= 0 and beta >= 0 and k > 0):
        raise ValueError("local_response_normalization: alpha and beta must be at least 0 and k "
                         f"above 0, got {alpha}, {beta} and {k}")
    x = arrays[-1]
    if x.size == 0:
        return
    channels = x.shape[3]
    number = x.dtype.type
    scratch = memory.scratch(BLOCKS, 2 * channels, x.dtype)
    run(*(a.reshape(-1, channels) for a in arrays), size // 2, number(alpha / size), number(beta),
        number(k), scratch)
