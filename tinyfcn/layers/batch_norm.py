"""The batch normalization layer."""

import numpy as np

from ..arrays import to_host, zeros_like
from ..kernels import backend
from .layer import Layer


class BatchNorm(Layer):
    """Normalize each channel, in training by the batch, in inference by running averages.

    The running averages move by `momentum` towards the batch's mean and unbiased variance; where
    gamma is fixed too, training leaves them alone and normalizes by them.
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
        frozen = "gamma" in self.fixed
        if keep and not frozen:
            mean, var = ops.batch_norm_statistics(x)
            count = x.size // x.shape[3]
            unbiased = ops.scale(var, count / max(1, count - 1))
            for name, now in ("running_mean", mean), ("running_var", unbiased):
                ops.move_towards(params[name], now, self.momentum)
            self.kept = x, mean, var, relu
        else:
            mean, var = params["running_mean"], params["running_var"]
        y = ops.batch_norm_forward(
            x, mean, var, params["gamma"], params["beta"], self.eps, relu=relu
        )
        if keep and frozen:
            self.kept = y, relu
        return y

    def positive(self):
        """Where the ReLU that forward did on the way lets the gradient through.

        To be asked after a forward in training mode, before its backward.
        """
        *kept, _ = self.kept
        if "gamma" in self.fixed:
            return to_host(kept[0]) > 0
        x, mean, var = kept
        params = self.params
        y = backend(x).batch_norm_forward(
            x, mean, var, params["gamma"], params["beta"], self.eps, relu=True
        )
        return to_host(y) > 0

    def backward(self, gy):
        ops, params = backend(gy), self.params
        if "gamma" in self.fixed:  # it is linear: y = gamma / sqrt(var + eps) * x + a constant
            y, relu = self.take_kept()
            zeros = zeros_like(params["beta"])
            return ops.batch_norm_forward(
                ops.relu_backward(gy, y) if relu else gy,
                zeros, params["running_var"], params["gamma"], zeros, self.eps,
            )
        x, mean, var, relu = self.take_kept()
        gx, self.grads["gamma"], self.grads["beta"] = ops.batch_norm_backward(
            gy, x, mean, var, params["gamma"], self.eps,
            relu_beta=params["beta"] if relu else None,
        )
        return gx
