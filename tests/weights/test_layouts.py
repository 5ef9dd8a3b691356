"""Layouts: whose tensors they are is told by names and shapes, and all become the same."""
import re

import numpy as np
import pytest

from tinyfcn.weights import conversion, layouts
from tinyfcn.weights.layouts import LAYOUTS, recognise, to_own

VGG = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
VGG16_NUMBERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
VGG16_BN_NUMBERS = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)


def names_of(depth):
    return [f"conv{block}_{i}" for block, count in enumerate(VGG[depth], 1)
            for i in range(1, count + 1)]


def vgg(depth=16, batch_norm=False, top=True):
    """A narrow VGG's tensors by their names and in their order here."""
    rng = np.random.default_rng(depth)
    own, inputs = {}, 3
    for name in names_of(depth):
        outputs = 2 * int(name[4]) + 1
        own[f"{name}/weights"] = rng.standard_normal((3, 3, inputs, outputs), np.float32)
        own[f"{name}/bias"] = rng.standard_normal(outputs, np.float32)
        if batch_norm:
            for part in ("gamma", "beta", "running_mean", "running_var"):
                own[f"{name.replace('conv', 'bn')}/{part}"] = rng.standard_normal(
                    outputs, np.float32)
        inputs = outputs
    if top:
        for name, i, o in ("fc6", 49 * inputs, 10), ("fc7", 10, 10), ("fc8", 10, 6):
            own[f"{name}/weights"] = rng.standard_normal((i, o), np.float32)
            own[f"{name}/bias"] = rng.standard_normal(o, np.float32)
    return own


def stored(own, name, weights=".weight", bias=".bias", axes="OIHW", dense="OI", flatten="CHW",
           old=False, upsampling="IOHW"):
    """Tensors as another project stores them; name(layer) is what it calls a layer.

    With `old` they have the shapes of Caffe's first format.
    """
    file, channels = {}, max((a.shape[3] for n, a in own.items() if n.startswith("conv5")
                              and a.ndim == 4), default=50)
    for key, array in own.items():
        layer, kind = key.split("/")
        if kind in ("gamma", "beta"):
            kind = {"gamma": "weights", "beta": "bias"}[kind]
        elif kind == "weights" and array.ndim == 4:
            order = upsampling if layer.startswith("upscore") else axes
            array = array.transpose(["HWIO".index(axis) for axis in order])
        elif kind == "weights":
            if layer in ("fc6", "ip1") and flatten == "CHW":
                side = int((array.shape[0] / channels) ** 0.5)
                array = array.reshape(side, side, channels, -1).transpose(2, 0, 1, 3).reshape(
                    array.shape)
            if dense == "OI":
                array = array.T
            elif dense == "HWIO":
                side = 7 if layer == "fc6" else 1
                array = array.reshape(side, side, -1, array.shape[1])
            elif dense == "OIHW" and layer == "fc8":  # the last one stays dense
                array = array.T
            elif dense == "OIHW":
                side = 7 if layer == "fc6" else 1
                array = array.reshape(side, side, -1, array.shape[1]).transpose(3, 2, 0, 1)
            if old:
                array = array[None, None]
        if old and kind == "bias":
            array = array[None, None, None]
        suffix = {"weights": weights, "bias": bias}.get(kind, f".{kind}")
        file[name(layer) + suffix.replace("LAYER", name(layer))] = np.ascontiguousarray(array)
    return file


def numbered(numbers, dense=("classifier.0", "classifier.3", "classifier.6"), bn_numbers=()):
    """torchvision's names of VGG-16's layers."""
    table = dict(zip(names_of(16), (f"features.{i}" for i in numbers)))
    table |= {name.replace("conv", "bn"): f"features.{i + 1}" for name, i in zip(
        names_of(16), bn_numbers)}
    return (table | dict(zip(("fc6", "fc7", "fc8"), dense))).get


def keras(layer):
    match = re.fullmatch(r"conv(\d)_(\d)", layer)
    if match:
        return f"block{match[1]}_conv{match[2]}"
    return {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}[layer]


