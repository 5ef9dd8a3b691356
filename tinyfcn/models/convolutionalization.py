"""A classifier recast as a fully convolutional net, which answers with a map.

"Fully connected layers can also be viewed as convolutions with kernels that cover their entire
input regions" (Long, Shelhamer and Darrell 2015, section 3.1).
"""

import math

from ..graph import Graph
from ..layers import Convolution, Linear


def convolutionalize(net, size=None):
    """The same net with its dense layers as convolutions, for images of any size from its own on.

    The first dense layer, over a map of (h, w), becomes a convolution with a kernel of (h, w), the
    others 1x1 convolutions. The arrays of parameters are those of `net`, reshaped: nothing is
    copied, and what changes one net changes both.

    Parameters
    ----------
    net : Graph
        A classifier, such as LeNet, CaffeNet or VGG16.
    size : (h, w), optional
        Of the map that the first dense layer reads, if that is not square.

    Returns
    -------
    Graph
        x (n, h, w, in_channels) -> scores (n, out_h, out_w, classes), 1x1 at the classifier's own
        size, where they are the classifier's scores.

    Raises
    ------
    ValueError
        The first dense layer cannot have read a map of this size, or reads no map at all.
    """
    recast = Graph(net.name, net.arguments)
    for attribute in ("preprocessing", "class_names", "colours", "ignore_label", "device"):
        setattr(recast, attribute, getattr(net, attribute))
    channels, is_map = None, True
    for node in net.nodes:
        layer = node.layer
        if isinstance(layer, Linear):
            if channels is None:
                raise ValueError(f"{node.name} reads no map of a convolution")
            kernel = _kernel_size(node.name, layer, channels, size) if is_map else (1, 1)
            layer, is_map = _convolution(layer, kernel), False
        if isinstance(layer, Convolution):
            channels = layer.params["weights"].shape[3]
        recast.add(node.name, layer, *node.inputs, size_like=node.size_like)
    return recast


def _kernel_size(name, linear, channels, size):
    features = linear.params["weights"].shape[0]
    if size is None:
        side = math.isqrt(features // channels)
        size = side, side
    h, w = size
    if h * w * channels != features:
        raise ValueError(
            f"{name} reads {features} numbers, which are no map of {h}x{w} and {channels} channels"
        )
    return h, w


def _convolution(linear, kernel):
    features, outputs = linear.params["weights"].shape
    channels = features // (kernel[0] * kernel[1])
    # Of one number, so that nothing large is allocated only to be replaced.
    convolution = Convolution(1, 1, 1)
    convolution.kernel_size = kernel
    convolution.params = {
        "weights": linear.params["weights"].reshape(*kernel, channels, outputs),
        "bias": linear.params["bias"],
    }
    return convolution
