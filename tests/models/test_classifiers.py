"""LeNet, the AlexNets, the VGGs and FCN-AlexNet: nodes, sizes, and the same in PyTorch."""
import gzip

import numpy as np
import pytest

import tinyfcn
from tinyfcn import layers, models
from tinyfcn.layers import Convolution, LocalResponseNormalization, MaxPooling

SMALL = {"classes": 3, "width": 1 / 16, "fc_channels": 8}


def shapes(net):
    return {name: w.shape for name, w in net.params.items() if name.endswith("/weights")}


def count(net):
    return sum(w.size for w in net.params.values())


def test_lenet_is_caffes():
    net = models.LeNet()
    assert list(net.layers) == ["conv1", "pool1", "conv2", "pool2", "ip1", "relu1", "ip2"]
    assert shapes(net) == {"conv1/weights": (5, 5, 1, 20), "conv2/weights": (5, 5, 20, 50),
                           "ip1/weights": (800, 500), "ip2/weights": (500, 10)}
    assert net.forward(np.zeros((2, 28, 28, 1), np.float32)).shape == (2, 10)
    with pytest.raises(ValueError, match="input_size must be at least 14, got 12"):
        models.LeNet(input_size=12)
    assert models.LeNet(input_size=14).params["ip1/weights"].shape == (50, 500)


def test_caffenet_and_alexnet():
    first = "conv1 relu1 {} conv2 relu2 {} conv3 relu3 conv4 relu4 conv5 relu5 pool5"
    dense = "fc6 relu6 drop6 fc7 relu7 drop7 fc8"
    caffenet, alexnet = models.CaffeNet(init=None), models.AlexNet(init=None)
    assert list(caffenet.layers) == f"{first} {dense}".format(
        "pool1 norm1", "pool2 norm2").split()
    assert list(alexnet.layers) == f"{first} {dense}".format("norm1 pool1", "norm2 pool2").split()
    for net in caffenet, alexnet:
        assert shapes(net) == {
            "conv1/weights": (11, 11, 3, 96), "conv2/weights": (5, 5, 48, 256),
            "conv3/weights": (3, 3, 256, 384), "conv4/weights": (3, 3, 192, 384),
            "conv5/weights": (3, 3, 192, 256), "fc6/weights": (9216, 4096),
            "fc7/weights": (4096, 4096), "fc8/weights": (4096, 1000)}
        assert count(net) == 60_965_224  # as published
        assert net.layers["norm1"].settings == {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 1.0}
    paper = models.AlexNet(normalization="paper", **SMALL).layers["norm2"].settings
    assert paper == {"size": 5, "alpha": 5e-4, "beta": 0.75, "k": 2.0}
    with pytest.raises(ValueError, match="normalization must be 'caffe' or 'paper', got 'none'"):
        models.CaffeNet(normalization="none")


def test_the_single_tower_is_torchvisions():
    net = models.AlexNetSingleTower(init=None)
    assert count(net) == 61_100_840  # as torchvision states
    assert net.arguments["input_size"] == 224
    assert not any(isinstance(layer, LocalResponseNormalization) for layer in net.layers.values())
    assert list(net.layers)[-8:] == [
        "pool5", "drop5", "fc6", "relu6", "drop6", "fc7", "relu7", "fc8"]
    assert all(layer.geometry["groups"] == 1 for layer in net.layers.values()
               if isinstance(layer, Convolution))


# As torchvision states them (torchvision/models/vgg.py).
@pytest.mark.parametrize("name, batch_norm, parameters", [
    ("vgg11", False, 132_863_336), ("vgg13", False, 133_047_848), ("vgg16", False, 138_357_544),
    ("vgg19", False, 143_667_240), ("vgg11", True, 132_868_840), ("vgg13", True, 133_053_736),
    ("vgg16", True, 138_365_992), ("vgg19", True, 143_678_248)])
def test_vggs_have_as_many_parameters_as_published(name, batch_norm, parameters):
    net = models.BY_NAME[name](batch_norm=batch_norm, init=None)
    assert net.name == name
    learned = sum(w.size for key, w in net.params.items() if "running" not in key)
    assert learned == parameters
    assert sum(isinstance(layer, Convolution | layers.Linear)
               for layer in net.layers.values()) == int(name[3:])


