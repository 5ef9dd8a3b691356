"""Layers for inference alone: parameters that don't change are brought into their fastest form."""

import threading

import numpy as np

from ..kernels import backend
from .layer import Layer


class FrozenConvolution(Layer):
    """A convolution whose weights are transformed once, for the first image that comes.

    Takes over the parameters of a `Convolution`, and lets go of its weights when they are
    transformed: they are held once, in one form.
    """

    def __init__(self, convolution):
        super().__init__()
        self.geometry = convolution.geometry
        self.params = dict(convolution.params)
        self.prepared = None
        self._preparing = threading.Lock()

    def to(self, device):
        """As for every layer; not once the weights are transformed."""
        if self.prepared is not None:
            raise RuntimeError("a prepared net that has run stays on its device")
        super().to(device)

    def forward(self, x, keep=False, relu=False, pool=False):
        """With `relu` and `pool`, the layers that follow are done on the way."""
        if keep:
            raise ValueError("a net that is prepared for inference cannot be trained")
        with self._preparing:
            if self.prepared is None:
                self.prepared = backend(x).prepare_weights(
                    self.params.pop("weights"), x.shape, **self.geometry
                )
        return backend(x).convolution_forward(
            x, self.prepared, self.params.get("bias"), relu=relu, pool=pool, **self.geometry
        )


class Interpolation(Layer):
    """A transposed convolution whose filter is an outer product, on each channel for itself."""

    def __init__(self, rows, columns, geometry):
        super().__init__()
        self.rows, self.columns, self.geometry = rows, columns, geometry

    def forward(self, x, keep=False, size=None):
        """`size` (h, w) of the output, if not the one that follows from the filter."""
        if keep:
            raise ValueError("a net that is prepared for inference cannot be trained")
        return backend(x).interpolate(x, self.rows, self.columns, output_size=size, **self.geometry)


def separable_filter(weights):
    """(rows, columns) whose outer product a fixed upsampling filter is, or None.

    `weights` (kh, kw, in, out) must be zero between different channels and the same for all.
    """
    if weights.shape[2] != weights.shape[3] or weights.size == 0:
        return None
    kernel = weights[:, :, 0, 0]
    if not np.array_equal(weights, kernel[:, :, None, None] * np.eye(weights.shape[2])):
        return None
    y, x = np.unravel_index(np.abs(kernel).argmax(), kernel.shape)
    if kernel[y, x] == 0:
        return None
    rows, columns = kernel[:, x].astype(np.float64), kernel[y] / np.float64(kernel[y, x])
    if not np.allclose(np.outer(rows, columns), kernel, rtol=1e-6, atol=0):
        return None
    return rows, columns
