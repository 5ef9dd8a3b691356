"""LeNet as Caffe ships it: two convolutions and two fully connected layers, for digits.

After LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document Recognition",
1998; sizes and node names are those of BVLC/caffe, examples/mnist/lenet.prototxt, where no
rectifier follows the convolutions.
"""

import numpy as np

from ..graph import Graph
from ..layers import Convolution, Linear, MaxPooling, ReLU
from .vgg import start

MNIST_PREPROCESSING = {"channel_order": "grey", "scale": 1 / 256, "mean": [0.0], "std": [1.0]}


def LeNet(
    classes=10, in_channels=1, input_size=28, init="scratch", seed=0, dtype=np.float32
):
    """The classifier: x (n, input_size, input_size, in_channels) -> scores (n, classes).

    Parameters
    ----------
    classes, in_channels : int
    input_size : int
        Height and width of the images, at least 14.
    init : "scratch" or None
        He initialization, or all zeros, to be filled from a file.
    seed : int
    dtype : dtype
    """
    net = Graph(
        "lenet", {"classes": classes, "in_channels": in_channels, "input_size": input_size}
    )
    if in_channels == 1:
        net.preprocessing = dict(MNIST_PREPROCESSING)
    side = input_size
    for name, inputs, outputs in ("1", in_channels, 20), ("2", 20, 50):
        net.add(f"conv{name}", Convolution(inputs, outputs, 5, dtype=dtype))
        net.add(f"pool{name}", MaxPooling(2, 2))
        side = -(-(side - 4) // 2)
    if side < 1:
        raise ValueError(f"input_size must be at least 14, got {input_size}")
    net.add("ip1", Linear(side * side * 50, 500, dtype=dtype))
    net.add("relu1", ReLU())
    net.add("ip2", Linear(500, classes, dtype=dtype))
    return start(net, init, seed)
