"""The nets' nodes, options and starts."""
import numpy as np
import pytest

from tinyfcn import models
from tinyfcn.graph import Graph
from tinyfcn.layers import BatchNorm, Convolution, MaxPooling, ReLU

SMALL = {"classes": 3, "width": 1 / 16, "fc_channels": 8}
FCNS = ("fcn32s", "fcn16s", "fcn8s", "fcn8s-atonce")
BLOCKS = """conv1_1 relu1_1 conv1_2 relu1_2 pool1 conv2_1 relu2_1 conv2_2 relu2_2 pool2
    conv3_1 relu3_1 conv3_2 relu3_2 conv3_3 relu3_3 pool3
    conv4_1 relu4_1 conv4_2 relu4_2 conv4_3 relu4_3 pool4
    conv5_1 relu5_1 conv5_2 relu5_2 conv5_3 relu5_3 pool5""".split()
FC = "fc6 relu6 drop6 fc7 relu7 drop7".split()


@pytest.mark.parametrize("name, geometry, head", [
    ("fcn32s", "same", "score_fr upscore"),
    ("fcn32s", "caffe", "score_fr upscore score"),
    ("fcn16s", "same", "score_fr upscore2 score_pool4 fuse_pool4 upscore16"),
    ("fcn16s", "caffe",
     "score_fr upscore2 score_pool4 score_pool4c fuse_pool4 upscore16 score"),
    ("fcn8s", "same", "score_fr upscore2 score_pool4 fuse_pool4 upscore_pool4 score_pool3"
     " fuse_pool3 upscore8"),
    ("fcn8s", "caffe", "score_fr upscore2 score_pool4 score_pool4c fuse_pool4 upscore_pool4"
     " score_pool3 score_pool3c fuse_pool3 upscore8 score"),
    ("fcn8s-atonce", "caffe", "score_fr upscore2 scale_pool4 score_pool4 score_pool4c fuse_pool4"
     " upscore_pool4 scale_pool3 score_pool3 score_pool3c fuse_pool3 upscore8 score"),
])
def test_nodes_have_caffes_names(name, geometry, head):
    net = models.BY_NAME[name](geometry=geometry, **SMALL)
    assert list(net.layers) == [*BLOCKS, *FC, *head.split()]
    assert net.name == name


def test_vgg16s_nodes():
    net = models.VGG16(**SMALL, input_size=32)
    assert list(net.layers) == [*BLOCKS, *FC, "fc8"]
    assert net.name == "vgg16"


def test_batch_norms_names():
    net = models.FCN32s(batch_norm=True, **SMALL)
    assert list(net.layers)[:7] == [
        "conv1_1", "bn1_1", "relu1_1", "conv1_2", "bn1_2", "relu1_2", "pool1"]
    assert sum(name.startswith("bn") for name in net.layers) == 13


def test_full_size():
    # Figures of the authors' nets: 134,260,544 parameters in VGG-16 up to fc7, and 4,096 x 21 + 21
    # in score_fr.
    net = models.FCN8s(init=None)
    shapes = {name: w.shape for name, w in net.params.items()}
    assert shapes["conv1_1/weights"] == (3, 3, 3, 64)
    assert shapes["conv5_3/weights"] == (3, 3, 512, 512)
    assert shapes["fc6/weights"] == (7, 7, 512, 4096)
    assert shapes["fc7/weights"] == (1, 1, 4096, 4096)
    assert shapes["score_fr/weights"] == (1, 1, 4096, 21)
    assert shapes["score_pool4/weights"] == (1, 1, 512, 21)
    assert shapes["score_pool3/weights"] == (1, 1, 256, 21)
    assert shapes["upscore2/weights"] == shapes["upscore_pool4/weights"] == (4, 4, 21, 21)
    assert shapes["upscore8/weights"] == (16, 16, 21, 21)
    trunk = sum(np.prod(shape) for name, shape in shapes.items() if "score" not in name)
    assert trunk == 134_260_544


def test_width_scales_the_trunk_and_fc_channels_the_rest():
    net = models.FCN8s(classes=5, width=0.25, fc_channels=100, in_channels=4, init=None)
    shapes = {name: w.shape for name, w in net.params.items()}
    assert [shapes[f"conv{i}_1/weights"][3] for i in range(1, 6)] == [16, 32, 64, 128, 128]
    assert shapes["conv1_1/weights"] == (3, 3, 4, 16)
    assert shapes["fc6/weights"] == (7, 7, 128, 100)
    assert shapes["fc7/weights"] == (1, 1, 100, 100)
    assert shapes["score_pool4/weights"] == (1, 1, 128, 5)
    assert shapes["score_pool3/weights"] == (1, 1, 64, 5)
    # 64 w rounded to the nearest, but at least 1.
    assert models.VGG16(width=0.01, input_size=32).params["conv1_1/bias"].shape == (1,)


