"""Files that the real libraries write, with the names and shapes of published nets.

At small width; each is loaded and gives the scores that PyTorch computes from the same numbers.
"""
import logging

import h5py
import numpy as np
import pytest

import tinyfcn
from tinyfcn import models
from tinyfcn.data.transforms import preprocess
from tinyfcn.weights import WeightsError
from tinyfcn.weights.layouts import CAFFENET_BGR, TORCHVISION, VGG_BGR, VOC_CLASSES

torch = pytest.importorskip("torch", reason="needs torch")
F, nn = torch.nn.functional, torch.nn

pytestmark = pytest.mark.torch

CONVOLUTIONS = [f"conv{block}_{i}" for block, count in enumerate((2, 2, 3, 3, 3), 1)
                for i in range(1, count + 1)]
CHANNELS = (4, 8, 16, 32, 32)  # a sixteenth of VGG's
DENSE, CLASSES = 12, 7


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def photo():
    """As a photo is: smooth, of all colours, and large numbers in every channel."""
    y, x = np.mgrid[:224, :224] / 224
    waves = [np.sin(9 * x + 3 * y), np.cos(7 * y - x), np.sin(11 * x * y)]
    return np.uint8(127 + 120 * np.stack(waves, axis=-1))


def image(photo, preprocessing):
    return torch.from_numpy(preprocess(photo, preprocessing)[None].transpose(0, 3, 1, 2).copy())


def torchvision_vgg16(batch_norm=False):
    """torchvision's vgg16 and vgg16_bn, narrow (torchvision/models/vgg.py)."""
    layers, inputs = [], 3
    for count, channels in zip((2, 2, 3, 3, 3), CHANNELS):
        for _ in range(count):
            layers.append(nn.Conv2d(inputs, channels, 3, padding=1))
            if batch_norm:
                layers.append(nn.BatchNorm2d(channels))
            layers.append(nn.ReLU())
            inputs = channels
        layers.append(nn.MaxPool2d(2, 2))
    net = nn.Module()
    net.features = nn.Sequential(*layers)
    net.classifier = nn.Sequential(
        nn.Linear(inputs * 49, DENSE), nn.ReLU(), nn.Dropout(), nn.Linear(DENSE, DENSE), nn.ReLU(),
        nn.Dropout(), nn.Linear(DENSE, CLASSES))
    return random(net)


def random(net):
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            nn.init.normal_(module.bias, 0, 0.1)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 1.5)
    return net.eval()


def scores(net, x):
    with torch.no_grad():
        return net.classifier(net.features(x).flatten(1)).numpy()


class FCN8s(nn.Module):
    """pytorch-fcn's net, narrow (wkentaro/pytorch-fcn, torchfcn/models/fcn8s.py)."""

    def __init__(self):
        super().__init__()
        inputs = 3
        for name in CONVOLUTIONS:
            channels = CHANNELS[int(name[4]) - 1]
            padding = 100 if name == "conv1_1" else 1
            setattr(self, name, nn.Conv2d(inputs, channels, 3, padding=padding))
            inputs = channels
        self.fc6 = nn.Conv2d(inputs, DENSE, 7)
        self.fc7 = nn.Conv2d(DENSE, DENSE, 1)
        self.score_fr = nn.Conv2d(DENSE, 21, 1)
        self.score_pool3 = nn.Conv2d(CHANNELS[2], 21, 1)
        self.score_pool4 = nn.Conv2d(CHANNELS[3], 21, 1)
        self.upscore2 = nn.ConvTranspose2d(21, 21, 4, stride=2, bias=False)
        self.upscore8 = nn.ConvTranspose2d(21, 21, 16, stride=8, bias=False)
        self.upscore_pool4 = nn.ConvTranspose2d(21, 21, 4, stride=2, bias=False)

    def forward(self, x, scales=(1, 1)):
        h, pools = x, {}
        for name in CONVOLUTIONS:
            h = F.relu(getattr(self, name)(h))
            if name in ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3"):
                h = pools[name[4]] = F.max_pool2d(h, 2, 2, ceil_mode=True)
        h = F.relu(self.fc7(F.relu(self.fc6(h))))
        h = self.upscore2(self.score_fr(h))
        pool4 = self.score_pool4(pools["4"] * scales[0])
        h = self.upscore_pool4(h + pool4[:, :, 5:5 + h.shape[2], 5:5 + h.shape[3]])
        pool3 = self.score_pool3(pools["3"] * scales[1])
        h = self.upscore8(h + pool3[:, :, 9:9 + h.shape[2], 9:9 + h.shape[3]])
        return h[:, :, 31:31 + x.shape[2], 31:31 + x.shape[3]]


