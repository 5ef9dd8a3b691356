"""FCN-32s, 16s and 8s on VGG-16.

Long, Shelhamer and Darrell, "Fully Convolutional Networks for Semantic Segmentation", 2015. fc6 and
fc7 are convolutions, score_fr scores the classes at stride 32, skips add scores of pool4 and pool3,
transposed convolutions upsample. Node names and, with ``geometry="caffe"``, every size and crop are
those of the authors' Caffe nets (shelhamer/fcn.berkeleyvision.org, voc-fcn8s/net.py).

``geometry="same"`` pads each convolution so that it keeps its input's size, and each upsampling is
told the size of what it joins. No border is computed only to be cropped: it is faster, and works
for any input down to one pixel.
"""

import numpy as np

from ..graph import DATA, Graph
from ..layers import Add, Convolution, Crop, Dropout, ReLU, Scale, TransposedConvolution
from .initialization import he_normal
from .vgg import add_blocks

# Offsets at which the authors' nets crop; they follow from pad 100 and the kernels.
CROP_POOL4, CROP_POOL3 = 5, 9
CROP_SCORE = {32: 19, 16: 27, 8: 31}
SCORE_LAYERS = ("score_fr", "score_pool4", "score_pool3")


def FCN32s(**options):
    """Scores at stride 32, upsampled 32 times in one step; see `FCN8s` for the options."""
    return _build("fcn32s", stride=32, scales=None, **options)


def FCN16s(**options):
    """Adds scores of pool4, upsampled 16 times; see `FCN8s` for the options."""
    return _build("fcn16s", stride=16, scales=None, **options)


def FCN8s(**options):
    """Scores of fc7, pool4 and pool3 joined, upsampled 8 times.

    x (n, h, w, in_channels) -> scores (n, h, w, classes), by default of PASCAL VOC's 21 classes.

    Parameters
    ----------
    classes : int
    width : float
        Scales the channels of the five convolution blocks.
    fc_channels : int
        Of fc6 and fc7.
    batch_norm : bool
        After each convolution of the blocks, before its ReLU.
    upsampling : "fixed" or "learned"
        Whether training changes the bilinear filters of the transposed convolutions.
    geometry : "same" or "caffe"
    dropout : float
        Rate after fc6 and fc7.
    in_channels : int
    init : "classifier", "scratch" or None
        He initialization with score layers at zero, for training from a classifier's weights; He
        initialization everywhere; or all zeros, to be filled from a file.
    seed : int
    dtype : dtype

    Returns
    -------
    Graph

    Raises
    ------
    ValueError
        For an unknown option's value.
    """
    return _build("fcn8s", stride=8, scales=None, **options)


def FCN8sAtOnce(**options):
    """FCN-8s with the pools scaled before scoring, so that all can be trained in one stage."""
    return _build("fcn8s-atonce", stride=8, scales=(0.01, 0.0001), **options)


def _build(
    name,
    stride,
    scales,
    classes=21,
    width=1.0,
    fc_channels=4096,
    batch_norm=False,
    upsampling="fixed",
    geometry="same",
    dropout=0.5,
    in_channels=3,
    init="classifier",
    seed=0,
    dtype=np.float32,
):
    check_choice("upsampling", upsampling, ("fixed", "learned"))
    check_choice("geometry", geometry, ("same", "caffe"))
    check_choice("init", init, ("classifier", "scratch", None))
    same = geometry == "same"
    net = Graph(
        name,
        {
            "classes": classes,
            "width": width,
            "fc_channels": fc_channels,
            "batch_norm": batch_norm,
            "upsampling": upsampling,
            "geometry": geometry,
            "dropout": dropout,
            "in_channels": in_channels,
        },
    )

    def upsample(node, factor, source, like):
        """A transposed convolution by `factor`; in 'same' geometry to the size of `like`."""
        layer = TransposedConvolution(
            classes,
            2 * factor,
            factor,
            padding=factor // 2 if same else 0,
            fixed=upsampling == "fixed",
            dtype=dtype,
        )
        return net.add(node, layer, source, size_like=like if same else None)

    def score(pool, channels, scale, crop, like):
        """Class scores of a pool, cropped in 'caffe' geometry to the size of `like`."""
        source = pool
        if scale is not None:
            source = net.add(f"scale_{pool}", Scale(scale), source)
        layer = Convolution(channels, classes, 1, dtype=dtype)
        source = net.add(f"score_{pool}", layer, source)
        if same:
            return source
        return net.add(f"score_{pool}c", Crop(crop), source, size_like=like)

    pool5 = add_blocks(net, width, batch_norm, in_channels, 1 if same else 100, dtype)
    net.add("fc6", Convolution(pool5, fc_channels, 7, padding=3 if same else 0, dtype=dtype))
    net.add("relu6", ReLU())
    net.add("drop6", Dropout(dropout))
    net.add("fc7", Convolution(fc_channels, fc_channels, 1, dtype=dtype))
    net.add("relu7", ReLU())
    net.add("drop7", Dropout(dropout))
    source = net.add("score_fr", Convolution(fc_channels, classes, 1, dtype=dtype))

    pool4_scale, pool3_scale = scales or (None, None)
    pool4_channels = net.layers["conv4_3"].params["bias"].size
    pool3_channels = net.layers["conv3_3"].params["bias"].size
    if stride <= 16:
        upscore2 = upsample("upscore2", 2, source, "pool4")
        skip = score("pool4", pool4_channels, pool4_scale, CROP_POOL4, upscore2)
        source = net.add("fuse_pool4", Add(), upscore2, skip)
    if stride <= 8:
        upscore_pool4 = upsample("upscore_pool4", 2, source, "pool3")
        skip = score("pool3", pool3_channels, pool3_scale, CROP_POOL3, upscore_pool4)
        source = net.add("fuse_pool3", Add(), upscore_pool4, skip)
    last = {32: "upscore", 16: "upscore16", 8: "upscore8"}[stride]
    source = upsample(last, stride, source, DATA)
    if not same:
        net.add("score", Crop(CROP_SCORE[stride]), source, size_like=DATA)

    net.reseed(seed)
    if init is not None:
        he_normal(net, seed, skip=SCORE_LAYERS if init == "classifier" else ())
    return net


def check_choice(option, value, choices):
    """Raise ValueError unless an option has one of its values."""
    if value not in choices:
        raise ValueError(f"{option} must be one of {', '.join(map(repr, choices))}, got {value!r}")
