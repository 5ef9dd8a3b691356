"""The layer that multiplies by a fixed number."""

from ..kernels import backend
from .layer import Layer


class Scale(Layer):
    """y = factor * x, with a factor that is never learned (FCN-8s at once, `scale_pool4`)."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x, keep=False):
        return backend(x).scale(x, self.factor)

    def backward(self, gy):
        return backend(gy).scale(gy, self.factor)