def assert_close(actual, expected):
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= 1e-4 * np.abs(expected).max()


def answer(net, photo):
    return net.forward(preprocess(photo, net.preprocessing)[None])


def by_own_names(net):
    """PyTorch's arrays of VGG-16 by Caffe's layer names: {name: (weights, bias)}."""
    modules = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return {name: (m.weight.detach().numpy(), m.bias.detach().numpy())
            for name, m in zip([*CONVOLUTIONS, "fc6", "fc7", "fc8"], modules, strict=True)}


def hwio(weights):
    """PyTorch's weights in TensorFlow's order: dense layers too, over a map in h, w, c order."""
    if weights.ndim == 4:
        return weights.transpose(2, 3, 1, 0)
    if weights.shape[1] == CHANNELS[-1] * 49:
        weights = weights.reshape(-1, CHANNELS[-1], 7, 7).transpose(0, 2, 3, 1).reshape(DENSE, -1)
    return weights.T


def to_rgb(name, weights):
    return weights[:, :, ::-1] if name == "conv1_1" else weights


# ---- One net, in the files of every source that was made from Caffe's VGG-16

def field(number, data):
    """A protobuf field of bytes."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value):
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])


def caffemodel(path, net, layers):
    def blob(array):
        shape = b"".join(varint(n) for n in array.shape)
        return field(5, array.astype("<f4").tobytes()) + field(7, field(1, shape))

    path.write_bytes(field(1, b"VGG") + b"".join(
        field(100, field(1, name.encode()) + b"".join(field(7, blob(a)) for a in arrays))
        for name, arrays in layers.items()))


def old_caffemodel(path, net, layers):
    """Of 2014: V1 layers, and all shapes of four numbers."""
    def blob(array):
        shape = (1,) * (4 - array.ndim) + array.shape
        sizes = b"".join(varint(i << 3) + varint(n) for i, n in enumerate(shape, 1))
        return sizes + field(5, array.astype("<f4").tobytes())

    path.write_bytes(field(1, b"VGG") + b"".join(
        field(2, field(4, name.encode()) + b"".join(field(6, blob(a)) for a in arrays))
        for name, arrays in layers.items()))


def jcjohnson(path, net, layers):
    names = {"classifier.0": "classifier.1", "classifier.3": "classifier.4"}
    state = {names.get(key.rpartition(".")[0], key.rpartition(".")[0]) + "."
             + key.rpartition(".")[2]: value for key, value in net.state_dict().items()}
    torch.save(state, path, _use_new_zipfile_serialization=False)


def keras_name(name):
    dense = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}
    return dense[name] if name in dense else f"block{name[4]}_conv{name[-1]}"


def keras1(path, net, layers):
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [keras_name(name).encode() for name in layers]
        for name, (weights, bias) in layers.items():
            name = keras_name(name)
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}_W_1:0".encode(), f"{name}_b_1:0".encode()]
            group[f"{name}_W_1:0"], group[f"{name}_b_1:0"] = hwio(weights), bias


def keras2(path, net, layers):
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = b"2.2.4"
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [keras_name(name).encode() for name in layers]
        for name, (weights, bias) in layers.items():
            name = keras_name(name)
            group[f"{name}/{name}/kernel:0"], group[f"{name}/{name}/bias:0"] = hwio(weights), bias
        file["optimizer_weights/training/SGD/iterations:0"] = 7


def keras3(path, net, layers):
    with h5py.File(path, "w") as file:
        for index, (name, (weights, bias)) in enumerate(layers.items()):
            kind, index = ("conv2d", index) if weights.ndim == 4 else ("dense", int(name[2]) - 6)
            group = file.create_group(f"layers/{kind}" + (f"_{index}" if index else "") + "/vars")
            group["0"], group["1"] = hwio(weights), bias


def vgg16_npy(path, net, layers):
    with open(path, "wb") as file:
        np.save(file, {name: [hwio(w), b] for name, (w, b) in layers.items()}, allow_pickle=True)


def frossard(path, net, layers):
    with open(path, "wb") as file:
        np.savez(file, **{f"{name}_W": to_rgb(name, hwio(w)) for name, (w, _) in layers.items()},
                 **{f"{name}_b": b for name, (_, b) in layers.items()})


def chainer(path, net, layers):
    with open(path, "wb") as file:
        np.savez(file, **{f"{name}/W": w for name, (w, _) in layers.items()},
                 **{f"{name}/b": b for name, (_, b) in layers.items()})


def matconvnet(path, net, layers):
    scipy_io = pytest.importorskip("scipy.io", reason="needs scipy")
    cells = np.empty((1, len(layers)), object)
    for i, (name, (w, b)) in enumerate(layers.items()):
        w = to_rgb(name, hwio(w))
        if w.ndim == 2:
            side = 7 if name == "fc6" else 1
            w = w.reshape(side, side, -1, w.shape[1])
        weights = np.empty((1, 2), object)
        weights[0, 0], weights[0, 1] = w, b[None]
        cells[0, i] = {"name": name, "type": "conv", "weights": weights}
    with open(path, "wb") as file:
        scipy_io.savemat(file, {"layers": cells})


CAFFE_NET = {
    "caffe-vgg": caffemodel, "caffe-vgg (2014)": old_caffemodel, "jcjohnson-vgg": jcjohnson,
    "keras-vgg (1)": keras1, "keras-vgg (2)": keras2, "keras3-vgg": keras3,
    "tensorflow-vgg": vgg16_npy, "frossard-vgg": frossard, "caffe-vgg (chainer)": chainer,
    "matconvnet-vgg": matconvnet,
}


@pytest.mark.parametrize("source", CAFFE_NET)
def test_a_photo_gets_the_same_scores_through_any_of_them(tmp_path, photo, source, caplog):
    theirs = torchvision_vgg16()
    path = tmp_path / "weights"
    CAFFE_NET[source](path, theirs, by_own_names(theirs))
    with caplog.at_level(logging.INFO, "tinyfcn"):
        net = tinyfcn.load_model(path)
    assert caplog.messages[0].startswith(f"{path}: recognised as {source.partition(' ')[0]}, ")
    assert net.name == "vgg16" and net.arguments == {
        "classes": CLASSES, "width": 1 / 16, "fc_channels": DENSE, "batch_norm": False,
        "dropout": 0.5, "in_channels": 3, "input_size": 224}
    assert_close(answer(net, photo), scores(theirs, image(photo, VGG_BGR)))


# ---- PyTorch's own

def save(path, state, how):
    if how == "safetensors":
        safetensors = pytest.importorskip("safetensors.torch", reason="needs safetensors")
        safetensors.save_file({k: v.contiguous() for k, v in state.items()}, path)
    elif how == "checkpoint":
        torch.save({"epoch": 3, "model_state_dict": state,
                    "optim_state_dict": {"state": {0: {"momentum_buffer": torch.ones(3)}},
                                         "param_groups": [{"lr": 0.1, "params": [0]}]}}, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=how == "zip")


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("how", ["old", "zip", "checkpoint", "safetensors"])
def test_torchvisions_vgg16(tmp_path, photo, how, batch_norm):
    theirs = torchvision_vgg16(batch_norm)
    save(tmp_path / "weights", theirs.state_dict(), how)
    net = tinyfcn.load_model(tmp_path / "weights", "vgg16")
    assert net.arguments["batch_norm"] == batch_norm
    assert_close(answer(net, photo), scores(theirs, image(photo, TORCHVISION)))
    # Those that were converted from Caffe have the same names: the user has to say so.
    net = tinyfcn.load_model(tmp_path / "weights", layout="torchvision-vgg-caffe")
    assert_close(answer(net, photo), scores(theirs, image(photo, VGG_BGR)))


def test_timms_vgg16(tmp_path, photo):
    theirs = torchvision_vgg16()
    names = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2",
             "classifier.6": "head.fc"}
    state = {}
    for key, value in theirs.state_dict().items():
        layer, kind = key.rsplit(".", 1)
        if kind == "weight" and layer in ("classifier.0", "classifier.3"):
            side = 7 if layer.endswith("0") else 1
            value = value.reshape(DENSE, -1, side, side)
        state[f"{names.get(layer, layer)}.{kind}"] = value
    save(tmp_path / "weights", state, "safetensors")
    net = tinyfcn.load_model(tmp_path / "weights")
    assert_close(answer(net, photo), scores(theirs, image(photo, TORCHVISION)))


class AlexNet(nn.Module):
    """torchvision's, narrow (torchvision/models/alexnet.py)."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(8, 24, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(24, 48, 3, padding=1), nn.ReLU(), nn.Conv2d(48, 32, 3, padding=1), nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2))
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Linear(32 * 36, DENSE), nn.ReLU(), nn.Dropout(),
            nn.Linear(DENSE, DENSE), nn.ReLU(), nn.Linear(DENSE, CLASSES))


