"""The transposed convolution layer: upsampling, by bilinear interpolation or learned."""

import numpy as np

from ..arrays import to_host
from ..kernels import backend
from ..kernels.geometry import pair
from .layer import Layer


class TransposedConvolution(Layer):
    """Upsample x (n, h, w, channels) by `stride` with weights (kh, kw, channels, channels).

    The weights start as bilinear interpolation. With `fixed` they stay so; otherwise that is where
    learning starts. (Long, Shelhamer, Darrell 2015, section 3.3; no bias, as in the authors' nets.)
    """

    def __init__(self, channels, kernel_size, stride, padding=0, fixed=True, dtype=np.float32):
        super().__init__()
        self.kernel_size = pair(kernel_size)
        self.geometry = {"stride": pair(stride), "padding": pair(padding)}
        self.params["weights"] = bilinear_filter(self.kernel_size, channels, dtype)
        if fixed:
            self.fixed = frozenset({"weights"})
        self.seen = None, None

    def forward(self, x, keep=False, size=None):
        """`size` (h, w) of the output, if not the one that follows from the kernel."""
        filters = self._filters()
        if keep:
            self.kept = x, filters
        if filters:
            return backend(x).interpolate(x, *filters, output_size=size, **self.geometry)
        return backend(x).transposed_convolution_forward(
            x, self.params["weights"], output_size=size, **self.geometry
        )

    def backward(self, gy):
        (x, filters), ops = self.take_kept(), backend(gy)
        if filters:
            return ops.interpolate_backward(gy, *filters, input_size=x.shape[1:3], **self.geometry)
        if "weights" not in self.fixed:
            self.grads["weights"] = ops.transposed_convolution_backward_weights(
                x, gy, self.kernel_size, **self.geometry
            )
        return ops.transposed_convolution_backward_input(
            gy, self.params["weights"], x.shape[1:3], **self.geometry
        )

    def _filters(self):
        """(rows, columns) of a fixed filter that treats each channel for itself, or None.

        Asked each time, since whoever has the weights may write into them. Where that takes a copy
        of them they are on a GPU, which would have to stop: only kernels write there, into what
        learns, so one look is enough.
        """
        weights = self.params["weights"]
        if "weights" not in self.fixed:
            return None
        if weights is self.seen[0]:
            return self.seen[1]
        host = to_host(weights)
        filters = separable_filter(host)
        if host is not weights:
            self.seen = weights, filters
        return filters


def bilinear_filter(kernel_size, channels, dtype=np.float32):
    """Weights (kh, kw, channels, channels) that interpolate each channel for itself.

    Along each axis, with f = (k + 1) // 2 and the centre at f - 1 for odd k, else f - 0.5, weight i
    is 1 - |i - centre| / f. (`upsample_filt` in the authors' surgery.py.)
    """
    rows, columns = (_triangle(size) for size in kernel_size)
    weights = np.zeros((*kernel_size, channels, channels), dtype)
    diagonal = np.arange(channels)
    weights[:, :, diagonal, diagonal] = np.outer(rows, columns)[:, :, None]
    return weights


def _triangle(size):
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 else factor - 0.5
    return 1 - np.abs(np.arange(size) - centre) / factor


def separable_filter(weights):
    """(rows, columns) whose outer product a fixed upsampling filter is, or None.

    `weights` (kh, kw, in, out) must be zero between different channels and the same for all.
    """
    if weights.shape[2] != weights.shape[3] or weights.size == 0:
        return None
    kernel, diagonal = weights[:, :, 0, 0], np.arange(weights.shape[2])
    on_diagonal = weights[:, :, diagonal, diagonal]
    if np.count_nonzero(weights) != np.count_nonzero(on_diagonal) \
            or not (on_diagonal == kernel[:, :, None]).all():
        return None
    y, x = np.unravel_index(np.abs(kernel).argmax(), kernel.shape)
    if kernel[y, x] == 0:
        return None
    rows, columns = kernel[:, x].astype(np.float64), kernel[y] / np.float64(kernel[y, x])
    if not np.allclose(np.outer(rows, columns), kernel, rtol=1e-6, atol=0):
        return None
    return rows, columns