@pytest.mark.parametrize("name", models.CLASSIFIERS)
def test_classifiers_prepared_for_inference(name, randomize):
    net = randomize(build(name))
    x = images(net, 2)
    expected = net.forward(x)
    prepared = models.prepare(net)
    for _ in range(2):
        np.testing.assert_allclose(
            prepared.forward(x), expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def build(name, **options):
    sizes = {"lenet": {}, "alexnet-single-tower": {"input_size": 95}}
    if name.startswith("vgg"):
        options |= {"input_size": 64, "batch_norm": True}
    elif name != "lenet":
        options.setdefault("input_size", 99)
    return models.BY_NAME[name](**{**({} if name == "lenet" else SMALL),
                                   **{**options, **sizes.get(name, {})}})


def images(net, n, extra=(0, 0)):
    size = net.arguments["input_size"]
    shape = n, size + extra[0], size + extra[1], net.arguments["in_channels"]
    return np.random.default_rng(0).standard_normal(shape, np.float32)


# ---- Convolutionalized

@pytest.mark.parametrize("name", models.CLASSIFIERS)
def test_the_same_answer_at_the_native_size(name, randomize):
    net = randomize(build(name))
    recast = tinyfcn.convolutionalize(net)
    x = images(net, 2)
    scores = net.forward(x)
    assert np.ptp(scores) > 0
    map_ = recast.forward(x)
    assert map_.shape == (2, 1, 1, scores.shape[1])
    np.testing.assert_allclose(map_[:, 0, 0], scores, rtol=0, atol=1e-5 * np.abs(scores).max())
    assert not any(isinstance(layer, layers.Linear) for layer in recast.layers.values())


# The size of the map from each layer's (kernel, stride, padding), rounded as Caffe rounds it.
@pytest.mark.parametrize("name, extra, size", [
    # LeNet: 28 + 9 -> 33 -> 17 -> 13 -> 7 -> 4; + 40 -> 64 -> 32 -> 28 -> 14 -> 11.
    ("lenet", (9, 40), (4, 11)),
    # CaffeNet from 99: (99 + 64 - 11) / 4 + 1 = 39 -> 19 -> 9 -> 4, less the 1 of fc6 (2) + 1.
    ("caffenet", (64, 0), (3, 1)),
    ("alexnet", (0, 96), (1, 4)),
    # Five poolings, rounded up: 64 -> 2; 64 + 33 -> 49 -> 25 -> 13 -> 7 -> 4; + 128 -> 6.
    ("vgg16", (33, 128), (3, 5)),
    ("vgg11", (1, 32), (2, 2)),
])
def test_a_map_of_larger_images(name, extra, size, randomize):
    net = randomize(build(name))
    recast = tinyfcn.convolutionalize(net)
    map_ = recast.forward(images(net, 1, extra))
    assert map_.shape == (1, *size, net.arguments["classes"])


def test_each_place_of_the_map_is_the_classifiers_answer_there(randomize):
    """LeNet pads nothing: a window of the image is all that a place of the map sees."""
    net = randomize(models.LeNet())
    x = images(net, 1, (8, 12))
    map_ = tinyfcn.convolutionalize(net).forward(x)
    assert map_.shape == (1, 3, 4, 10)
    for i in range(3):
        for j in range(4):
            window = x[:, 4 * i:4 * i + 28, 4 * j:4 * j + 28]
            np.testing.assert_allclose(map_[0, i, j], net.forward(window)[0], atol=1e-4)


def test_parameters_are_shared():
    net = models.LeNet()
    net.class_names = list("0123456789")
    recast = tinyfcn.convolutionalize(net)
    assert recast.params["ip1/weights"].shape == (4, 4, 50, 500)
    assert recast.params["ip2/weights"].shape == (1, 1, 500, 10)
    for name, array in recast.params.items():
        assert np.shares_memory(array, net.params[name])
    assert recast.class_names == net.class_names and recast.preprocessing == net.preprocessing
    assert recast.name == "lenet" and recast.arguments == net.arguments


def test_a_convolutionalized_net_can_be_trained(randomize):
    from tinyfcn.gradient_check import Settings, check_gradients

    net = tinyfcn.convolutionalize(randomize(models.LeNet(input_size=14, dtype=np.float64)))
    x = np.random.default_rng(0).standard_normal((1, 18, 15, 1))
    rows = check_gradients(net, x, settings=Settings(seed=1, entries=1, threshold=1e-5))
    assert [row for row in rows if not row.passed] == []


def test_a_map_that_is_not_square():
    net = tinyfcn.graph.Graph()
    net.add("conv1", Convolution(1, 2, 3))
    net.add("ip1", layers.Linear(3 * 5 * 2, 4))
    x = np.random.default_rng(0).standard_normal((2, 5, 7, 1), np.float32)
    for w in net.params.values():
        w[...] = np.random.default_rng(1).standard_normal(w.shape)
    recast = tinyfcn.convolutionalize(net, (3, 5))
    np.testing.assert_allclose(recast.forward(x)[:, 0, 0], net.forward(x), rtol=1e-5)
    with pytest.raises(ValueError, match="ip1 reads 30 numbers, which are no map of 3x3 and 2 ch"):
        tinyfcn.convolutionalize(net)
    alone = tinyfcn.graph.Graph()
    alone.add("ip1", layers.Linear(4, 4))
    with pytest.raises(ValueError, match="ip1 reads no map of a convolution"):
        tinyfcn.convolutionalize(alone)


# ---- FCN-AlexNet

def test_fcn_alexnets_nodes():
    start = ("conv1 relu1 pool1 norm1 conv2 relu2 pool2 norm2 conv3 relu3 conv4 relu4 conv5 relu5"
             " pool5 fc6 relu6 drop6 fc7 relu7 drop7 score_fr upscore")
    net = models.FCNAlexNet(geometry="caffe", init=None)
    assert list(net.layers) == [*start.split(), "score"]
    assert list(models.FCNAlexNet(**SMALL).layers) == start.split()
    assert net.params["fc6/weights"].shape == (6, 6, 256, 4096)
    assert net.params["upscore/weights"].shape == (63, 63, 21, 21)
    assert net.layers["conv1"].geometry["padding"] == (100, 100)
    assert net.layers["score"].offset == (18, 18)
    # The bilinear filter of odd size is centred on a pixel.
    w = net.params["upscore/weights"][:, :, 5, 5]
    assert w[31, 31] == 1 and w[0, 0] == pytest.approx(1 / 32**2)
    for option, value in {"upsampling": "x", "geometry": "x", "init": "x"}.items():
        with pytest.raises(ValueError, match=f"{option} must be one of "):
            models.FCNAlexNet(**{**SMALL, option: value})


@pytest.mark.parametrize("geometry", ["same", "caffe"])
@pytest.mark.parametrize("size", [(1, 1), (2, 7), (33, 50), (64, 97), (131, 31)])
def test_fcn_alexnet_scores_every_pixel_of_any_size(size, geometry, randomize):
    net = randomize(models.FCNAlexNet(geometry=geometry, **SMALL))
    x = np.random.default_rng(0).standard_normal((2, *size, 3), np.float32)
    y = net.forward(x)
    assert y.shape == (2, *size, 3) and (np.abs(y).max(axis=-1) > 0).all()
    prepared = models.prepare(net).forward(x)
    np.testing.assert_allclose(prepared, y, rtol=0, atol=2e-5 * np.abs(y).max())


def test_fcn_alexnets_scores_lie_where_their_pixels_are(randomize):
    """With all filters mirrored, a mirrored photo has mirrored scores: nothing is shifted."""
    net = randomize(models.FCNAlexNet(dtype=np.float64, **SMALL))
    x = np.random.default_rng(0).standard_normal((1, 65, 97, 3))
    expected = net.forward(x)
    for w in net.params.values():
        if w.ndim == 4:
            w[...] = w[::-1, ::-1].copy()
    actual = net.forward(x[:, ::-1, ::-1])[:, ::-1, ::-1]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


@pytest.mark.torch
def test_fcn_alexnet_is_pytorchs(randomize):
    torch = pytest.importorskip("torch", reason="needs torch")
    F = torch.nn.functional
    net = randomize(models.FCNAlexNet(geometry="caffe", upsampling="learned", **SMALL))
    x = np.random.default_rng(0).standard_normal((1, 61, 90, 3), np.float32)
    p = {name: torch.from_numpy(np.ascontiguousarray(
        w.transpose((2, 3, 0, 1) if "upscore" in name else (3, 2, 0, 1)) if w.ndim == 4 else w))
        for name, w in net.params.items()}

    def convolution(x, name, **options):
        return F.conv2d(x, p[f"{name}/weights"], p[f"{name}/bias"], **options)

    h = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
    for i, options in enumerate(({"stride": 4, "padding": 100}, {"padding": 2, "groups": 2},
                                 {"padding": 1}, {"padding": 1, "groups": 2},
                                 {"padding": 1, "groups": 2}), 1):
        h = F.relu(convolution(h, f"conv{i}", **options))
        if i in (1, 2, 5):
            h = F.max_pool2d(h, 3, 2, ceil_mode=True)
        if i in (1, 2):
            h = F.local_response_norm(h, 5, 1e-4, 0.75, 1.0)
    h = F.relu(convolution(F.relu(convolution(h, "fc6")), "fc7"))
    h = F.conv_transpose2d(convolution(h, "score_fr"), p["upscore/weights"], stride=32)
    expected = h[:, :, 18:18 + 61, 18:18 + 90].numpy().transpose(0, 2, 3, 1)
    y = net.forward(x)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


# ---- Real nets on MNIST

@pytest.fixture
def digits(test_data):
    """(images (10000, 28, 28, 1) uint8, labels)."""
    with gzip.open(test_data("mnist", "t10k-images-idx3-ubyte.gz")) as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)
    with gzip.open(test_data("mnist", "t10k-labels-idx1-ubyte.gz")) as file:
        return pixels, np.frombuffer(file.read(), np.uint8, offset=8)