def test_torchvisions_alexnet(tmp_path, photo):
    theirs = random(AlexNet())
    save(tmp_path / "weights", theirs.state_dict(), "zip")
    net = tinyfcn.load_model(tmp_path / "weights")
    assert net.name == "alexnet-single-tower"
    assert_close(answer(net, photo), scores(theirs, image(photo, TORCHVISION)))


@pytest.mark.parametrize("name", ["caffenet", "alexnet"])
def test_caffes_alexnets(tmp_path, name):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:227, :227] / 227
    photo = np.uint8(127 + 120 * np.sin(np.stack([9 * x, 8 * y, 7 * x * y], axis=-1)))
    layers, inputs = {}, 3
    for i, (outputs, kernel, groups) in enumerate(
            ((12, 11, 1), (32, 5, 2), (48, 3, 1), (48, 3, 2), (32, 3, 2)), 1):
        shape = outputs, inputs // groups, kernel, kernel
        layers[f"conv{i}"] = (rng.standard_normal(shape, np.float32) / np.sqrt(
            np.prod(shape[1:])).astype(np.float32), rng.standard_normal(outputs, np.float32))
        inputs = outputs
    for layer, i, o in ("fc6", 36 * 32, DENSE), ("fc7", DENSE, DENSE), ("fc8", DENSE, CLASSES):
        layers[layer] = (rng.standard_normal((o, i), np.float32) / np.float32(i ** 0.5),
                         rng.standard_normal(o, np.float32))
    caffemodel(tmp_path / "weights", None, layers)
    net = tinyfcn.load_model(tmp_path / "weights", name)
    assert net.name == name and net.arguments["width"] == 1 / 8

    t = {layer: tuple(map(torch.from_numpy, arrays)) for layer, arrays in layers.items()}
    x = image(photo, CAFFENET_BGR)
    for i, (stride, padding, groups) in enumerate(
            ((4, 0, 1), (1, 2, 2), (1, 1, 1), (1, 1, 2), (1, 1, 2)), 1):
        x = F.relu(F.conv2d(x, *t[f"conv{i}"], stride=stride, padding=padding, groups=groups))
        if i in (1, 2, 5):
            steps = [lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True)]
            if i < 5:
                steps.append(lambda x: F.local_response_norm(x, 5, 1e-4, 0.75, 1.0))
            for step in steps if name == "caffenet" else steps[::-1]:
                x = step(x)
    x = x.flatten(1)
    for layer in "fc6", "fc7":
        x = F.relu(F.linear(x, *t[layer]))
    assert_close(answer(net, photo), F.linear(x, *t["fc8"]).numpy())

    fcn = models.FCNAlexNet(classes=4, width=1 / 8, fc_channels=DENSE, geometry="caffe")
    tinyfcn.load_weights(fcn, tmp_path / "weights")
    np.testing.assert_array_equal(
        fcn.params["fc6/weights"].reshape(-1, DENSE), net.params["fc6/weights"])
    assert not fcn.params["score_fr/weights"].any()


