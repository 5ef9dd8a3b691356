"""VGG: five blocks of 3x3 convolutions and three fully connected layers.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015,
configurations A, B, D and E. Node names are those of the authors' Caffe models.
"""

import numpy as np

from ..graph import Graph
from ..layers import BatchNorm, Convolution, Dropout, Linear, MaxPooling, ReLU
from .initialization import he_normal

# Channels of each block, and its convolutions by the number of layers with weights.
CHANNELS = (64, 128, 256, 512, 512)
CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def VGG11(**options):
    """Configuration A; see `VGG16` for the options."""
    return _build(11, **options)


def VGG13(**options):
    """Configuration B; see `VGG16` for the options."""
    return _build(13, **options)


def VGG16(**options):
    """The classifier: x (n, input_size, input_size, in_channels) -> scores (n, classes).

    Parameters
    ----------
    classes : int
    width : float
        Scales the channels of the convolutions.
    fc_channels : int
        Of fc6 and fc7.
    batch_norm : bool
        After each convolution, before its ReLU.
    dropout : float
        Rate after fc6 and fc7.
    in_channels : int
    input_size : int
        Height and width of the images.
    init : "scratch" or None
        He initialization, or all zeros, to be filled from a file.
    seed : int
    dtype : dtype
    """
    return _build(16, **options)


def VGG19(**options):
    """Configuration E; see `VGG16` for the options."""
    return _build(19, **options)


def _build(
    depth,
    classes=1000,
    width=1.0,
    fc_channels=4096,
    batch_norm=False,
    dropout=0.5,
    in_channels=3,
    input_size=224,
    init="scratch",
    seed=0,
    dtype=np.float32,
):
    net = Graph(f"vgg{depth}", {
        "classes": classes,
        "width": width,
        "fc_channels": fc_channels,
        "batch_norm": batch_norm,
        "dropout": dropout,
        "in_channels": in_channels,
        "input_size": input_size,
    })
    channels = add_blocks(net, width, batch_norm, in_channels, 1, dtype, CONVOLUTIONS[depth])
    side = input_size
    for _ in CHANNELS:
        side = -(-side // 2)
    add_classifier(net, side * side * channels, fc_channels, classes, dropout, dtype)
    return start(net, init, seed)


def add_classifier(net, features, fc_channels, classes, dropout, dtype, dropouts="67"):
    """Add the fully connected layers fc6, fc7 and fc8 with what follows them."""
    for name, inputs in ("6", features), ("7", fc_channels):
        net.add(f"fc{name}", Linear(inputs, fc_channels, dtype=dtype))
        net.add(f"relu{name}", ReLU())
        if name in dropouts:
            net.add(f"drop{name}", Dropout(dropout))
    net.add("fc8", Linear(fc_channels, classes, dtype=dtype))


def start(net, init, seed):
    """Give a classifier its first weights, "scratch" or None, and return it."""
    if init not in ("scratch", None):
        raise ValueError(f"init must be 'scratch' or None, got {init!r}")
    net.reseed(seed)
    if init == "scratch":
        he_normal(net, seed)
    return net


def add_blocks(
    net, width, batch_norm, in_channels, first_padding, dtype, convolutions=CONVOLUTIONS[16]
):
    """Add conv1_1 ... pool5 to the net and return the channels of pool5."""
    for block, (count, full_channels) in enumerate(zip(convolutions, CHANNELS), 1):
        out_channels = max(1, round(full_channels * width))
        for index in range(1, count + 1):
            name = f"{block}_{index}"
            padding = first_padding if name == "1_1" else 1
            net.add(
                f"conv{name}",
                Convolution(in_channels, out_channels, 3, padding=padding, dtype=dtype),
            )
            if batch_norm:
                net.add(f"bn{name}", BatchNorm(out_channels, dtype=dtype))
            net.add(f"relu{name}", ReLU())
            in_channels = out_channels
        net.add(f"pool{block}", MaxPooling(2, 2, ceil=True))
    return in_channels
