"""How each source of weights names and orders its tensors, as tables, and what its nets see.

A reader gives a file's tensors as they are stored. `recognise` finds by their names and shapes
which source they come from, `to_own` renames and reorders them to this project's layout:
"conv1_1/weights" (kh, kw, in, out), "fc6/weights" (in, out) with the inputs in h, w, c order,
"upscore2/weights" (kh, kw, in, out), "conv1_1/bias". The numbers stay as they are: a first layer
that expects RGB goes on to expect RGB, and `preprocessing` says so.
"""
from typing import NamedTuple

from tinyfcn.weights.conversion import OwnTensors, matches

__all__ = ["LAYOUTS", "Layout", "recognise", "to_own"]

IMAGENET_MEAN_BGR = [103.939, 116.779, 123.68]  # VGG's authors
CAFFENET_MEAN_BGR = [104.00699, 116.66877, 122.67892]  # Caffe's, and FCN's authors


def _input(order, mean, std=None, scale=1.0):
    return {"channel_order": order, "scale": scale, "mean": list(mean),
            "std": [1.0] * len(mean) if std is None else list(std)}


VGG_BGR = _input("BGR", IMAGENET_MEAN_BGR)
VGG_RGB = _input("RGB", IMAGENET_MEAN_BGR[::-1])
CAFFENET_BGR = _input("BGR", CAFFENET_MEAN_BGR)
CAFFENET_RGB = _input("RGB", CAFFENET_MEAN_BGR[::-1])
TORCHVISION = _input("RGB", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], 1 / 255)
TORCHVISION_FEATURES = _input("RGB", [0.48235, 0.45882, 0.40784], [1 / 255] * 3, 1 / 255)
MNIST = _input("grey", [0.0], scale=0.00390625)

VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)

# Convolutions of each block. Deeper nets first: the names of a shallower one are among theirs.
VGG_BLOCKS = {19: (2, 2, 4, 4, 4), 16: (2, 2, 3, 3, 3), 13: (2, 2, 2, 2, 2), 11: (1, 1, 2, 2, 2)}


def _own_names(*names):
    return {name: name for name in names}


def _vgg(blocks):
    return [f"conv{block}_{i}" for block, count in enumerate(blocks, 1)
            for i in range(1, count + 1)]


def _numbered(blocks, batch_norm, dense):
    """torchvision's: the position in a list that also counts ReLUs and pools."""
    table, position = {}, 0
    for block, count in enumerate(blocks, 1):
        for i in range(1, count + 1):
            table[f"features.{position}"] = f"conv{block}_{i}"
            if batch_norm:
                position += 1
                table[f"features.{position}"] = f"bn{block}_{i}"
            position += 2
        position += 1
    return table | dense


def _vgg_tables(dense):
    return tuple(_numbered(blocks, batch_norm, dense)
                 for batch_norm in (True, False) for blocks in VGG_BLOCKS.values())


DENSE = ("fc6", "fc7", "fc8")
CLASSIFIER = dict(zip(("classifier.0", "classifier.3", "classifier.6"), DENSE))
SCORES = ("fc6", "fc7", "score_fr", "score_pool4", "score_pool3", "scale_pool4", "scale_pool3",
          "upscore", "upscore2", "upscore_pool4", "upscore16", "upscore8")
ALEXNET = ("conv1", "conv2", "conv3", "conv4", "conv5")

VGG_OWN = tuple(_own_names(*_vgg(blocks), *DENSE) for blocks in VGG_BLOCKS.values())
VGG_OWN_BATCH_NORM = tuple(
    _own_names(*_vgg(blocks), *(name.replace("conv", "bn") for name in _vgg(blocks)), *DENSE)
    for blocks in VGG_BLOCKS.values())
FCN_OWN = (_own_names(*_vgg(VGG_BLOCKS[16]), *SCORES), _own_names(*ALEXNET, *SCORES))
FCN_OWN_BATCH_NORM = (
    _own_names(*_vgg(VGG_BLOCKS[16]),
               *(name.replace("conv", "bn") for name in _vgg(VGG_BLOCKS[16])), *SCORES),)
VGG_KERAS = tuple(
    {f"block{block}_conv{i}": f"conv{block}_{i}"
     for block, count in enumerate(blocks, 1) for i in range(1, count + 1)}
    | dict(zip(("fc1", "fc2", "predictions"), DENSE))
    for blocks in VGG_BLOCKS.values())