# ---- FCNs

@pytest.mark.parametrize("name, scales", [("fcn8s", (1, 1)), ("fcn8s-atonce", (0.01, 0.0001))])
@pytest.mark.parametrize("how", ["old", "checkpoint", "safetensors", "caffe", "matconvnet"])
def test_fcn8s(tmp_path, photo, how, name, scales, caplog):
    theirs = random(FCN8s())
    photo = photo[:75, :110]
    path, preprocessing = tmp_path / "weights", CAFFENET_BGR
    arrays = {layer: [p.detach().numpy().copy() for p in module.parameters()]
              for layer, module in theirs.named_children()}
    if how == "caffe":
        if name == "fcn8s-atonce":
            arrays |= {"scale_pool4": [np.array([0.01])], "scale_pool3": [np.array([0.0001])]}
        caffemodel(path, None, arrays)
    elif how == "matconvnet":
        scipy_io = pytest.importorskip("scipy.io", reason="needs scipy")
        # The real file's names, of the nets that the conference paper was about.
        names = {"upscore2": "score2", "upscore_pool4": "score4", "upscore8": "upsample"}
        bias = np.linspace(-2, 1, 21, dtype=np.float32)
        arrays["upscore2"].append(bias)
        params = [(f"{names.get(layer, layer)}_{kind}", a) for layer, pair in arrays.items()
                  for kind, a in zip(("filter", "bias"), pair)]
        with torch.no_grad():
            theirs.score_pool4.bias += torch.from_numpy(bias)
        records = np.empty((1, len(params)), [("name", object), ("value", object)])
        for i, (key, a) in enumerate(params):
            if a.ndim == 4:  # (out, in, h, w), of transposed convolutions (in, out, h, w)
                a = a.transpose(2, 3, 1, 0)
                a = to_rgb(key.removesuffix("_filter"), a)
            records[0, i] = key, a if a.ndim == 4 else a[:, None]
        with open(path, "wb") as file:
            scipy_io.savemat(file, {"params": records, "layers": np.zeros(0)})
    else:
        save(path, theirs.state_dict(), how)
    with caplog.at_level(logging.INFO, "tinyfcn"):
        net = tinyfcn.load_model(path, name)
    assert net.name == name and net.arguments["geometry"] == "caffe"
    assert net.class_names == list(VOC_CLASSES)
    assert caplog.messages[0].endswith(
        f"; {name} with 21 classes, for {'RGB' if how == 'matconvnet' else 'BGR'} - "
        + ("(122.679, 116.669, 104.007)" if how == "matconvnet" else "(104.007, 116.669, 122.679)"))
    with torch.no_grad():
        expected = theirs(image(photo, preprocessing), scales).numpy().transpose(0, 2, 3, 1)
    assert_close(answer(net, photo), expected)