@pytest.mark.parametrize("name", [*FCNS, "fcn_alexnet", "vgg11", "vgg13", "vgg16", "vgg19"])
def test_arguments_build_the_net_again(name):
    options = {**SMALL, "batch_norm": True, "dropout": 0.25, "in_channels": 2}
    options |= {"input_size": 40} if name.startswith("vgg") else {
        "geometry": "caffe", "upsampling": "learned"}
    if name == "fcn_alexnet":
        options["normalization"] = "paper"
    net = models.BY_NAME[name](**options)
    assert net.arguments == options
    again = models.BY_NAME[name](**net.arguments)
    assert {key: w.shape for key, w in again.params.items()} == {
        key: w.shape for key, w in net.params.items()}
    assert again.fixed == net.fixed
    assert [node[0] for node in again.nodes] == [node[0] for node in net.nodes]
    assert net.layers["drop6"].rate == net.layers["drop7"].rate == 0.25


@pytest.mark.parametrize("name", FCNS)
def test_default_arguments(name):
    assert models.BY_NAME[name](init=None, width=1 / 64, fc_channels=2).arguments == {
        "classes": 21, "width": 1 / 64, "fc_channels": 2, "batch_norm": False,
        "upsampling": "fixed", "geometry": "same", "dropout": 0.5, "in_channels": 3}


def test_from_a_classifier_score_layers_start_at_zero():
    net = models.FCN8s(**SMALL)
    zero = {name for name, w in net.params.items() if not w.any()}
    biases = {name for name in net.params if name.endswith("/bias")}
    assert zero == biases | {
        "score_fr/weights", "score_pool4/weights", "score_pool3/weights"}
    x = np.random.default_rng(0).standard_normal((1, 9, 9, 3), np.float32)
    assert not net.forward(x).any()


def test_from_scratch_all_weights_are_hes():
    net = models.FCN8s(classes=40, width=0.5, fc_channels=128, init="scratch")
    for name, w in net.params.items():
        if name.endswith("/bias"):
            assert not w.any()
        elif "upscore" not in name:
            fan_in = np.prod(w.shape[:3])
            assert w.std() == pytest.approx(np.sqrt(2 / fan_in), rel=0.1), name
            assert abs(w.mean()) < 5 * np.sqrt(2 / fan_in / w.size), name


def test_without_an_init_all_is_zero_but_the_upsampling():
    net = models.FCN8s(init=None, **SMALL)
    assert {name for name, w in net.params.items() if w.any()} == {
        "upscore2/weights", "upscore_pool4/weights", "upscore8/weights"}
    assert not any(w.any() for w in models.VGG16(init=None, input_size=32, **SMALL).params.values())


def test_the_seed_decides_the_weights_and_the_dropout():
    def params(seed):
        return models.FCN8s(init="scratch", seed=seed, **SMALL)

    a, b, c = params(1), params(1), params(2)
    for name, w in a.params.items():
        np.testing.assert_array_equal(w, b.params[name])
        if w.any() and "upscore" not in name:
            assert not np.array_equal(w, c.params[name])
    x = np.ones((1, 9, 9, 3), np.float32)
    first = a.forward(x, keep=True)
    np.testing.assert_array_equal(b.forward(x, keep=True), first)
    assert not np.array_equal(a.forward(x, keep=True), first)


@pytest.mark.parametrize("name, upscores", [
    ("fcn32s", {"upscore"}), ("fcn16s", {"upscore2", "upscore16"}),
    ("fcn8s", {"upscore2", "upscore_pool4", "upscore8"}),
    ("fcn8s-atonce", {"upscore2", "upscore_pool4", "upscore8"}),
])
def test_upsampling_is_fixed_or_learned(name, upscores):
    assert models.BY_NAME[name](init=None, **SMALL).fixed == {f"{u}/weights" for u in upscores}
    learned = models.BY_NAME[name](init=None, upsampling="learned", **SMALL)
    assert learned.fixed == set()
    # Both start as bilinear interpolation: on the diagonal, and 4 wide 1/4 3/4 3/4 1/4.
    for upscore in upscores:
        w = learned.params[f"{upscore}/weights"]
        assert not w[:, :, 0, 1].any() and w[:, :, 1, 1].any()
        factor = w.shape[0] // 2
        assert w[:, :, 0, 0].sum() == pytest.approx(factor ** 2)


