"""Where learning starts."""

import numpy as np

from ..layers import Convolution, Linear


def he_normal(net, seed=0, skip=()):
    """Draw the weights of convolutions and dense layers from N(0, 2 / fan_in) (He et al. 2015).

    Biases become zero. Upsampling filters and batch norm keep their starts, and the nodes named in
    `skip` become zero.
    """
    rng = np.random.default_rng(seed)
    for name, layer in net.layers.items():
        if not isinstance(layer, Convolution | Linear):
            continue
        weights = layer.params["weights"]
        if name in skip:
            weights[...] = 0
        else:
            fan_in = weights.size // weights.shape[-1]
            rng.standard_normal(out=weights, dtype=weights.dtype)
            weights *= np.sqrt(2 / fan_in).astype(weights.dtype)
        if "bias" in layer.params:
            layer.params["bias"][...] = 0