def scores(net, x):
    return np.concatenate([net.forward(x[i:i + 1000]) for i in range(0, len(x), 1000)])


def correct(net, x, labels):
    return int((scores(net, x).argmax(axis=1) == labels).sum())


@pytest.mark.parametrize("folder, right, loss, first", [
    ("nandahkrishna", 9905, 0.0297565,
     (-1.47342, -.33760, .71878, 3.29528, -2.56029, -1.70121, -9.79446, 13.74208, -2.39344,
      2.30564)),
    ("everpeace_v1", 9905, 0.0291821,
     (-3.81727, -1.01657, .59792, 5.28756, -3.17527, -2.28736, -11.76084, 14.85825, -1.20834,
      2.99037)),
])
def test_caffes_lenets_give_caffes_figures(test_data, digits, folder, right, loss, first):
    from tinyfcn.losses import softmax_loss

    pixels, labels = digits
    path = test_data("lenet", folder, "lenet_iter_10000.caffemodel")
    net = models.LeNet(init=None)
    tinyfcn.load_weights(net, path)
    assert net.class_names == list("0123456789")
    y = scores(net, pixels * np.float32(net.preprocessing["scale"]))
    assert (y.argmax(axis=1) == labels).sum() == right
    np.testing.assert_allclose(y[0], first, atol=1e-5)
    found, _ = softmax_loss(y[:, None, None], labels[:, None, None], 255)
    assert found == pytest.approx(loss, abs=5e-8)
    # And so it is as a convolution.
    recast = tinyfcn.convolutionalize(net)
    few = pixels[:500] * np.float32(net.preprocessing["scale"])
    np.testing.assert_allclose(recast.forward(few)[:, 0, 0], y[:500], atol=1e-4)


