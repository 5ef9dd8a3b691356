"""Convolution: forward and the gradients of input, weights and bias.

Channels-last, x (n, h, w, in), w (kh, kw, in / groups, out), y (n, out_h, out_w, out)::

    y[oy, ox, k] = b[k] + sum x[oy * sy - py + ky * dy, ox * sx - px + kx * dx, c] w[ky, kx, c, k]

All of it runs on `gathered_product`, which explains how.
"""

import functools
import math

import numpy as np
from numba import prange

from .. import geometry
from . import gathered_product, memory
from .checks import check_arrays, check_match, contiguous
from .compilation import kernel


def convolution_forward(
    x, w, b=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1, relu=False
):
    """Convolve x with w, add the bias and, with `relu`, clip at zero.

    Parameters
    ----------
    x : array (n, h, w, in), float32 or float64
    w : array (kh, kw, in / groups, out)
    b : array (out,), optional
    stride, padding, dilation : pairs of ints, (y, x)
    groups : int
        Divides the channels; group g of the outputs sees group g of the inputs.

    Returns
    -------
    array (n, out_h, out_w, out)

    Raises
    ------
    ValueError
        If shapes or dtypes don't fit together, or the kernel is larger than the padded image.
    """
    x, w, b = contiguous(x, w, b)
    check_arrays("convolution", x=(x, 4), w=(w, 4), b=(b, 1))
    check_groups(x, w, groups)
    check_match("bias", None if b is None else b.shape, (w.shape[3],))
    out_h, out_w = output_size(x.shape[1:3], w.shape[:2], stride, padding, dilation)
    y = memory.empty((x.shape[0], out_h, out_w, w.shape[3]), x.dtype)
    taps = convolution_taps(w.shape[:2], tuple(padding), tuple(dilation))
    phases = ((0, len(taps), 0, 0, out_h, out_w),)
    gathered_product.product(x, w, y, b, phases, taps, tuple(stride), (1, 1), groups, relu=relu)
    return y


def convolution_backward_input(
    gy, w, input_size, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1
):
    """The gradient of x, (n, h, w, in), from that of y; `input_size` is x's (h, w)."""
    gy, w = contiguous(gy, w)
    check_arrays("convolution_backward_input", gy=(gy, 4), w=(w, 4))
    check_gradient(gy, w.shape[3], input_size, w.shape[:2], stride, padding, dilation, groups)
    gx = memory.empty((gy.shape[0], *input_size, w.shape[2] * groups), gy.dtype)
    scatter_product(gy, w, gx, stride, padding, dilation, groups, transposed=True)
    return gx


