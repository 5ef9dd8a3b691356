"""VGG-16: five blocks of 3x3 convolutions and three fully connected layers.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015,
configuration D. Node names are those of the authors' Caffe model.
"""

import numpy as np

from ..graph import Graph
from ..layers import BatchNorm, Convolution, Dropout, Linear, MaxPooling, ReLU
from .initialization import he_normal

# Convolutions and channels of each block.
BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


def VGG16(
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
    input_size : int
        Height and width of the images.
    init : "scratch" or None
        He initialization, or all zeros, to be filled from a file.
    seed : int
    dtype : dtype
    """
    arguments = {
        "classes": classes,
        "width": width,
        "fc_channels": fc_channels,
        "batch_norm": batch_norm,
        "dropout": dropout,
        "in_channels": in_channels,
        "input_size": input_size,
    }
    if init not in ("scratch", None):
        raise ValueError(f"init must be 'scratch' or None, got {init!r}")
    net = Graph("vgg16", arguments)
    channels = add_blocks(net, width, batch_norm, in_channels, first_padding=1, dtype=dtype)
    side = input_size
    for _ in BLOCKS:
        side = -(-side // 2)
    for name, inputs, outputs in (
        ("fc6", side * side * channels, fc_channels),
        ("fc7", fc_channels, fc_channels),
    ):
        net.add(name, Linear(inputs, outputs, dtype=dtype))
        net.add(name.replace("fc", "relu"), ReLU())
        net.add(name.replace("fc", "drop"), Dropout(dropout))
    net.add("fc8", Linear(fc_channels, classes, dtype=dtype))
    net.reseed(seed)
    if init == "scratch":
        he_normal(net, seed)
    return net


def add_blocks(net, width, batch_norm, in_channels, first_padding, dtype):
    """Add conv1_1 ... pool5 to the net and return the channels of pool5."""
    for block, (count, full_channels) in enumerate(BLOCKS, 1):
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
