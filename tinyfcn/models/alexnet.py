"""AlexNet in its three forms: the paper's order, Caffe's CaffeNet, and a single tower.

Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks",
2012. Its two towers are groups of two in conv2, conv4 and conv5. Node names are those of BVLC/caffe
(models/bvlc_alexnet, models/bvlc_reference_caffenet). The single tower is that of Krizhevsky, "One
weird trick for parallelizing convolutional neural networks", 2014, as in torchvision.
"""

import numpy as np

from ..graph import Graph
from ..kernels.geometry import convolution_size, pooling_size
from ..layers import (
    BatchNorm,
    Convolution,
    Dropout,
    LocalResponseNormalization,
    MaxPooling,
    ReLU,
)
from .vgg import add_classifier, start

# Name, channels, kernel, stride, padding, groups.
TWO_TOWERS = (
    ("1", 96, 11, 4, 0, 1),
    ("2", 256, 5, 1, 2, 2),
    ("3", 384, 3, 1, 1, 1),
    ("4", 384, 3, 1, 1, 2),
    ("5", 256, 3, 1, 1, 2),
)
SINGLE_TOWER = (
    ("1", 64, 11, 4, 2, 1),
    ("2", 192, 5, 1, 2, 1),
    ("3", 384, 3, 1, 1, 1),
    ("4", 256, 3, 1, 1, 1),
    ("5", 256, 3, 1, 1, 1),
)
# Alpha is divided by 5 in Caffe and in our kernel, but not in the paper.
NORMALIZATIONS = {"caffe": {"alpha": 1e-4, "k": 1.0}, "paper": {"alpha": 5e-4, "k": 2.0}}

TORCHVISION_PREPROCESSING = {
    "channel_order": "RGB",
    "scale": 1 / 255,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}
CAFFENET_PREPROCESSING = {
    "channel_order": "BGR",
    "scale": 1.0,
    "mean": [104.00699, 116.66877, 122.67892],
    "std": [1.0, 1.0, 1.0],
}


def AlexNet(**options):
    """The paper's order: normalization before pooling. See `CaffeNet` for the options."""
    return _build("alexnet", **options)


def CaffeNet(**options):
    """The classifier: x (n, input_size, input_size, in_channels) -> scores (n, classes).

    Pooling comes before normalization.

    Parameters
    ----------
    classes : int
    width : float
        Scales the channels of the convolutions.
    fc_channels : int
        Of fc6 and fc7.
    normalization : "caffe" or "paper"
        The constants of the local response normalization. The single tower has none.
    dropout : float
        Rate around fc6 and fc7.
    in_channels : int
    input_size : int
        Height and width of the images: 227, of the single tower 224.
    init : "scratch" or None
        He initialization, or all zeros, to be filled from a file.
    seed : int
    dtype : dtype
    """
    return _build("caffenet", **options)


def AlexNetSingleTower(**options):
    """Without groups and normalization, as in torchvision. See `CaffeNet` for the options."""
    return _build("alexnet-single-tower", **options)


def _build(
    name,
    classes=1000,
    width=1.0,
    fc_channels=4096,
    normalization="caffe",
    dropout=0.5,
    in_channels=3,
    input_size=None,
    init="scratch",
    seed=0,
    dtype=np.float32,
):
    single = name == "alexnet-single-tower"
    input_size = input_size or (224 if single else 227)
    arguments = {
        "classes": classes,
        "width": width,
        "fc_channels": fc_channels,
        "dropout": dropout,
        "in_channels": in_channels,
        "input_size": input_size,
    }
    if not single:
        arguments["normalization"] = normalization
    net = Graph(name, arguments)
    net.preprocessing = dict(TORCHVISION_PREPROCESSING if single else CAFFENET_PREPROCESSING)
    order = {"alexnet": "norm pool", "caffenet": "pool norm"}.get(name, "pool")
    channels = add_convolutions(
        net, SINGLE_TOWER if single else TWO_TOWERS, order, width, normalization, in_channels,
        dtype, {"ceil": not single}
    )
    if single:  # its dropouts come before fc6 and fc7, not after them
        net.add("drop5", Dropout(dropout))
    side = _side(net, input_size)
    add_classifier(net, side * side * channels, fc_channels, classes, dropout, dtype,
                   "6" if single else "67")
    return start(net, init, seed)


def add_convolutions(
    net, table, order, width, normalization, in_channels, dtype, pooling, batch_norm=False
):
    """Add conv1 ... pool5 to the net and return the channels of pool5.

    `order` is "norm pool", "pool norm" or "pool": what follows the first two convolutions;
    `pooling` are options of all poolings.
    """
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"normalization must be 'caffe' or 'paper', got {normalization!r}")
    for name, full_channels, kernel, stride, padding, groups in table:
        # Both groups get as many.
        out_channels = 2 * max(1, round(full_channels * width / 2))
        net.add(f"conv{name}", Convolution(
            in_channels, out_channels, kernel, stride, padding, groups=groups, dtype=dtype))
        if batch_norm:
            net.add(f"bn{name}", BatchNorm(out_channels, dtype=dtype))
        net.add(f"relu{name}", ReLU())
        for step in order.split() if name in "12" else ["pool"] if name == "5" else []:
            if step == "pool":
                net.add(f"pool{name}", MaxPooling(3, 2, **pooling))
            else:
                net.add(f"norm{name}", LocalResponseNormalization(**NORMALIZATIONS[normalization]))
        in_channels = out_channels
    return in_channels


def _side(net, size):
    """Height and width of the last map for an image of `size`."""
    for layer in net.layers.values():
        if isinstance(layer, Convolution):
            geometry = layer.geometry
            size = convolution_size(
                size, layer.kernel_size[0], geometry["stride"][0], geometry["padding"][0])
        elif isinstance(layer, MaxPooling):
            size = pooling_size(size, 3, 2, layer.geometry["padding"][0], layer.ceil)
    return size