def keras3(layer):
    if layer.startswith("fc"):
        return {"fc6": "layers/dense", "fc7": "layers/dense_1", "fc8": "layers/dense_2"}[layer]
    index = names_of(16).index(layer)
    return f"layers/conv2d_{index}" if index else "layers/conv2d"


def same(layer):
    return layer


TF = {"axes": "HWIO", "dense": "IO", "flatten": "HWC"}
FILES = {
    "tinyfcn": (same, {"weights": "/weights", "bias": "/bias", **TF}),
    "caffe-vgg": (same, {"weights": "/0", "bias": "/1"}),
    "caffe-vgg, of 2014": (same, {"weights": "/0", "bias": "/1", "old": True}),
    "caffe-vgg, of chainer": (same, {"weights": "/W", "bias": "/b"}),
    "torchvision-vgg": (numbered(VGG16_NUMBERS), {}),
    "torchvision-vgg, nested": (
        lambda layer: f"module.encoder.{numbered(VGG16_NUMBERS)(layer)}", {}),
    "jcjohnson-vgg": (
        numbered(VGG16_NUMBERS, ("classifier.1", "classifier.4", "classifier.6")), {}),
    "keras-vgg": (keras, {"weights": "/LAYER/kernel:0", "bias": "/LAYER/bias:0", **TF}),
    "keras-vgg, 1": (keras, {"weights": "/LAYER_W_1:0", "bias": "/LAYER_b_1:0", **TF}),
    "keras-vgg, renamed": (
        keras, {"weights": "/LAYER_4/kernel:0", "bias": "/LAYER_4/bias:0", **TF}),
    "keras3-vgg": (keras3, {"weights": "/vars/0", "bias": "/vars/1", **TF}),
    "tensorflow-vgg": (same, {"weights": "/0", "bias": "/1", **TF}),
    "tensorflow-vgg, of caffe-tensorflow": (same, {"weights": "/weights", "bias": "/biases", **TF}),
    "frossard-vgg": (same, {"weights": "_W", "bias": "_b", **TF}),
}
AS_CONVOLUTIONS = {
    "timm-vgg": (numbered(VGG16_NUMBERS, ("pre_logits.fc1", "pre_logits.fc2", "head.fc")),
                 {"dense": "OIHW", "flatten": "HWC"}),
    "matconvnet-vgg": (same, {"weights": "/0", "bias": "/1", "axes": "HWIO", "dense": "HWIO",
                              "flatten": "HWC"}),
    "matconvnet-vgg, DagNN": (same, {"weights": "_filter", "bias": "_bias", "axes": "HWIO",
                                     "dense": "HWIO", "flatten": "HWC"}),
}


def assert_same(actual, expected):
    assert set(actual) == set(expected)
    for name, array in expected.items():
        converted = actual[name]
        assert converted.shape == actual.shapes[name]
        assert converted.dtype == array.dtype, name
        # Dense layers that are stored as convolutions are the same memory in another shape.
        np.testing.assert_array_equal(converted.reshape(array.shape), array, err_msg=name)


@pytest.mark.parametrize("file", [*FILES, *AS_CONVOLUTIONS])
def test_vgg16_of_every_source(file):
    own = vgg()
    name, order = {**FILES, **AS_CONVOLUTIONS}[file]
    tensors = stored(own, name, **order)
    layout = recognise(tensors)
    assert layout is not None and layout.name == file.partition(",")[0]
    assert_same(to_own(tensors, layout), own)


@pytest.mark.parametrize("file", FILES)
def test_convolutions_alone(file):
    own = vgg(top=False)
    name, order = FILES[file]
    tensors = stored(own, name, **order)
    layout = recognise(tensors)
    # Without dense layers jcjohnson's file is torchvision's, which the user has to know.
    assert layout.name == file.partition(",")[0].replace("jcjohnson", "torchvision")
    assert_same(to_own(tensors, layout), own)


