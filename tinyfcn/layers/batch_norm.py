"""The batch normalization layer."""

import numpy as np

from ..kernels import backend
from .layer import Layer


class BatchNorm(Layer):
    """Normalize each channel, in training by the batch, in inference by running averages.

    The running averages move by `momentum` towards the batch's mean and unbiased variance.
    (Ioffe and Szegedy 2015; momentum and eps as in torchvision's VGG.)
    """

    fixed = frozenset({"running_mean", "running_var"})

    def __init__(self, channels, momentum=0.1, eps=1e-5, dtype=np.float32):
        super().__init__()
        self.momentum = momentum
        self.eps = eps
        self.params = {
            "gamma": np.ones(channels, dtype),
            "beta": np.zeros(channels, dtype),
            "running_mean": np.zeros(channels, dtype),
            "running_var": np.ones(channels, dtype),
        }

    def forward(self, x, keep=False, relu=False):
        """With `relu`, the ReLU that follows is done on the way, and backward through it too."""
        ops, params = backend(x), self.params
        if keep:
            mean, var = ops.batch_norm_statistics(x)
            count = x.size // x.shape[3]
            unbiased = ops.scale(var, count / max(1, count - 1))
            for name, now in ("running_mean", mean), ("running_var", unbiased):
                ops.move_towards(params[name], now, self.momentum)
            self.kept = x, mean, var, relu
        else:
            mean, var = params["running_mean"], params["running_var"]
        return ops.batch_norm_forward(
            x, mean, var, params["gamma"], params["beta"], self.eps, relu=relu
        )

    def backward(self, gy):
        x, mean, var, relu = self.take_kept()
        gx, self.grads["gamma"], self.grads["beta"] = backend(gy).batch_norm_backward(
            gy, x, mean, var, self.params["gamma"], self.eps,
            relu_beta=self.params["beta"] if relu else None,
        )
        return gx
