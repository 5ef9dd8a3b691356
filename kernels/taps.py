"""Which weight meets which pixel: taps and phases of convolutions, on every device.

What they mean is said in `cpu/gathered_product.py`.
"""

import functools

import numpy as np

from . import geometry


def output_size(input_size, kernel_size, stride, padding, dilation):
    """(out_h, out_w) of a convolution."""
    return tuple(
        geometry.convolution_size(*sizes)
        for sizes in zip(input_size, kernel_size, stride, padding, dilation)
    )


def transposed_output_size(input_size, kernel_size, stride, padding):
    """(out_h, out_w) of a transposed convolution, unless it is told another."""
    return tuple(
        geometry.transposed_convolution_size(*sizes)
        for sizes in zip(input_size, kernel_size, stride, padding)
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


def check_weights(x, w, groups):
    """Raise ValueError unless weights fit x; return their shape."""
    if len(w.shape) != 4:
        raise ValueError(f"convolution: w must have 4 axes, got shape {w.shape}")
    if groups < 1 or x.shape[3] != w.shape[2] * groups or w.shape[3] % groups:
        raise ValueError(
            f"convolution: x has {x.shape[3]} channels and w {w.shape} does not fit "
            f"with groups={groups}"
        )
    return w.shape


def check_gradient(gy, outputs, input_size, kernel_size, stride, padding, dilation, groups):
    """Raise ValueError unless gy has the shape of the output of this convolution."""
    size = output_size(input_size, kernel_size, stride, padding, dilation)
    if groups < 1 or outputs % groups or gy.shape[1:] != (*size, outputs):
        raise ValueError(
            f"convolution: gy {gy.shape} is not the output of an input of size "
            f"{tuple(input_size)}: expected (n, {size[0]}, {size[1]}, {outputs}), groups={groups}"
        )


@functools.lru_cache(maxsize=64)
def interpolation_taps(size, out_size, weights, stride, padding, dtype):
    """For each output along an axis the inputs that reach it, and their weights (or zeros)."""
    most = -(-len(weights) // stride)
    sources, factors = np.zeros((out_size, most), np.int64), np.zeros((out_size, most), dtype)
    for out in range(out_size):
        first = (out + padding) % stride
        for tap, k in enumerate(range(first, len(weights), stride)):
            source = (out + padding - k) // stride
            if 0 <= source < size:
                sources[out, tap], factors[out, tap] = source, weights[k]
    return sources, factors
