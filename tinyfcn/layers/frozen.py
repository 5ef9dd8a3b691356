"""Layers for inference alone: parameters that don't change are brought into their fastest form."""

from ..kernels import backend
from .layer import Layer


class FrozenConvolution(Layer):
    """A convolution whose weights may be transformed, once for all images that follow.

    Parameters
    ----------
    params, geometry : dict
        Of a `Convolution`. Its weights are let go of when they are transformed: they are held once.
    """

    def __init__(self, params, geometry):
        super().__init__()
        self.params = dict(params)
        self.geometry = geometry
        self.input_shape = None
        self.prepared = None

    def to(self, device):
        """As for every layer; not once the weights are transformed."""
        if self.prepared is not None:
            raise RuntimeError("a prepared net that has run stays on its device")
        super().to(device)

    def forward(self, x, keep=False, relu=False, pool=False):
        """With `relu` and `pool`, the layers that follow are done on the way."""
        if keep:
            raise ValueError("a net that is prepared for inference cannot be trained")
        self.input_shape = self.input_shape or x.shape
        weights = self.params.get("weights")
        if weights is None:  # asked in this order, since another thread may be in `prepare`
            weights = self.prepared
        return backend(x).convolution_forward(
            x, weights, self.params.get("bias"), relu=relu, pool=pool, **self.geometry
        )

    def prepare(self):
        """Bring the weights into the form that is fastest for images like the first that came."""
        weights = self.params["weights"]
        self.prepared = backend(weights).prepare_weights(
            weights, self.input_shape, **self.geometry
        )
        del self.params["weights"]


class FrozenLinear(FrozenConvolution):
    """The same of a `Linear` layer: a convolution over one row of pixels, one for each image."""

    def __init__(self, params):
        weights = params["weights"]
        super().__init__({**params, "weights": weights.reshape(1, 1, *weights.shape)}, {})

    def forward(self, x, keep=False, relu=False):
        pixels = x.reshape(1, 1, x.shape[0], -1)
        y = super().forward(pixels, keep=keep, relu=relu)
        return y.reshape(*y.shape[2:])


class Interpolation(Layer):
    """A transposed convolution whose filter is an outer product, on each channel for itself."""

    def __init__(self, rows, columns, geometry):
        super().__init__()
        self.rows, self.columns, self.geometry = rows, columns, geometry

    def forward(self, x, keep=False, size=None):
        """`size` (h, w) of the output, if not the one that follows from the filter."""
        if keep:
            raise ValueError("a net that is prepared for inference cannot be trained")
        return backend(x).interpolate(x, self.rows, self.columns, output_size=size, **self.geometry)

    def classify(self, x, size):
        """The best class at each pixel of the output and its probability, without the scores."""
        return backend(x).interpolate_classify(
            x, self.rows, self.columns, output_size=size, **self.geometry
        )
