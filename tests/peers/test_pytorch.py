"""Nets in PyTorch: that they are our nets, whatever these are made of."""
import numpy as np
import pytest

from tinyfcn import layers, models
from tinyfcn.graph import DATA, Graph
from tinyfcn.losses import softmax_loss
from tinyfcn.peers import pytorch

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch", reason="compares with torch, which is not installed")

SMALL = {"width": 0.04, "fc_channels": 7, "classes": 5, "dropout": 0.0, "init": "scratch",
         "dtype": np.float64}
NETS = {
    "fcn8s": (models.FCN8s, {}, (37, 50)),
    "fcn8s, caffe": (models.FCN8s, {"geometry": "caffe"}, (19, 24)),
    "fcn8s-atonce, learned": (models.FCN8sAtOnce, {"upsampling": "learned"}, (33, 64)),
    "fcn16s, batch norm": (models.FCN16s, {"batch_norm": True}, (70, 41)),
    "fcn32s": (models.FCN32s, {}, (1, 1)),
    "vgg16": (models.VGG16, {"input_size": 33}, (33, 33)),
}


def randomize(net, rng):
    """Give every parameter numbers of its own, so that one mistaken for another shows."""
    for name, array in net.params.items():
        if not name.endswith("/weights"):
            array += rng.uniform(0.1, 0.5, array.shape)


def close(actual, expected, tolerance, what=""):
    assert actual.shape == expected.shape, what
    largest = np.abs(expected).max()
    assert largest > 0, what
    assert np.abs(actual - expected).max() <= tolerance * largest, what


@pytest.fixture(params=pytorch.LAYOUTS)
def layout(request):
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.mark.parametrize("name", NETS)
def test_scores_are_the_same(name, layout, rng):
    build, options, size = NETS[name]
    net = build(**{**SMALL, **options})
    randomize(net, rng)
    x = rng.standard_normal((2, *size, 3))
    with torch.inference_mode():
        y = pytorch.forward(net, pytorch.parameters(net, layout), pytorch.image(x, layout))
    close(pytorch.scores(y), net.forward(x), 1e-10)


@pytest.mark.parametrize("name", NETS)
def test_gradients_are_the_same(name, layout, rng):
    build, options, size = NETS[name]
    net = build(**{**SMALL, **options})
    randomize(net, rng)
    # With a single pixel left, batch norm has no statistics to speak of.
    x = rng.standard_normal((2, *(size if min(size) > 1 else (20, 30)), 3))
    params = pytorch.parameters(net, layout, training=True)
    scores = net.forward(x, keep=True)
    labels = rng.integers(0, 5, scores.shape[:-1]).astype(np.uint8)
    labels.flat[1:2] = 255
    theirs = pytorch.loss(pytorch.forward(net, params, pytorch.image(x, layout), training=True),
                        pytorch.labels(labels), 255)
    theirs.backward()
    loss, gscores = softmax_loss(scores, labels, 255)
    net.backward(gscores)
    assert loss == pytest.approx(theirs.item(), rel=1e-10)
    found = pytorch.gradients(net, params)
    assert found.keys() == net.params.keys() - net.fixed
    for key, g in net.grads.items():
        if "batch norm" in name and key.startswith("conv") and key.endswith("bias"):
            continue                    # batch norm takes it away again: it is zero
        close(found[key], g, 1e-8, key)
    for key in net.fixed:               # the running averages of batch norm
        if "running" in key:
            close(params[key].numpy(), net.params[key], 1e-10, key)


@pytest.mark.parametrize("size", [None, (9, 13), (8, 11), (10, 13), (9, 14), (12, 17), (10, 9)])
@pytest.mark.parametrize("padding", [0, 1, (2, 1)])
def test_transposed_convolution_to_any_size(size, padding, rng):
    net = Graph()
    layer = layers.TransposedConvolution(2, (5, 4), (2, 3), padding, dtype=np.float64)
    layer.params["weights"][...] = rng.standard_normal((5, 4, 2, 2))
    net.add("up", layer)
    x = rng.standard_normal((1, 4, 5, 2))
    params = {"weights": pytorch.parameters(net)["up/weights"]}
    y = pytorch._transposed_convolution(layer, pytorch.image(x), params=params, size=size)
    close(pytorch.scores(y), layer.forward(x, size=size), 1e-12)


def test_convolution_with_groups_stride_and_dilation(layout, rng):
    net = Graph()
    layer = layers.Convolution(6, 4, (3, 2), (2, 1), (1, 2), (1, 2), groups=2, dtype=np.float64)
    for array in layer.params.values():
        array[...] = rng.standard_normal(array.shape)
    net.add("conv", layer)
    x = rng.standard_normal((2, 9, 8, 6))
    y = pytorch.forward(net, pytorch.parameters(net, layout), pytorch.image(x, layout))
    close(pytorch.scores(y), net.forward(x), 1e-12)


def test_values_that_are_read_twice_are_not_overwritten(rng):
    net = Graph()
    net.add("double", layers.Scale(2.0))
    net.add("relu", layers.ReLU())
    net.add("sum", layers.Add(), "double", "relu")
    net.add("relu_of_data", layers.ReLU(), DATA)
    net.add("all", layers.Add(), "sum", "relu_of_data")
    x = rng.standard_normal((1, 3, 4, 2))
    image = pytorch.image(x)
    y = pytorch.forward(net, {}, image)
    np.testing.assert_allclose(pytorch.scores(y), 2 * x + 3 * np.maximum(x, 0), rtol=1e-15)
    np.testing.assert_array_equal(pytorch.scores(image), x)


def test_parameters_are_copies_that_ask_for_gradients_where_training_does(layout):
    net = models.FCN16s(**SMALL)
    before = {name: array.copy() for name, array in net.params.items()}
    params = pytorch.parameters(net, layout, training=True)
    assert {name for name, each in params.items() if not each.requires_grad} == net.fixed != set()
    with torch.no_grad():
        for each in params.values():
            each += 1
    for name, array in net.params.items():
        np.testing.assert_array_equal(array, before[name])
    assert not any(each.requires_grad for each in pytorch.parameters(net).values())


def test_layouts_lie_in_memory_as_their_names_say():
    net = models.FCN32s(**SMALL)
    x = np.zeros((1, 5, 6, 3))
    assert pytorch.image(x).stride() == (90, 30, 6, 1)
    assert pytorch.image(x, "channels-last").stride() == (90, 1, 18, 3)
    weights = pytorch.parameters(net, "channels-last")["conv1_2/weights"]
    assert weights.is_contiguous(memory_format=torch.channels_last)
    assert pytorch.parameters(net)["conv1_2/weights"].is_contiguous()
    with pytest.raises(ValueError, match="layout must be one of nchw, channels-last, got 'hwcn'"):
        pytorch.parameters(net, "hwcn")


def test_after_is_called_with_every_node_in_order():
    net, seen = models.FCN8s(**SMALL), []
    pytorch.forward(net, pytorch.parameters(net), pytorch.image(np.zeros((1, 8, 8, 3))),
                  after=seen.append)
    assert seen == [node.name for node in net.nodes]


def test_training_drops_out_and_inference_does_not():
    net = Graph()
    net.add("drop", layers.Dropout(0.5))
    ones = torch.ones(1, 1, 50, 50)
    assert (pytorch.forward(net, {}, ones) == 1).all()
    assert set(pytorch.forward(net, {}, ones, training=True).unique().tolist()) == {0, 2}
