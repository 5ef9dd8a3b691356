"""Nets in each peer: that they are our nets, whatever these are made of."""
import numpy as np
import pytest

from tinyfcn import layers, models, peers
from tinyfcn.graph import DATA, Graph
from tinyfcn.peers import ncnn
from tinyfcn.peers.steps import diagonal, steps

SMALL = {"width": 0.04, "fc_channels": 7, "classes": 5, "init": "scratch"}
NETS = {
    "fcn8s": (models.FCN8s, {}, (37, 50)),
    "fcn8s, caffe": (models.FCN8s, {"geometry": "caffe"}, (19, 24)),
    "fcn8s-atonce, learned": (models.FCN8sAtOnce, {"upsampling": "learned"}, (33, 64)),
    "fcn16s, batch norm": (models.FCN16s, {"batch_norm": True}, (70, 41)),
    "fcn32s": (models.FCN32s, {}, (1, 1)),
    "vgg16": (models.VGG16, {"input_size": 33}, (33, 33)),
}
LAYERS = {
    "convolution": lambda: (layers.Convolution(6, 4, (3, 2), (2, 1), (1, 2), (1, 2)), None),
    "grouped": lambda: (layers.Convolution(6, 4, 3, padding=1, groups=2), None),
    "without bias": lambda: (layers.Convolution(6, 4, 1, bias=False), None),
    "pooling": lambda: (layers.MaxPooling(2, 2), None),
    "pooling, floor": lambda: (layers.MaxPooling(2, 2, ceil=False), None),
    "pooling, padding": lambda: (layers.MaxPooling((3, 2), (2, 3), 1), None),
    "upsampling": lambda: (layers.TransposedConvolution(6, (5, 4), (2, 3), (2, 1)), None),
    "upsampling, cut": lambda: (layers.TransposedConvolution(6, (5, 4), (2, 3), (2, 1)), (13, 17)),
    "upsampling, zeros": lambda: (layers.TransposedConvolution(6, 4, 2, 1), (19, 27)),
    "crop": lambda: (layers.Crop((2, 1)), (5, 6)),
    "scale": lambda: (layers.Scale(0.0001), None),
    "relu": lambda: (layers.ReLU(), None),
    "linear": lambda: (layers.Linear(9 * 11 * 6, 5), None),
}


@pytest.fixture(params=[
    pytest.param(peer, marks=pytest.mark.torch if peer == "torch" else pytest.mark.peers)
    for peer in peers.NAMES])
def peer(request):
    lacking = peers.missing(request.param)
    if lacking:
        pytest.skip(f"compares with {request.param}: {', '.join(lacking)} not installed")
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def randomize(net, rng):
    """Give every parameter numbers of its own, so that one mistaken for another shows."""
    for name, array in net.params.items():
        learned = "upscore" in name and name not in net.fixed
        if learned or not array.any() or not name.endswith("/weights"):
            array += rng.uniform(0.1, 0.5, array.shape).astype(array.dtype)


def check(peer, net, x, tolerance=1e-5):
    expected = net.forward(x)
    module = peers.module(peer)
    for name, options in module.VARIANTS.items():
        session = module.load(net, x, 2, **options)
        session.run()
        actual = session.scores(session.run())
        assert actual.shape == expected.shape, name
        assert actual.dtype == np.float32
        largest = np.abs(expected).max()
        assert largest > 0
        assert np.abs(actual - expected).max() <= tolerance * largest, name


@pytest.mark.parametrize("name", NETS)
def test_scores_of_nets_are_the_same(name, peer, rng):
    build, options, size = NETS[name]
    net = build(**SMALL, **options)
    randomize(net, rng)
    check(peer, net, rng.standard_normal((2, *size, 3), np.float32), 1e-4)


@pytest.mark.parametrize("name", LAYERS)
def test_single_layers_are_the_same(name, peer, rng):
    layer, size = LAYERS[name]()
    net, x = Graph(), rng.standard_normal((2, 9, 11, 6), np.float32)
    like = size and net.add("like", of_size(x.shape[1:3], size), DATA)
    net.add("layer", layer, DATA, size_like=like)
    randomize(net, rng)
    check(peer, net, x)


def of_size(input_size, size):
    """A layer whose output has that size."""
    if size < input_size:
        kernel_size = [n - m + 1 for n, m in zip(input_size, size)]
        return layers.Convolution(6, 1, kernel_size)
    return layers.TransposedConvolution(6, [m - n + 1 for n, m in zip(input_size, size)], 1)


