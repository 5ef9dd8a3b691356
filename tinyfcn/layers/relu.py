"""The rectifier layer."""

from ..kernels import backend
from .layer import Layer


class ReLU(Layer):
    """y = max(x, 0)."""

    def forward(self, x, keep=False):
        y = backend(x).relu_forward(x)
        if keep:
            self.kept = y
        return y

    def backward(self, gy):
        return backend(gy).relu_backward(gy, self.take_kept())