def test_at_once_scales_its_pools():
    net = models.FCN8sAtOnce(init=None, **SMALL)
    assert net.layers["scale_pool4"].factor == 0.01
    assert net.layers["scale_pool3"].factor == 0.0001
    inputs = {node.name: node.inputs for node in net.nodes}
    assert inputs["scale_pool4"] == ("pool4",) and inputs["score_pool4"] == ("scale_pool4",)
    assert inputs["scale_pool3"] == ("pool3",) and inputs["score_pool3"] == ("scale_pool3",)


def test_layers_of_both_geometries():
    same, caffe = (models.FCN8s(init=None, geometry=g, **SMALL) for g in ("same", "caffe"))
    assert same.layers["conv1_1"].geometry["padding"] == (1, 1)
    assert caffe.layers["conv1_1"].geometry["padding"] == (100, 100)
    assert same.layers["fc6"].geometry["padding"] == (3, 3)
    assert caffe.layers["fc6"].geometry["padding"] == (0, 0)
    for net in same, caffe:
        assert net.layers["conv1_2"].geometry["padding"] == (1, 1)
        pools = [layer for layer in net.layers.values() if isinstance(layer, MaxPooling)]
        assert len(pools) == 5 and all(pool.ceil for pool in pools)
    upsampling = {"upscore2": (4, 2, 1), "upscore_pool4": (4, 2, 1), "upscore8": (16, 8, 4)}
    for name, (kernel, stride, padding) in upsampling.items():
        for net, pad in (same, padding), (caffe, 0):
            assert net.layers[name].kernel_size == (kernel, kernel)
            assert net.layers[name].geometry == {"stride": (stride,) * 2, "padding": (pad,) * 2}


@pytest.mark.parametrize("option, value, message", [
    ("upsampling", "bicubic", "upsampling must be one of 'fixed', 'learned', got 'bicubic'"),
    ("geometry", "valid", "geometry must be one of 'same', 'caffe', got 'valid'"),
    ("init", "zeros", "init must be one of 'classifier', 'scratch', None, got 'zeros'"),
])
@pytest.mark.parametrize("name", FCNS)
def test_unknown_options_are_refused(name, option, value, message):
    with pytest.raises(ValueError, match=message):
        models.BY_NAME[name](**{**SMALL, option: value})


def test_vgg16_refuses_unknown_options():
    with pytest.raises(ValueError, match="init must be 'scratch' or None, got 'classifier'"):
        models.VGG16(init="classifier", **SMALL)
    with pytest.raises(TypeError, match="geometry"):
        models.VGG16(geometry="same", **SMALL)


def test_names_of_nets():
    assert list(models.CLASSIFIERS) == [
        "lenet", "alexnet", "caffenet", "alexnet-single-tower", "vgg11", "vgg13", "vgg16", "vgg19"]
    assert list(models.SEGMENTERS) == [*FCNS, "fcn_alexnet"]
    assert list(models.BY_NAME) == [*models.CLASSIFIERS, *models.SEGMENTERS]


# ---- Batch norm folded into the convolutions

@pytest.mark.parametrize("name", ["fcn8s", "fcn16s", "vgg16"])
def test_folded_net_gives_the_same_scores(name, randomize):
    options = {**SMALL, "batch_norm": True, "dtype": np.float64}
    options |= {"input_size": 40} if name == "vgg16" else {"geometry": "caffe"}
    net = randomize(models.BY_NAME[name](**options))
    net.class_names, net.ignore_label = ["a", "b", "c"], 7
    x = np.random.default_rng(0).standard_normal((1, 40, 40, 3))
    expected = net.forward(x)
    folded = models.fold_batch_norm(net)
    assert not any(name.startswith("bn") for name in folded.layers)
    np.testing.assert_allclose(
        folded.forward(x), expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    # And the first is as it was.
    np.testing.assert_array_equal(net.forward(x), expected)
    assert folded.name == name and folded.arguments == {**net.arguments, "batch_norm": False}
    assert folded.class_names == ["a", "b", "c"] and folded.ignore_label == 7


def test_folded_net_in_float32(randomize):
    net = randomize(models.FCN8s(batch_norm=True, **SMALL))
    x = np.random.default_rng(0).standard_normal((1, 33, 50, 3), np.float32)
    expected = net.forward(x)
    y = models.fold_batch_norm(net).forward(x)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_net_without_batch_norm_is_returned_as_it_is():
    net = models.FCN8s(**SMALL)
    assert models.fold_batch_norm(net) is net


@pytest.mark.parametrize("source", ["data", "relu", "conv"])
def test_batch_norm_that_cannot_be_folded(source):
    net = Graph()
    net.add("conv", Convolution(3, 3, 1))
    net.add("relu", ReLU())
    net.add("bn", BatchNorm(3), source)
    with pytest.raises(ValueError, match=f"cannot fold bn: {source} is not a convolution that it "
                                         "alone reads"):
        models.fold_batch_norm(net)