# Keras 3 counts the layers of each kind and does not store their names.
VGG_KERAS3 = tuple(
    {"conv2d" + (f"_{i}" if i else ""): name for i, name in enumerate(_vgg(blocks))}
    | dict(zip(("dense", "dense_1", "dense_2"), DENSE))
    for blocks in VGG_BLOCKS.values())

# What follows a layer's name in that of its tensors.
TORCH = {"weights": r"\.weight", "bias": r"\.bias", "running_mean": r"\.running_mean",
         "running_var": r"\.running_var"}
# A caffemodel's blobs, pytorch-fcn's state, chainer's links.
CAFFE = {"weights": r"[./](?:0|weight|W)", "bias": r"[./](?:1|bias|b)"}
OWN = {kind: f"/{kind}" for kind in (
    "weights", "bias", "gamma", "beta", "running_mean", "running_var")}
KERAS = {"weights": r"/(?:[^/]+/)*?(?:kernel|[^/]+_W(?:_\d+)?)(?::0)?",
         "bias": r"/(?:[^/]+/)*?(?:bias|[^/]+_b(?:_\d+)?)(?::0)?"}
KERAS3 = {"weights": "/vars/0", "bias": "/vars/1"}
TENSORFLOW = {"weights": r"[./](?:0|weights)", "bias": r"[./](?:1|biases)"}
FROSSARD = {"weights": "_W", "bias": "_b"}
MATCONVNET = {"weights": r"(?:[./](?:0|weights|filters|weight)|_filter|f)",
              "bias": r"(?:[./](?:1|bias|biases)|_bias|b)"}


class Layout(NamedTuple):
    """One source of weight files.

    Attributes
    ----------
    name, about : str
    tables : tuple of dict
        {layer in the file: layer here} of each net that comes from there. All convolutions of a
        net must be in a file, with their biases; what follows them may be.
    kinds : dict of str
        {parameter here: regular expression of what follows the layer's name in the file}.
    axes : str
        Of convolution weights, as stored: "OIHW" or "HWIO".
    upsampling_axes : str
        Of transposed convolutions.
    dense : str
        Axes of dense layers, "OI" or "IO"; where it is four letters or the file's have four axes,
        they are convolutions already.
    flatten : str
        In which order the first dense layer reads the map before it: "CHW" or "HWC".
    preprocessing : dict or None
        What the nets see: channel_order, scale, mean, std; None where the file says it.
    needs : str or None
        The layer here that tells it from sources of the same names.
    nan : str or None
        A tensor here that holds NaN alone in files of this source.
    class_names : tuple of str or None
        Of the classes, where there are as many.
    padding : int
        Of the first convolution of its FCNs.
    by_name : bool
        Nothing tells its files from those of another source: it has to be named.
    """

    name: str
    about: str
    tables: tuple
    kinds: dict
    axes: str
    dense: str
    flatten: str
    preprocessing: dict | None
    upsampling_axes: str = "IOHW"
    needs: str | None = None
    nan: str | None = None
    class_names: tuple | None = None
    padding: int = 1
    by_name: bool = False