def convolution_backward_weights(
    x, gy, kernel_size, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1
):
    """The gradient of w, (kh, kw, in / groups, out), from x and the gradient of y."""
    x, gy = contiguous(x, gy)
    check_arrays("convolution_backward_weights", x=(x, 4), gy=(gy, 4))
    if gy.shape[0] != x.shape[0] or groups < 1 or x.shape[3] % groups:
        raise ValueError(f"convolution: x {x.shape} and gy {gy.shape} don't fit, groups={groups}")
    check_gradient(
        gy, gy.shape[3], x.shape[1:3], kernel_size, stride, padding, dilation, groups
    )
    gw = memory.empty((*kernel_size, x.shape[3] // groups, gy.shape[3]), x.dtype)
    taps = convolution_taps(tuple(kernel_size), tuple(padding), tuple(dilation))
    gathered_product.gradient(x, gy, gw, taps, tuple(stride), groups)
    return gw


@kernel
def _sum(x, partial):
    rows, channels = x.shape
    blocks = partial.shape[0]
    for block in prange(blocks):
        for row in range(rows * block // blocks, rows * (block + 1) // blocks):
            for c in range(channels):
                partial[block, c] += x[row, c]


def convolution_backward_bias(gy):
    """The gradient of the bias, (out,): gy (n, h, w, out) summed over images and pixels."""
    (gy,) = contiguous(gy)
    check_arrays("convolution_backward_bias", gy=(gy, 4))
    return sum_pixels(gy).astype(gy.dtype)


def sum_pixels(x):
    """Sum x (n, h, w, c) over everything but channels: (c,) of float64."""
    return sum_blocks(_sum, x.shape, x.reshape(-1, x.shape[-1]))


def sum_blocks(kernel, shape, *arrays):
    """Sum over pixels what `kernel` adds up, block by block, into a float64 (blocks, c) array.

    The blocks depend on the shape alone, so the sum has the same bits for any number of threads.
    """
    pixels = math.prod(shape[:-1])
    partial = np.zeros((min(64, -(-pixels // 256)), shape[-1]))
    kernel(*arrays, partial)
    return partial.sum(axis=0)


def output_size(input_size, kernel_size, stride, padding, dilation):
    """(out_h, out_w) of a convolution."""
    return tuple(
        geometry.convolution_size(*sizes)
        for sizes in zip(input_size, kernel_size, stride, padding, dilation)
    )


@functools.lru_cache(maxsize=512)
def convolution_taps(kernel_size, padding, dilation):
    """Where each weight looks from an output pixel times the stride: rows (y, x, index)."""
    kh, kw = kernel_size
    return np.array(
        [
            (ky * dilation[0] - padding[0], kx * dilation[1] - padding[1], ky * kw + kx)
            for ky in range(kh)
            for kx in range(kw)
        ],
        np.int64,
    ).reshape(-1, 3)


def scatter_product(x, w, y, stride, padding, dilation, groups, transposed, bias=None):
    """y[i * stride - padding + k * dilation] += x[i] w[k] over all i and k: convolution's adjoint.

    Written the other way round, each y gathers from the x that reach it, phase by phase.
    """
    phases, taps = scatter_phases(
        y.shape[1:3], w.shape[:2], tuple(stride), tuple(padding), tuple(dilation)
    )
    gathered_product.product(
        x, w, y, bias, phases, taps, (1, 1), tuple(stride), groups, transposed
    )


@functools.lru_cache(maxsize=512)
def scatter_phases(output_size, kernel_size, stride, padding, dilation):
    """The phases and taps of `scatter_product`.

    y at r + s * q is reached by x at q + (r + p - k * d) / s, for the k that make it whole.
    """
    phases, taps = [], []
    for first_y in range(min(stride[0], output_size[0])):
        rows = _reaching(first_y, kernel_size[0], stride[0], padding[0], dilation[0])
        for first_x in range(min(stride[1], output_size[1])):
            columns = _reaching(first_x, kernel_size[1], stride[1], padding[1], dilation[1])
            first_tap = len(taps)
            taps += [(y, x, ky * kernel_size[1] + kx) for ky, y in rows for kx, x in columns]
            grid_h = -(-(output_size[0] - first_y) // stride[0])
            grid_w = -(-(output_size[1] - first_x) // stride[1])
            phases.append((first_tap, len(taps), first_y, first_x, grid_h, grid_w))
    return tuple(phases), np.array(taps, np.int64).reshape(-1, 3)


def _reaching(first, size, stride, padding, dilation):
    """The weights k that reach output `first`, each with the offset of the input it multiplies.

    In the order of the offsets, so that neighbours in the image are neighbours here.
    """
    offsets = ((k, first + padding - k * dilation) for k in reversed(range(size)))
    return [(k, offset // stride) for k, offset in offsets if offset % stride == 0]


def check_groups(x, w, groups):
    if groups < 1 or x.shape[3] != w.shape[2] * groups or w.shape[3] % groups:
        raise ValueError(
            f"convolution: x has {x.shape[3]} channels and w {w.shape} does not fit "
            f"with groups={groups}"
        )


def check_gradient(gy, outputs, input_size, kernel_size, stride, padding, dilation, groups):
    """Raise ValueError unless gy has the shape of the output of this convolution."""
    size = output_size(input_size, kernel_size, stride, padding, dilation)
    if groups < 1 or outputs % groups or gy.shape[1:] != (*size, outputs):
        raise ValueError(
            f"convolution: gy {gy.shape} is not the output of an input of size "
            f"{tuple(input_size)}: expected (n, {size[0]}, {size[1]}, {outputs}), groups={groups}"
        )