def test_an_at_once_net_is_told_by_its_scales(tmp_path):
    theirs = random(FCN8s())
    arrays = {layer: [p.detach().numpy() for p in module.parameters()]
              for layer, module in theirs.named_children()}
    arrays |= {"scale_pool4": [np.array([0.01])], "scale_pool3": [np.array([0.0001])]}
    path = tmp_path / "net.caffemodel"
    caffemodel(path, None, arrays)
    assert tinyfcn.load_model(path).name == "fcn8s-atonce"
    with pytest.raises(WeightsError, match="is for fcn8s-atonce, not for fcn8s"):
        tinyfcn.load_model(path, "fcn8s")
    arrays["scale_pool3"] = [np.array([0.5])]
    caffemodel(path, None, arrays)
    with pytest.raises(WeightsError, match="scale_pool3 is 0.5, not 0.0001"):
        tinyfcn.load_model(path)


def narrow_fcn(**options):
    return models.FCN8s(**{"classes": 5, "width": 1 / 16, "fc_channels": DENSE, "seed": 3,
                           **options})


def test_an_fcn_starts_from_a_classifier(tmp_path, photo, caplog):
    theirs = torchvision_vgg16()
    save(tmp_path / "vgg.pth", theirs.state_dict(), "zip")
    net, start = narrow_fcn(geometry="caffe"), narrow_fcn(geometry="caffe")
    with caplog.at_level(logging.INFO, "tinyfcn"):
        about = tinyfcn.load_weights(net, tmp_path / "vgg.pth")
    assert about == {"layout": "torchvision-vgg"}
    assert caplog.messages[1] == (
        f"{tmp_path / 'vgg.pth'}: holds a classifier: score_fr, upscore2, score_pool4, "
        "upscore_pool4, score_pool3, upscore8 keep their start, for training")
    assert net.preprocessing == TORCHVISION and net.class_names is None
    for name, array in net.params.items():
        assert np.array_equal(array, start.params[name]) == ("score" in name), name
    # Where its windows lie whole in the photo, fc7 is the classifier's.
    x = image(photo, TORCHVISION)
    with torch.no_grad():
        expected = theirs.classifier[:5](theirs.features(x).flatten(1)).numpy()
    recast = models.convolutionalize(tinyfcn.load_model(tmp_path / "vgg.pth"))
    for key in ("fc6/weights", "fc7/weights", "conv5_3/weights"):
        np.testing.assert_array_equal(net.params[key], recast.params[key])
    fc7 = recast.forward(preprocess(photo, net.preprocessing)[None], outputs=["relu7"])["relu7"]
    assert_close(fc7[:, 0, 0], expected)


