"""The max-pooling layer."""

from ..kernels import backend
from ..kernels.geometry import pair
from .layer import Layer


class MaxPooling(Layer):
    """The largest number of each window; `ceil` rounds the output size up, as Caffe does."""

    def __init__(self, kernel_size, stride, padding=0, ceil=True):
        super().__init__()
        self.geometry = {
            "kernel_size": pair(kernel_size),
            "stride": pair(stride),
            "padding": pair(padding),
        }
        self.ceil = ceil

    @property
    def halves(self):
        """Whether it is what a convolution can do on the way: 2 x 2, stride 2, rounded up."""
        return self.ceil and self.geometry == {
            "kernel_size": (2, 2), "stride": (2, 2), "padding": (0, 0)}

    def forward(self, x, keep=False):
        y, argmax = backend(x).max_pooling_forward(
            x, ceil=self.ceil, keep_argmax=keep, **self.geometry
        )
        if keep:
            self.kept = argmax, x.shape[1:3]
        return y

    def backward(self, gy):
        argmax, input_size = self.take_kept()
        return backend(gy).max_pooling_backward(gy, argmax, input_size, **self.geometry)