@pytest.mark.parametrize("depth", VGG)
def test_depths_by_caffes_names(depth):
    own = vgg(depth)
    tensors = stored(own, same, "/0", "/1")
    assert recognise(tensors).name == "caffe-vgg"
    assert_same(to_own(tensors, recognise(tensors)), own)


# torchvision's own numbers (torchvision/models/vgg.py).
@pytest.mark.parametrize("depth, batch_norm, numbers", [
    (11, False, (0, 3, 6, 8, 11, 13, 16, 18)),
    (11, True, (0, 4, 8, 11, 15, 18, 22, 25)),
    (13, False, (0, 2, 5, 7, 10, 12, 15, 17, 20, 22)),
    (13, True, (0, 3, 7, 10, 14, 17, 21, 24, 28, 31)),
    (16, True, VGG16_BN_NUMBERS),
    (19, False, (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)),
    (19, True, (0, 3, 7, 10, 14, 17, 20, 23, 27, 30, 33, 36, 40, 43, 46, 49)),
])
def test_depths_by_torchvisions_numbers(depth, batch_norm, numbers):
    own = vgg(depth, batch_norm)
    table = dict(zip(names_of(depth), numbers))
    table |= {name.replace("conv", "bn"): number + 1 for name, number in table.items()}
    table = {name: f"features.{number}" for name, number in table.items()}
    table |= {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}
    tensors = stored(own, table.get)
    if batch_norm:
        tensors[f"features.{numbers[0] + 1}.num_batches_tracked"] = np.array(5)
    assert recognise(tensors).name == "torchvision-vgg"
    assert_same(to_own(tensors, recognise(tensors)), own)


def fcn():
    own = vgg(top=False)
    rng = np.random.default_rng(0)
    channels = own["conv5_3/bias"].size
    for name, shape in {"fc6": (7, 7, channels, 10), "fc7": (1, 1, 10, 10),
                        "score_fr": (1, 1, 10, 4), "score_pool4": (1, 1, 9, 4),
                        "upscore2": (4, 4, 4, 4), "upscore16": (32, 32, 4, 4)}.items():
        own[f"{name}/weights"] = rng.standard_normal(shape, np.float32)
        if not name.startswith("upscore"):
            own[f"{name}/bias"] = rng.standard_normal(shape[3], np.float32)
    return own


@pytest.mark.parametrize("expected, order", [
    ("caffe-fcn", {"weights": "/0", "bias": "/1"}),
    ("caffe-fcn", {"weights": ".weight", "bias": ".bias"}),
    ("caffe-fcn", {"weights": "/W", "bias": "/b"}),
    ("matconvnet-fcn16s", {"weights": "_filter", "bias": "_bias", "axes": "HWIO",
                        "upsampling": "HWOI"}),
    ("tinyfcn", {"weights": "/weights", "bias": "/bias", "axes": "HWIO", "upsampling": "HWIO"}),
])
def test_fcns(expected, order):
    own = fcn()
    tensors = stored(own, same, **order)
    layout = recognise(tensors)
    assert layout.name == expected
    assert_same(to_own(tensors, layout), own)


def test_lenet():
    rng = np.random.default_rng(0)
    own = {f"{name}/weights": rng.standard_normal(shape, np.float32) for name, shape in {
        "conv1": (5, 5, 1, 20), "conv2": (5, 5, 20, 50), "ip1": (800, 500), "ip2": (500, 10),
    }.items()}
    own |= {name.replace("weights", "bias"): rng.standard_normal(w.shape[-1], np.float32)
            for name, w in own.items()}
    for old in (True, False):
        tensors = stored(own, same, "/0", "/1", old=old)
        assert recognise(tensors).name == "caffe-lenet"
        assert_same(to_own(tensors, LAYOUTS["caffe-lenet"]), own)