# In this order they are tried.
_ALL = (
    Layout(
        "tinyfcn", "files written by tinyfcn",
        (*VGG_OWN_BATCH_NORM, *FCN_OWN_BATCH_NORM, *FCN_OWN, *VGG_OWN,
         _own_names(*ALEXNET, *DENSE), _own_names("conv1", "conv2", "ip1", "ip2")),
        OWN, "HWIO", "IO", "HWC", None, upsampling_axes="HWIO"),
    Layout(
        "caffe-fcn", "FCN's authors' Caffe nets and their conversions to PyTorch and chainer",
        FCN_OWN, CAFFE, "OIHW", "OI", "CHW", CAFFENET_BGR,
        needs="score_fr", class_names=VOC_CLASSES, padding=100),
    *(Layout(
        f"matconvnet-fcn{stride}s", f"MatConvNet's pascal-fcn{stride}s-dag.mat",
        (FCN_OWN[0] | {"score2": "upscore2", "score4": "upscore_pool4", upsampling: last},),
        MATCONVNET, "HWIO", "HWIO", "HWC", CAFFENET_RGB, upsampling_axes="HWOI", needs=needs,
        class_names=VOC_CLASSES, padding=100)
      for stride, upsampling, last, needs in (
          (8, "upsample", "upscore8", "score_pool3"),
          (16, "upsample_new", "upscore16", "score_pool4"),
          (32, "upsample", "upscore", "score_fr"))),
    Layout(
        "caffe-vgg", "VGG's authors' Caffe nets and their conversion to chainer",
        VGG_OWN, CAFFE, "OIHW", "OI", "CHW", VGG_BGR),
    Layout(
        "caffe-alexnet", "Caffe's AlexNet and CaffeNet",
        (_own_names(*ALEXNET, *DENSE),), CAFFE, "OIHW", "OI", "CHW", CAFFENET_BGR),
    Layout(
        "caffe-lenet", "Caffe's LeNet for MNIST",
        (_own_names("conv1", "conv2", "ip1", "ip2"),), CAFFE, "OIHW", "OI", "CHW", MNIST,
        class_names=tuple("0123456789")),
    Layout(
        "jcjohnson-vgg", "Caffe's VGG-16 and 19 by jcjohnson (vgg16-00b39a1b.pth)",
        _vgg_tables(dict(zip(("classifier.1", "classifier.4", "classifier.6"), DENSE))),
        TORCH, "OIHW", "OI", "CHW", VGG_BGR, needs="fc6"),
    Layout(
        "timm-vgg", "timm's VGG-11 to 19",
        _vgg_tables(dict(zip(("pre_logits.fc1", "pre_logits.fc2", "head.fc"), DENSE))),
        TORCH, "OIHW", "OI", "CHW", TORCHVISION, needs="fc6"),
    Layout(
        "torchvision-vgg-features", "torchvision's VGG-16 of which the convolutions alone are "
        "trained (IMAGENET1K_FEATURES)",
        _vgg_tables(CLASSIFIER), TORCH, "OIHW", "OI", "CHW", TORCHVISION_FEATURES,
        nan="fc8/bias"),
    Layout(
        "torchvision-vgg", "torchvision's VGG-11 to 19, with and without batch norm",
        _vgg_tables(CLASSIFIER), TORCH, "OIHW", "OI", "CHW", TORCHVISION),
    Layout(
        "torchvision-vgg-caffe", "Caffe's VGG-16 under torchvision's names (vgg16_from_caffe.pth)",
        _vgg_tables(CLASSIFIER), TORCH, "OIHW", "OI", "CHW", VGG_BGR, by_name=True),
    Layout(
        "torchvision-alexnet", "torchvision's AlexNet, of a single tower",
        ({f"features.{i}": name for i, name in zip((0, 3, 6, 8, 10), ALEXNET)}
         | dict(zip(("classifier.1", "classifier.4", "classifier.6"), DENSE)),),
        TORCH, "OIHW", "OI", "CHW", TORCHVISION),
    Layout(
        "keras-vgg", "VGG-16 and 19 of Keras 1 and 2",
        VGG_KERAS, KERAS, "HWIO", "IO", "HWC", VGG_BGR),
    Layout(
        "keras3-vgg", "VGG-16 and 19 of Keras 3 (.weights.h5)",
        VGG_KERAS3, KERAS3, "HWIO", "IO", "HWC", VGG_BGR),
    Layout(
        "tensorflow-vgg", "VGG-16 and 19 of tensorflow-vgg (vgg16.npy) and caffe-tensorflow",
        VGG_OWN, TENSORFLOW, "HWIO", "IO", "HWC", VGG_BGR),
    Layout(
        "frossard-vgg", "Frossard's VGG-16 for TensorFlow (vgg16_weights.npz)",
        VGG_OWN, FROSSARD, "HWIO", "IO", "HWC", VGG_RGB),
    Layout(
        "matconvnet-vgg", "VGG-16 and 19 of MatConvNet (imagenet-vgg-verydeep-16.mat)",
        VGG_OWN, MATCONVNET, "HWIO", "HWIO", "HWC", VGG_RGB),
)
LAYOUTS = {layout.name: layout for layout in _ALL}


def recognise(tensors):
    """Find the source of tensors by their names and shapes.

    Parameters
    ----------
    tensors : mapping of str to array-like
        As `tinyfcn.weights.read` returns them.

    Returns
    -------
    Layout or None
    """
    return next((layout for layout in _ALL
                 if not layout.by_name and matches(tensors, layout)), None)


def to_own(tensors, layout):
    """Rename and reorder tensors to this project's layout, each when it is asked for.

    Parameters
    ----------
    tensors : mapping of str to array-like
    layout : Layout
        Of theirs, as from `recognise`, or another one whose names they have.

    Returns
    -------
    OwnTensors
        A mapping of names here to arrays.

    Raises
    ------
    ValueError
        The tensors do not fit the layout.
    """
    return OwnTensors(tensors, layout)
