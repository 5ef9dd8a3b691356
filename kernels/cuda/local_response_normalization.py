"""Local response normalization across channels (Krizhevsky, Sutskever and Hinton 2012, 3.3).

The equations are those of `cpu/local_response_normalization.py`. Each number of a result sums its
window of channels anew: neighbouring threads read the same numbers, which are in the cache.
"""

from numba import cuda
from numba.cuda.types import float32, int32

from . import launch, memory
from .checks import check_arrays, check_match
from .compilation import FLOAT, FLOATS, INT, inline, kernel
from .indexing import remainder


@inline
def _window_sum(x, first, c, channels, radius, factor, k):
    """k + factor * the sum of squares of the window around channel c of the pixel at `first`."""
    total = k
    for j in range(max(0, c - radius), min(channels, c + radius + 1)):
        total += factor * x[first + j] * x[first + j]
    return total


@kernel(FLOATS, FLOATS, INT, INT, INT, FLOAT, FLOAT, FLOAT)
def _forward(x, y, size, channels, radius, factor, beta, k):
    i = int32(cuda.grid(1))
    if i < size:
        c = remainder(i, channels)
        y[i] = x[i] * _window_sum(x, int32(i - c), c, channels, radius, factor, k) ** -beta


@kernel(FLOATS, FLOATS, FLOATS, FLOATS, INT, INT, INT, FLOAT, FLOAT, FLOAT)
def _shares(gy, x, shares, direct, size, channels, radius, factor, beta, k):
    """What each number of gy adds to the gradients of its window, and to that of its own x."""
    i = int32(cuda.grid(1))
    if i < size:
        c = remainder(i, channels)
        total = _window_sum(x, int32(i - c), c, channels, radius, factor, k)
        power = total ** -beta
        direct[i] = gy[i] * power
        shares[i] = gy[i] * x[i] * power / total


@kernel(FLOATS, FLOATS, FLOATS, FLOATS, INT, INT, INT, FLOAT)
def _backward(shares, direct, x, gx, size, channels, radius, factor):
    i = int32(cuda.grid(1))
    if i < size:
        c = remainder(i, channels)
        total = float32(0)
        for j in range(max(0, c - radius), min(channels, c + radius + 1)):
            total += shares[i - c + j]
        gx[i] = direct[i] - factor * x[i] * total


def local_response_normalization_forward(x, size, alpha, beta, k):
    """Divide each number by a power of the mean square of its neighbours among the channels.

    Parameters
    ----------
    x : DeviceArray (n, h, w, c)
    size : int, odd
        Of the window of channels; what lies outside counts as zero.
    alpha, beta, k : float
        At least 0; k above 0.

    Returns
    -------
    DeviceArray like x
    """
    check_arrays("local_response_normalization", x=(x, 4))
    _check(size, alpha, beta, k)
    y = memory.empty(x.shape)
    if y.size:
        _forward.launch(launch.blocks_for(y.size), x, y, y.size, x.shape[3], size // 2,
                        alpha / size, beta, k)
    return y


def local_response_normalization_backward(gy, x, size, alpha, beta, k):
    """The gradient of x::

        gx[c] = gy[c] s[c]^-beta - 2 beta alpha / size x[c] * sum of gy[j] x[j] s[j]^(-beta - 1)
    """
    check_arrays("local_response_normalization_backward", gy=(gy, 4), x=(x, 4))
    check_match("shape of gy", gy.shape, x.shape)
    _check(size, alpha, beta, k)
    gx, shares, direct = memory.empty(x.shape), memory.empty(x.shape), memory.empty(x.shape)
    if gx.size:
        blocks, sizes = launch.blocks_for(gx.size), (gx.size, x.shape[3], size // 2)
        _shares.launch(blocks, gy, x, shares, direct, *sizes, alpha / size, beta, k)
        _backward.launch(blocks, shares, direct, x, gx, *sizes, 2 * beta * alpha / size)
    return gx


def _check(size, alpha, beta, k):
    if size < 1 or size % 2 == 0:
        raise ValueError(f"local_response_normalization: size must be odd, got {size}")
    if not (alpha >= 0 and beta >= 0 and k > 0):
        raise ValueError("local_response_normalization: alpha and beta must be at least 0 and k "
                         f"above 0, got {alpha}, {beta} and {k}")