@pytest.mark.parametrize("groups", [1, 2])
def test_alexnets(groups):
    rng = np.random.default_rng(0)
    shapes, inputs = {}, 3
    for i, outputs in enumerate((4, 6, 8, 8, 6), 1):
        divided = inputs // groups if i in (2, 4, 5) else inputs
        shapes[f"conv{i}"] = (3, 3, divided, outputs)
        inputs = outputs
    shapes |= {"fc6": (6 * 6 * 6, 5), "fc7": (5, 5), "fc8": (5, 3)}
    own = {f"{name}/weights": rng.standard_normal(shape, np.float32)
           for name, shape in shapes.items()}
    own |= {name.replace("weights", "bias"): rng.standard_normal(w.shape[-1], np.float32)
            for name, w in own.items()}
    tensors = stored(own, same, "/0", "/1")
    assert recognise(tensors).name == "caffe-alexnet"
    assert_same(to_own(tensors, recognise(tensors)), own)
    names = dict(zip(shapes, ("features.0", "features.3", "features.6", "features.8",
                              "features.10", "classifier.1", "classifier.4", "classifier.6")))
    tensors = stored(own, names.get)
    assert recognise(tensors).name == "torchvision-alexnet"
    assert_same(to_own(tensors, recognise(tensors)), own)


def test_a_classifier_of_nan_alone_is_another_source():
    tensors = stored(vgg(), numbered(VGG16_NUMBERS))
    for name in tensors:
        if name.startswith("classifier"):
            tensors[name][...] = np.nan
    assert recognise(tensors).name == "torchvision-vgg-features"
    tensors["classifier.6.bias"][0] = 0
    assert recognise(tensors).name == "torchvision-vgg"


def test_a_layout_can_be_named():
    tensors = stored(vgg(), numbered(VGG16_NUMBERS))
    by_name = LAYOUTS["torchvision-vgg-caffe"]
    assert by_name.preprocessing["channel_order"] == "BGR"
    assert_same(to_own(tensors, by_name), vgg())
    with pytest.raises(ValueError, match="does not have the tensors of the layout keras-vgg"):
        to_own(tensors, LAYOUTS["keras-vgg"])


def test_a_checkpoint_holds_more_than_the_net():
    own = vgg()
    names = numbered(VGG16_NUMBERS)
    tensors = stored(own, lambda layer: f"model.{names(layer)}")
    tensors |= {"optimizer.3.exp_avg": np.zeros(3), "model.head.weight": np.zeros((2, 2)),
                "ema.features.0.weight": np.zeros((3, 3, 3, 3))}
    found = to_own(tensors, recognise(tensors))
    # What lies beside the net's tensors is told; what lies elsewhere is not the net's.
    assert set(found) == {*own, "model.head.weight"}
    assert found["model.head.weight"].shape == (2, 2)
    assert found.sources["conv1_1/weights"] == "model.features.0.weight"


@pytest.mark.parametrize("change", [
    lambda t: t.pop("conv3_2/0"),
    lambda t: t.update({"conv3_2/0": np.zeros((7, 5, 3, 3), np.float32)}),
    lambda t: t.update({"conv3_2/0": np.zeros((7, 7, 3, 1), np.float32)}),
    lambda t: t.update({"conv3_2/0": np.zeros(7, np.float32)}),
    lambda t: t.update({"fc6/0": np.zeros((10, 48 * 11), np.float32)}),
    lambda t: t.update({"fc6/0": np.zeros((10, 49 * 11 + 1), np.float32)}),
    lambda t: t.update({"fc6/0": np.zeros(10, np.float32)}),
])
def test_tensors_that_do_not_fit_each_other_are_of_no_layout(change):
    tensors = stored(vgg(), same, "/0", "/1")
    change(tensors)
    found = recognise(tensors)
    assert found is None or found.name not in ("caffe-vgg", "tensorflow-vgg")
    with pytest.raises(ValueError, match="does not have the tensors of the layout caffe-vgg"):
        to_own(tensors, LAYOUTS["caffe-vgg"])