def test_upsampling_filters_that_mix_channels(peer, rng):
    net = Graph()
    layer = layers.TransposedConvolution(6, (5, 4), (2, 3), (2, 1))
    layer.params["weights"][...] = rng.standard_normal(layer.params["weights"].shape)
    net.add("up", layer)
    check(peer, net, rng.standard_normal((1, 4, 5, 6), np.float32))


def test_values_that_are_read_twice(peer, rng):
    net = Graph()
    net.add("conv", layers.Convolution(2, 2, 1))
    net.add("relu", layers.ReLU())
    net.add("sum", layers.Add(), "conv", "relu")
    net.add("relu_of_data", layers.ReLU(), DATA)
    net.add("again", layers.Add(), "sum", "relu_of_data")
    net.add("all", layers.Add(), "again", "sum")
    randomize(net, rng)
    net.layers["conv"].params["bias"] -= 0.6
    check(peer, net, rng.standard_normal((2, 5, 6, 2), np.float32))


# ---- what the conversions share


def test_steps_leave_out_what_inference_does_not_need():
    net = models.FCN8s(batch_norm=True, **SMALL)
    found = {step.name: step for step in steps(net, (2, 37, 50, 3))}
    assert not [name for name in found if name.startswith(("bn", "drop", "relu"))]
    assert found["conv1_2"].relu and found["fc7"].relu and not found["score_fr"].relu
    assert found["pool1"].inputs == ("conv1_2",)
    assert found["score_fr"].inputs == ("fc7",)
    outputs = net.forward(np.zeros((2, 37, 50, 3), np.float32), outputs=list(found))
    assert {name: step.shape for name, step in found.items()} == {
        name: y.shape for name, y in outputs.items()}


def test_relu_of_a_value_that_is_read_elsewhere_stays_a_step():
    net = Graph()
    net.add("conv", layers.Convolution(2, 2, 1))
    net.add("drop", layers.Dropout(0.5))
    net.add("relu", layers.ReLU())
    net.add("sum", layers.Add(), "conv", "relu")
    found = [(step.name, step.inputs, step.relu) for step in steps(net, (1, 3, 4, 2))]
    assert found == [("conv", (DATA,), False), ("relu", ("conv",), False),
                     ("sum", ("conv", "relu"), False)]


def test_diagonal_filters_are_told_from_others():
    weights = np.zeros((2, 3, 2, 2), np.float32)
    weights[:, :, 0, 0], weights[:, :, 1, 1] = 1, 2
    np.testing.assert_array_equal(diagonal(weights), np.full((2, 3, 2), [1, 2]))
    weights[1, 2, 0, 1] = 1e-6
    assert diagonal(weights) is None
    assert diagonal(np.zeros((2, 2, 3, 4))) is None


@pytest.mark.peers
def test_onnx_model_is_valid():
    onnx = pytest.importorskip("onnx", reason="checks models with onnx, which is not installed")
    from tinyfcn.peers.onnx_model import onnx_model

    model = onnx.load_from_string(onnx_model(models.FCN8s(**SMALL), (2, 37, 50, 3)))
    onnx.checker.check_model(model, full_check=True)
    shape = model.graph.output[0].type.tensor_type.shape
    assert [each.dim_value for each in shape.dim] == [2, 5, 37, 50]


def test_ncnn_files_count_what_they_hold(tmp_path):
    net = Graph()
    net.add("conv", layers.Convolution(2, 3, 1))
    net.add("relu", layers.ReLU())
    net.add("sum", layers.Add(), "relu", "relu")
    param, weights = tmp_path / "net.param", tmp_path / "net.bin"
    assert ncnn.write(net, (1, 4, 5, 2), param, weights) == "sum"
    assert param.read_text().splitlines() == [
        "7767517",
        "4 5",
        "Input data 0 1 data 0=5 1=4 2=2",
        "Convolution conv 1 1 data conv 0=3 1=1 11=1 2=1 12=1 3=1 13=1 4=0 14=0 5=1 6=6 9=1",
        "Split conv/split 1 2 conv conv/0 conv/1",
        "BinaryOp sum 2 1 conv/0 conv/1 sum 0=0",
    ]
    assert weights.stat().st_size == 4 * (1 + 6 + 3)
