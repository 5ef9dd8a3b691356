"""The local response normalization layer of AlexNet."""

from ..kernels import backend
from .layer import Layer


class LocalResponseNormalization(Layer):
    """y = x / (k + alpha / size * sum of the squares of `size` neighbouring channels)^beta.

    The defaults are Caffe's. With alpha = 5e-4 and k = 2 it is that of Krizhevsky, Sutskever and
    Hinton (2012), who don't divide alpha by the window's size.
    """

    def __init__(self, size=5, alpha=1e-4, beta=0.75, k=1.0):
        super().__init__()
        self.settings = {"size": size, "alpha": alpha, "beta": beta, "k": k}

    def forward(self, x, keep=False):
        if keep:
            self.kept = x
        return backend(x).local_response_normalization_forward(x, **self.settings)

    def backward(self, gy):
        return backend(gy).local_response_normalization_backward(
            gy, self.take_kept(), **self.settings
        )