@pytest.mark.parametrize("how", ["notop", "features", "nan"])
def test_the_convolutions_alone_are_a_start_and_said_to_be(tmp_path, caplog, how):
    theirs = torchvision_vgg16()
    path = tmp_path / "weights"
    if how == "notop":
        keras1(path, theirs, {name: arrays for name, arrays in by_own_names(theirs).items()
                              if name.startswith("conv")})
    else:
        state = theirs.state_dict()
        for name in [name for name in state if name.startswith("classifier")]:
            if how == "nan":
                state[name].fill_(float("nan"))
            else:
                del state[name]
        save(path, state, "zip")
    net, start = narrow_fcn(), narrow_fcn()
    with caplog.at_level(logging.INFO, "tinyfcn"):
        tinyfcn.load_weights(net, path)
    assert "holds the convolutions alone: fc6, fc7, score_fr, " in caplog.messages[1]
    for name, array in net.params.items():
        assert np.array_equal(array, start.params[name]) != name.startswith("conv"), name
    with pytest.raises(WeightsError, match="holds convolutions alone, of no net that classifies"):
        tinyfcn.load_model(path)
    with pytest.raises(WeightsError, match="does not fit vgg16: 6 missing: fc6/weights"):
        tinyfcn.load_weights(models.VGG16(
            classes=CLASSES, width=1 / 16, fc_channels=DENSE, init=None), path)


def test_a_classifier_of_this_project_starts_an_fcn_too(tmp_path):
    classifier = models.VGG16(classes=CLASSES, width=1 / 16, fc_channels=DENSE)
    classifier.class_names = list("abcdefg")
    tinyfcn.save_model(classifier, tmp_path / "vgg.h5")
    net = narrow_fcn()
    tinyfcn.load_weights(net, tmp_path / "vgg.h5")
    np.testing.assert_array_equal(
        net.params["fc6/weights"].reshape(-1, DENSE), classifier.params["fc6/weights"])
    assert net.class_names is None


# ---- What does not fit

def state_without(net, *names, **more):
    state = {key: value for key, value in net.state_dict().items() if key not in names}
    return state | more


def test_what_is_missing_unused_and_misshaped_is_named(tmp_path, caplog):
    theirs = torchvision_vgg16()
    path = tmp_path / "weights.pth"
    save(path, state_without(theirs, "classifier.3.bias", mask=torch.zeros(2)), "zip")
    net = models.VGG16(classes=5, width=1 / 16, fc_channels=DENSE, seed=1)
    before = {name: array.copy() for name, array in net.params.items()}
    problems = ("1 missing: fc7/bias; 1 unused: mask; 2 misshaped: fc8/weights is (12, 7) in the "
                "file and (12, 5) in the net, fc8/bias is (7,) in the file and (5,) in the net")
    with pytest.raises(WeightsError) as caught:
        tinyfcn.load_weights(net, path)
    assert str(caught.value) == f"{path}: does not fit vgg16: {problems}"
    for name, array in net.params.items():
        np.testing.assert_array_equal(array, before[name])
    tinyfcn.load_weights(net, path, allow_partial=True)
    assert caplog.messages == [f"{path}: does not fit vgg16, loaded in part: {problems}"]
    unchanged = {name for name, array in net.params.items() if np.array_equal(array, before[name])}
    assert unchanged == {"fc7/bias", "fc8/weights", "fc8/bias"}