def fill(net, tensors, names, order):
    """Fill a net from tensors as stored: {layer: name in the file}; dense layers over c, h, w."""
    channels = None
    for layer, name in names.items():
        for key, w in net.layers[layer].params.items():
            array = np.asarray(tensors[f"{name}{order['names'].get(key, key)}"])
            if array.ndim == 4 and order["axes"] == "OIHW":
                array = array.transpose(2, 3, 1, 0)
            if array.ndim == 4:
                channels = array.shape[3]
            elif array.ndim == 2 and order["axes"] == "OIHW":
                if array.shape[1] % channels == 0 and isinstance(channels, int):
                    side = int((array.shape[1] // channels) ** 0.5)
                    array = array.reshape(-1, channels, side, side).transpose(0, 2, 3, 1)
                    array, channels = array.reshape(array.shape[0], -1), 1 << 30
                array = array.T
            w[...] = array
    return net


TORCH = {"axes": "OIHW", "names": {"weights": ".weight", "bias": ".bias", "gamma": ".weight",
                                   "beta": ".bias", "running_mean": ".running_mean",
                                   "running_var": ".running_var"}}
KERAS = {"axes": "HWIO", "names": {"weights": "/kernel:0", "bias": "/bias:0"}}


def small_net(*nodes):
    net = tinyfcn.graph.Graph()
    for name, layer in nodes:
        net.add(name, layer)
    return net


def test_a_real_keras_net(test_data, digits):
    from tinyfcn import weights

    net = small_net(
        ("conv1", Convolution(1, 32, 3)), ("relu1", layers.ReLU()),
        ("pool1", MaxPooling(2, 2, ceil=False)), ("conv2", Convolution(32, 64, 3)),
        ("relu2", layers.ReLU()), ("pool2", MaxPooling(2, 2, ceil=False)),
        ("fc", layers.Linear(1600, 10)))
    tensors = weights.read(test_data("weights", "keras_mnist_weights.h5"))
    fill(net, tensors, {"conv1": "conv2d_2/conv2d_2", "conv2": "conv2d_3/conv2d_3",
                        "fc": "dense_1/dense_1"}, KERAS)
    assert correct(net, digits[0].astype(np.float32), digits[1]) == 9838


@pytest.mark.parametrize("file, right, sizes, padding", [
    ("torch_mnist_electrobusy.pt", 9897, (20, 50, 500, 10), 0),  # the old container
    ("torch_mnist_messiah.pt", 9862, (6, 16, 120, 84, 10), 2),  # the zip container
])
def test_real_pytorch_nets(test_data, digits, file, right, sizes, padding):
    from tinyfcn import weights

    first, second, *dense = sizes
    nodes = [("conv1", Convolution(1, first, 5, padding=padding)), ("relu1", layers.ReLU()),
             ("pool1", MaxPooling(2, 2)), ("conv2", Convolution(first, second, 5)),
             ("relu2", layers.ReLU()), ("pool2", MaxPooling(2, 2))]
    inputs = second * (5 if padding else 4) ** 2
    for i, outputs in enumerate(dense, 1):
        nodes.append((f"fc{i}", layers.Linear(inputs, outputs)))
        if i < len(dense):
            nodes.append((f"relu_fc{i}", layers.ReLU()))
        inputs = outputs
    net = small_net(*nodes)
    names = {name: name for name, layer in nodes if name[0] in "cf"}
    fill(net, weights.read(test_data("weights", file)), names, TORCH)
    x = ((digits[0] / 255 - 0.1307) / 0.3081).astype(np.float32)
    assert correct(net, x, digits[1]) == right


def test_a_real_safetensors_net(test_data, digits):
    from tinyfcn import weights

    nodes, inputs = [], 1
    for block, (outputs, kernel) in enumerate(((32, 5), (64, 3))):
        at = 6 * block
        nodes += [(f"layers.{at}", Convolution(inputs, outputs, kernel)),
                  (f"relu{at}", layers.ReLU()),
                  (f"layers.{at + 2}", Convolution(outputs, outputs, kernel)),
                  (f"relu{at + 2}", layers.ReLU()),
                  (f"layers.{at + 4}", layers.BatchNorm(outputs, eps=1e-5)),
                  (f"pool{block}", MaxPooling(2, 2))]
        inputs = outputs
    nodes.append(("layers.13", layers.Linear(576, 10)))
    net = small_net(*nodes)
    names = {name: name for name, _ in nodes if name.startswith("layers")}
    fill(net, weights.read(test_data("weights", "denograd_mnist.safetensors")), names, TORCH)
    assert correct(net, digits[0].astype(np.float32), digits[1]) == 9916
