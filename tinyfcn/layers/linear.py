"""The fully connected layer."""

import numpy as np

from ..kernels import backend
from .layer import Layer


class Linear(Layer):
    """y (n, out) = x, flattened to (n, in) in h, w, c order, times weights (in, out), plus bias."""

    def __init__(self, in_features, out_features, dtype=np.float32):
        super().__init__()
        self.params["weights"] = np.zeros((in_features, out_features), dtype)
        self.params["bias"] = np.zeros(out_features, dtype)

    def forward(self, x, keep=False):
        # A convolution over one row of pixels: the same kernel adds the bias on the way.
        pixels = x.reshape(1, 1, x.shape[0], -1)
        weights = self.params["weights"]
        weights = weights.reshape(1, 1, *weights.shape)
        y = backend(x).convolution_forward(pixels, weights, self.params["bias"])
        if keep:
            self.kept = x
        return y.reshape(*y.shape[2:])

    def backward(self, gy):
        x, ops = self.take_kept(), backend(gy)
        if "weights" not in self.fixed:
            flat = x.reshape(x.shape[0], -1)
            self.grads["weights"] = ops.matrix_product(flat, gy, transpose_a=True)
        if "bias" not in self.fixed:
            self.grads["bias"] = ops.convolution_backward_bias(
                gy.reshape(gy.shape[0], 1, 1, -1)
            )
        return ops.matrix_product(gy, self.params["weights"], transpose_b=True).reshape(x.shape)