def test_files_of_no_layout(tmp_path):
    path = tmp_path / "net.pth"
    save(path, {"layer1.weight": torch.zeros(3)}, "zip")
    for load in (tinyfcn.load_model,
                 lambda path: tinyfcn.load_weights(narrow_fcn(), path, allow_partial=True)):
        with pytest.raises(WeightsError, match="its tensors are of no layout known here"):
            load(path)
    with pytest.raises(WeightsError, match="does not have the tensors of the layout keras-vgg"):
        tinyfcn.load_model(path, layout="keras-vgg")
    with pytest.raises(ValueError, match="no layout 'kerass'; there are tinyfcn, caffe-fcn, "):
        tinyfcn.load_model(path, layout="kerass")


@pytest.mark.parametrize("lost, cut, message", [
    (("classifier.0.weight", "classifier.0.bias"), (), "fc6/weights missing"),
    (("classifier.3.weight",), (), "1 missing: fc7/weights"),
    ((), ("classifier.6.weight", "classifier.6.bias"), "a layer without channels or classes"),
])
def test_parts_of_a_net(tmp_path, lost, cut, message):
    path = tmp_path / "net.pth"
    state = state_without(torchvision_vgg16(), *lost)
    save(path, {key: value[:0] if key in cut else value for key, value in state.items()}, "zip")
    with pytest.raises(WeightsError, match=message):
        tinyfcn.load_model(path)


def test_another_model_than_the_file_is_for(tmp_path):
    path = tmp_path / "net.pth"
    save(path, torchvision_vgg16().state_dict(), "zip")
    for name in "vgg19", "fcn8s", "caffenet":
        with pytest.raises(WeightsError, match=f"is for vgg16, not for {name}"):
            tinyfcn.load_model(path, name)


def test_a_file_cannot_ask_for_more_memory_than_it_fills(tmp_path):
    """Of a few bytes, whose last convolution would make a net of terabytes."""
    state, inputs = {}, 1
    for i, name in zip((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), CONVOLUTIONS):
        outputs = 500_000 if name == "conv5_3" else 1
        state[f"features.{i}.weight"] = torch.zeros(outputs, inputs, 3, 3)
        state[f"features.{i}.bias"] = torch.zeros(outputs)
        inputs = outputs
    for i, (o, n) in zip((0, 3, 6), ((1, 500_000 * 49), (1, 1), (1, 1))):
        state[f"classifier.{i}.weight"] = torch.zeros(1).expand(o, n)
        state[f"classifier.{i}.bias"] = torch.zeros(o)
    path = tmp_path / "net.pth"
    save(path, state, "zip")
    with pytest.raises(WeightsError):
        tinyfcn.load_model(path)


def test_geometry_is_told(tmp_path, caplog):
    save(tmp_path / "fcn.pth", random(FCN8s()).state_dict(), "zip")
    net = narrow_fcn(classes=21)
    tinyfcn.load_weights(net, tmp_path / "fcn.pth")
    assert caplog.messages == [f"{tmp_path / 'fcn.pth'}: was made with geometry 'caffe', loaded "
                               "into a net with same"]


def test_doubles_of_a_caffemodel_are_rounded(tmp_path):
    theirs = torchvision_vgg16()
    layers = by_own_names(theirs)

    def blob(array):
        shape = b"".join(varint(n) for n in array.shape)
        return field(8, array.astype("<f8").tobytes()) + field(7, field(1, shape))

    path = tmp_path / "net.caffemodel"
    path.write_bytes(field(1, b"VGG") + b"".join(
        field(100, field(1, name.encode()) + b"".join(field(7, blob(a)) for a in arrays))
        for name, arrays in layers.items()))
    net = tinyfcn.load_model(path)
    assert net.params["fc6/weights"].dtype == np.float32
    np.testing.assert_array_equal(net.params["conv3_2/weights"], hwio(layers["conv3_2"][0]))
