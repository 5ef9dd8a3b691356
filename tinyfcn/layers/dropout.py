"""The dropout layer."""

from ..kernels import backend
from .layer import Layer


class Dropout(Layer):
    """In training, set numbers to zero with probability `rate` and scale up the rest.

    Each training forward draws the next mask of the sequence that `seed` begins; `reseed` begins
    another. Inference passes x through.
    """

    def __init__(self, rate, seed=0):
        super().__init__()
        self.rate = rate
        self.reseed(seed)

    def reseed(self, seed):
        self.seed = seed
        self.draws = 0

    def forward(self, x, keep=False):
        if not keep:
            return x
        self.kept = mask_seed = (self.seed << 32) + self.draws & 0xFFFFFFFFFFFFFFFF
        self.draws += 1
        return backend(x).dropout(x, self.rate, mask_seed)

    def backward(self, gy):
        return backend(gy).dropout(gy, self.rate, self.take_kept())