def test_other_nets_are_of_no_layout():
    assert recognise({}) is None
    assert recognise({"conv1.weight": np.zeros((20, 1, 5, 5)), "fc1.weight": np.zeros((9, 9)),
                      "conv2.weight": np.zeros((50, 20, 5, 5))}) is None
    assert recognise({"x" * 100_000: np.zeros(1), "a/b." * 70: np.zeros(1)}) is None


@pytest.mark.parametrize("name", [
    "mtcnn_12net.h5", "mtcnn_det1.caffemodel", "mtcnn_det1.npy", "mtcnn_pnet.pt",
    "niknal_weights_good.npz", "torch_lpips_v0.1_vgg.pth", "torch_mnist_electrobusy.pt",
    "torch_mnist_messiah.pt", "keras_mnist_weights.h5", "denograd_mnist.safetensors"])
def test_real_files_of_other_nets_are_of_no_layout(test_data, name):
    from tinyfcn import weights

    assert recognise(weights.read(test_data("weights", name))) is None


class Watched:
    """An array that can only be read in slices, and knows the largest one that was."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.ndim = array, array.shape, array.dtype, array.ndim
        self.largest = 0

    def __getitem__(self, index):
        part = self.array[index]
        self.largest = max(self.largest, part.nbytes)
        return part


@pytest.mark.parametrize("file", ["caffe-vgg", "caffe-vgg, of 2014", "tensorflow-vgg"])
def test_the_largest_layer_is_converted_slice_by_slice(monkeypatch, file):
    monkeypatch.setattr(conversion, "SLICE_BYTES", 4000)
    own = vgg()
    name, order = FILES[file]
    tensors = {key: Watched(array) for key, array in stored(own, name, **order).items()}
    found = to_own(tensors, LAYOUTS[file.partition(",")[0]])
    # Asking what there is reads nothing.
    assert found.shapes["fc6/weights"] == (539, 10)
    assert all(array.largest == 0 for array in tensors.values())
    out = np.empty((7, 7, 11, 10), np.float64)
    found.read_into("fc6/weights", out)
    np.testing.assert_array_equal(out.reshape(539, 10), own["fc6/weights"])
    assert 0 < tensors["fc6/0"].largest <= 4400 < tensors["fc6/0"].array.nbytes
    with pytest.raises(ValueError, match=r"fc6/weights is \(539, 10\), not \(3,\)"):
        found.read_into("fc6/weights", np.empty(3))


def test_what_every_source_sees():
    mean = {"VGG": [103.939, 116.779, 123.68], "Caffe": [104.00699, 116.66877, 122.67892]}
    for names, order, expected in (
        (("caffe-vgg", "torchvision-vgg-caffe", "jcjohnson-vgg", "keras-vgg", "keras3-vgg",
          "tensorflow-vgg"), "BGR", mean["VGG"]),
        (("frossard-vgg", "matconvnet-vgg"), "RGB", mean["VGG"][::-1]),
        (("caffe-fcn", "caffe-alexnet"), "BGR", mean["Caffe"]),
        (("matconvnet-fcn8s", "matconvnet-fcn32s"), "RGB", mean["Caffe"][::-1]),
    ):
        for name in names:
            assert LAYOUTS[name].preprocessing == {
                "channel_order": order, "scale": 1.0, "mean": expected, "std": [1.0, 1.0, 1.0]}
    for name in ("torchvision-vgg", "torchvision-alexnet", "timm-vgg"):
        assert LAYOUTS[name].preprocessing == {
            "channel_order": "RGB", "scale": 1 / 255, "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225]}
    assert LAYOUTS["torchvision-vgg-features"].preprocessing["std"] == [1 / 255] * 3
    assert LAYOUTS["tinyfcn"].preprocessing is None


def test_the_layouts_are_tables():
    assert list(LAYOUTS) == [layout.name for layout in LAYOUTS.values()]
    assert len(set(LAYOUTS)) == len(LAYOUTS)
    assert len(layouts.VOC_CLASSES) == 21
    for layout in LAYOUTS.values():
        assert layout.about and sorted(layout.axes) == sorted("HWIO")
