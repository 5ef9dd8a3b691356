"""The crop layer."""

from ..kernels import backend
from ..kernels.geometry import pair
from .layer import Layer


class Crop(Layer):
    """Cut out the window that begins at `offset` (y, x) and has the `size` given to forward.

    Caffe's Crop layer: the window is not centred, it starts at the offset and takes the size of
    the layer it is to be joined with.
    """

    def __init__(self, offset):
        super().__init__()
        self.offset = pair(offset)

    def forward(self, x, size, keep=False):
        if keep:
            self.kept = x.shape[1:3]
        return backend(x).crop_forward(x, self.offset, size)

    def backward(self, gy):
        return backend(gy).crop_backward(gy, self.offset, self.take_kept())
