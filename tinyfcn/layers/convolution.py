"""The convolution layer."""

import numpy as np

from ..kernels import backend
from ..kernels.geometry import pair
from .layer import Layer


class Convolution(Layer):
    """y = convolution of x (n, h, w, in) with weights (kh, kw, in / groups, out), plus a bias.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, padding, dilation : int or (y, x)
    groups : int
    bias : bool
    dtype : dtype
        float32, or float64 for gradient checks. All parameters start at zero.
    """

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        dilation=1,
        groups=1,
        bias=True,
        dtype=np.float32,
    ):
        super().__init__()
        self.kernel_size = pair(kernel_size)
        self.geometry = {
            "stride": pair(stride),
            "padding": pair(padding),
            "dilation": pair(dilation),
            "groups": groups,
        }
        shape = (*self.kernel_size, in_channels // groups, out_channels)
        self.params["weights"] = np.zeros(shape, dtype)
        if bias:
            self.params["bias"] = np.zeros(out_channels, dtype)

    def forward(self, x, keep=False, relu=False):
        """With `relu`, the ReLU that follows is done on the way: the graph decides."""
        y = backend(x).convolution_forward(
            x, self.params["weights"], self.params.get("bias"), relu=relu, **self.geometry
        )
        if keep:
            self.kept = x
        return y

    def backward(self, gy, input_gradient=True):
        """Without `input_gradient`, where nothing before the layer learns, return None for it."""
        x, ops = self.take_kept(), backend(gy)
        if "weights" not in self.fixed:
            self.grads["weights"] = ops.convolution_backward_weights(
                x, gy, self.kernel_size, **self.geometry
            )
        if "bias" in self.params and "bias" not in self.fixed:
            self.grads["bias"] = ops.convolution_backward_bias(gy)
        if not input_gradient:
            return None
        return ops.convolution_backward_input(
            gy, self.params["weights"], x.shape[1:3], **self.geometry
        )
