"""FCN-32s on AlexNet, in CaffeNet's order.

Long, Shelhamer and Darrell, "Fully Convolutional Networks for Semantic Segmentation", 2015; node
names and, with ``geometry="caffe"``, every size and crop are those of the authors' Caffe net
(shelhamer/fcn.berkeleyvision.org, voc-fcn-alexnet/net.py).

With ``geometry="same"`` the windows of all layers are centred on multiples of their stride, and the
upsampling is told the image's size: it works for any input down to one pixel.
"""

import numpy as np

from ..graph import DATA, Graph
from ..layers import Convolution, Crop, Dropout, ReLU, TransposedConvolution
from .alexnet import CAFFENET_PREPROCESSING, TWO_TOWERS, add_convolutions
from .fcn import SCORE_LAYERS, check_choice
from .initialization import he_normal

# The offset at which the authors' net crops, and what shifts the upsampling as much when nothing
# is padded beyond need: of fc6's even windows the first is centred 16 pixels before the image.
CROP_SCORE, UPSAMPLING_PADDING = 18, 47


def FCNAlexNet(
    classes=21,
    width=1.0,
    fc_channels=4096,
    batch_norm=False,
    upsampling="fixed",
    geometry="same",
    normalization="caffe",
    dropout=0.5,
    in_channels=3,
    init="classifier",
    seed=0,
    dtype=np.float32,
):
    """x (n, h, w, in_channels) -> scores (n, h, w, classes), by default of PASCAL VOC's 21 classes.

    See `FCN8s` for the options.

    Parameters
    ----------
    normalization : "caffe" or "paper"
        The constants of the local response normalization.

    Returns
    -------
    Graph

    Raises
    ------
    ValueError
        For an unknown option's value.
    """
    check_choice("upsampling", upsampling, ("fixed", "learned"))
    check_choice("geometry", geometry, ("same", "caffe"))
    check_choice("init", init, ("classifier", "scratch", None))
    same = geometry == "same"
    net = Graph("fcn_alexnet", {
        "classes": classes,
        "width": width,
        "fc_channels": fc_channels,
        "batch_norm": batch_norm,
        "upsampling": upsampling,
        "geometry": geometry,
        "normalization": normalization,
        "dropout": dropout,
        "in_channels": in_channels,
    })
    net.preprocessing = dict(CAFFENET_PREPROCESSING)
    (name, channels, kernel, stride, _, groups), *rest = TWO_TOWERS
    table = ((name, channels, kernel, stride, 5 if same else 100, groups), *rest)
    pooling = {"padding": 1, "ceil": False} if same else {}
    pool5 = add_convolutions(
        net, table, "pool norm", width, normalization, in_channels, dtype, pooling, batch_norm
    )
    net.add("fc6", Convolution(pool5, fc_channels, 6, padding=3 if same else 0, dtype=dtype))
    net.add("relu6", ReLU())
    net.add("drop6", Dropout(dropout))
    net.add("fc7", Convolution(fc_channels, fc_channels, 1, dtype=dtype))
    net.add("relu7", ReLU())
    net.add("drop7", Dropout(dropout))
    net.add("score_fr", Convolution(fc_channels, classes, 1, dtype=dtype))
    upscore = TransposedConvolution(
        classes, 63, 32, UPSAMPLING_PADDING if same else 0, fixed=upsampling == "fixed",
        dtype=dtype)
    net.add("upscore", upscore, size_like=DATA if same else None)
    if not same:
        net.add("score", Crop(CROP_SCORE), size_like=DATA)
    net.reseed(seed)
    if init is not None:
        he_normal(net, seed, skip=SCORE_LAYERS if init == "classifier" else ())
    return net
