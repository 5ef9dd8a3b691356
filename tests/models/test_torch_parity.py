"""The nets against the same nets in PyTorch, written there independently, in NCHW.

Rounding differs, so a number right beside a kink of ReLU or max-pooling may fall on the other side;
with these seeds none that matters does.
"""
import numpy as np
import pytest

from tinyfcn import models
from tinyfcn.losses import softmax_loss
from tinyfcn.optimizers import SGD

torch = pytest.importorskip("torch", reason="needs torch")
F = torch.nn.functional

pytestmark = pytest.mark.torch

SMALL = {"classes": 5, "width": 1 / 16, "fc_channels": 32, "dropout": 0.0}
FCNS = ("fcn32s", "fcn16s", "fcn8s", "fcn8s-atonce")
GEOMETRIES = ("same", "caffe")
SCORES = {"float32": 1e-4, "float64": 1e-10}
GRADIENTS = {"float32": 1e-3, "float64": 1e-8}

CONVOLUTIONS = ((2, "1"), (2, "2"), (3, "3"), (3, "4"), (3, "5"))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Net:
    """A net in PyTorch with the parameters of one of ours, by their names."""

    def __init__(self, net, training=False):
        self.name, self.training = net.name, training
        self.geometry = net.arguments.get("geometry")
        self.batch_norm = net.arguments["batch_norm"]
        self.params = {name: tensor(name, w) for name, w in net.params.items()}
        for name, p in self.params.items():
            if "running" not in name:
                p.requires_grad_(training)

    def convolution(self, x, name, padding=0):
        return F.conv2d(
            x, self.params[f"{name}/weights"], self.params[f"{name}/bias"], padding=padding)

    def upsample(self, x, name, factor, like):
        """Upsampling by `factor`; in "same" geometry to the size of `like`."""
        w = self.params[f"{name}/weights"]
        if self.geometry == "caffe":
            return F.conv_transpose2d(x, w, stride=factor)
        # All there is, then from factor / 2 on as much as `like` has.
        y = F.conv_transpose2d(x, w, stride=factor)
        first = factor // 2
        return y[:, :, first:first + like.shape[2], first:first + like.shape[3]]

    def trunk(self, x):
        pools = {}
        for count, block in CONVOLUTIONS:
            for i in range(1, count + 1):
                first_of_all = f"{block}_{i}" == "1_1"
                padding = 100 if first_of_all and self.geometry == "caffe" else 1
                x = self.convolution(x, f"conv{block}_{i}", padding)
                if self.batch_norm:
                    parts = (self.params[f"bn{block}_{i}/{part}"]
                             for part in ("running_mean", "running_var", "gamma", "beta"))
                    x = F.batch_norm(x, *parts, self.training, momentum=0.1, eps=1e-5)
                x = F.relu(x)
            x = pools[block] = F.max_pool2d(x, 2, 2, ceil_mode=True)
        return pools

    def classifier(self, x):
        # Ours flattens in h, w, c order.
        x = self.trunk(x)["5"].permute(0, 2, 3, 1).flatten(1)
        for name in "fc6", "fc7":
            x = F.relu(F.linear(x, self.params[f"{name}/weights"], self.params[f"{name}/bias"]))
        return F.linear(x, self.params["fc8/weights"], self.params["fc8/bias"])

    def __call__(self, x):
        if self.name == "vgg16":
            return self.classifier(x)
        caffe = self.geometry == "caffe"
        pools = self.trunk(x)
        y = F.relu(self.convolution(pools["5"], "fc6", 0 if caffe else 3))
        y = F.relu(self.convolution(y, "fc7"))
        y = self.convolution(y, "score_fr")
        pool4, pool3 = pools["4"], pools["3"]
        if self.name == "fcn8s-atonce":
            pool4, pool3 = 0.01 * pool4, 0.0001 * pool3
        if self.name != "fcn32s":
            y = self.skip(y, "upscore2", pool4, "score_pool4", 5)
        if self.name in ("fcn8s", "fcn8s-atonce"):
            y = self.skip(y, "upscore_pool4", pool3, "score_pool3", 9)
        last, factor, crop = {"fcn32s": ("upscore", 32, 19), "fcn16s": ("upscore16", 16, 27)}.get(
            self.name, ("upscore8", 8, 31))
        y = self.upsample(y, last, factor, x)
        if caffe:
            y = y[:, :, crop:crop + x.shape[2], crop:crop + x.shape[3]]
        return y

    def skip(self, y, upscore, pool, score, crop):
        y = self.upsample(y, upscore, 2, pool)
        s = self.convolution(pool, score)
        if self.geometry == "caffe":
            s = s[:, :, crop:crop + y.shape[2], crop:crop + y.shape[3]]
        return y + s


def axes(name, array):
    """Our axes in PyTorch's order: (kh, kw, in, out) to (out, in, kh, kw), or (in, out, kh, kw)."""
    if array.ndim == 2:
        return (1, 0)
    if array.ndim == 4:
        return (2, 3, 0, 1) if "upscore" in name else (3, 2, 0, 1)
    return (0,)


def tensor(name, array):
    return torch.from_numpy(np.array(array.transpose(axes(name, array)), order="C"))  # a copy


def images(x):
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def channels_last(y):
    y = y.detach().numpy()
    return y.transpose(0, 2, 3, 1) if y.ndim == 4 else y


def gradients(peer):
    """PyTorch's gradients with our axes."""
    return {
        name: p.grad.numpy().transpose(np.argsort(axes(name, p)))
        for name, p in peer.params.items() if p.grad is not None}


def assert_close(actual, expected, tolerance, what=""):
    assert actual.shape == expected.shape and actual.dtype == expected.dtype, what
    largest = np.abs(expected).max()
    assert largest > 0, f"{what} is zero"
    difference = np.abs(actual - expected).max()
    assert difference <= tolerance * largest, f"{what}: {difference / largest:.2g}"


def photos(shape, dtype, seed=1):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def compare(net, x, dtype, no_effect=()):
    """Compare scores and all gradients in training mode; biases in `no_effect` have none."""
    peer = Net(net, training=True)
    data = images(x).requires_grad_()
    y, expected = net.forward(x, keep=True), peer(data)
    assert_close(y, channels_last(expected), SCORES[dtype], "scores")
    gy = photos(y.shape, dtype, seed=2)
    gx = net.backward(gy)
    expected.backward(images(gy) if gy.ndim == 4 else torch.from_numpy(gy))
    assert_close(gx, channels_last(data.grad), GRADIENTS[dtype], "x")
    theirs = gradients(peer)
    assert set(net.grads) == set(net.params) - net.fixed
    for name, g in net.grads.items():
        if name in no_effect:
            scale = np.abs(net.grads[name.replace("bias", "weights")]).max()
            assert np.abs(g).max() <= GRADIENTS[dtype] * scale, name
            assert np.abs(theirs[name]).max() <= GRADIENTS[dtype] * scale, name
        else:
            assert_close(g, theirs[name], GRADIENTS[dtype], name)
    return peer


@pytest.mark.parametrize("dtype", SCORES)
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("name", FCNS)
def test_fcn(name, geometry, dtype, randomize):
    net = randomize(models.BY_NAME[name](
        geometry=geometry, upsampling="learned", dtype=dtype, **SMALL))
    compare(net, photos((2, 33, 50, 3), dtype), dtype)


@pytest.mark.parametrize("dtype", SCORES)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_larger_odd_size(geometry, dtype, randomize):
    net = randomize(models.FCN8s(geometry=geometry, dtype=dtype, **SMALL), seed=3)
    compare(net, photos((1, 97, 131, 3), dtype), dtype)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (31, 65)])
@pytest.mark.parametrize("name", FCNS)
def test_small_sizes(name, size, randomize):
    net = randomize(models.BY_NAME[name](upsampling="learned", dtype="float64", **SMALL))
    x = photos((2, *size, 3), "float64")
    peer = Net(net)
    assert_close(net.forward(x), channels_last(peer(images(x))), 1e-10)


@pytest.mark.parametrize("dtype", SCORES)
@pytest.mark.parametrize("input_size", [32, 71])
def test_vgg16(input_size, dtype, randomize):
    net = randomize(models.VGG16(input_size=input_size, dtype=dtype, **SMALL))
    compare(net, photos((2, input_size, input_size, 3), dtype), dtype)


@pytest.mark.parametrize("name", ["vgg16", "fcn8s"])
@pytest.mark.parametrize("dtype", SCORES)
def test_batch_norm(name, dtype, randomize):
    options = {"input_size": 64} if name == "vgg16" else {"upsampling": "learned"}
    net = randomize(models.BY_NAME[name](batch_norm=True, dtype=dtype, **SMALL, **options))
    x = photos((3, 64, 64, 3), dtype)
    peer = Net(net)
    assert_close(net.forward(x), channels_last(peer(images(x))), SCORES[dtype], "inference")
    biases = {key for key in net.params if key.startswith("conv") and key.endswith("/bias")}
    peer = compare(net, x, dtype, no_effect=biases)
    moved = [key for key in net.params if "running" in key]
    assert len(moved) == 26
    for key in moved:
        assert_close(net.params[key], peer.params[key].numpy(), SCORES[dtype], key)


@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("weights", [None, (1.5, 1, 0.25, 3, 2)])
def test_loss(average, weights):
    scores = 3 * photos((2, 7, 9, 5), "float64")
    labels = np.random.default_rng(0).integers(0, 6, (2, 7, 9))
    labels[labels == 5] = 255
    theirs = images(scores).requires_grad_()
    expected = F.cross_entropy(
        theirs, torch.from_numpy(labels), ignore_index=255, reduction="mean" if average else "sum",
        weight=None if weights is None else torch.tensor(weights, dtype=torch.float64))
    expected.backward()
    loss, gscores = softmax_loss(scores, labels.astype(np.uint8), 255, weights, average)
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    assert_close(gscores, channels_last(theirs.grad), 1e-12)


@pytest.mark.parametrize("name, geometry, batch_norm, upsampling", [
    ("fcn32s", "caffe", False, "fixed"), ("fcn8s", "same", True, "learned")])
def test_three_steps_of_sgd(name, geometry, batch_norm, upsampling, randomize):
    net = randomize(models.BY_NAME[name](
        geometry=geometry, batch_norm=batch_norm, upsampling=upsampling, dtype="float64", **SMALL))
    start = {key: w.copy() for key, w in net.params.items()}
    peer = Net(net, training=True)
    velocity = {key: torch.zeros_like(p) for key, p in peer.params.items()}
    rate, momentum, decay, bias_rate = 0.01, 0.9, 5e-4, 2.0
    optimizer = SGD(net, momentum=momentum, decay=decay, bias_rate=bias_rate)
    labels = np.random.default_rng(0).integers(0, 6, (2, 40, 33)).astype(np.uint8)  # 5 is ignored
    for step in range(3):
        x = photos((2, 40, 33, 3), "float64", seed=10 + step)
        loss, gscores = softmax_loss(net.forward(x, keep=True), labels, 5)
        net.backward(gscores, input_gradient=False)
        optimizer.step(rate)

        expected = F.cross_entropy(
            peer(images(x)), torch.from_numpy(labels.astype(np.int64)), ignore_index=5)
        expected.backward()
        assert loss == pytest.approx(expected.item(), rel=1e-9)
        with torch.no_grad():
            # Caffe's SGDSolver: V = momentum V + rate (gradient + decay W), W = W - V, where biases
            # have twice the rate and no decay.
            for key, p in peer.params.items():
                if "running" in key or key in net.fixed:
                    continue
                is_weights, is_bias = key.endswith("/weights"), key.endswith("/bias")
                velocity[key] = momentum * velocity[key] + rate * (bias_rate if is_bias else 1) * (
                    p.grad + (decay if is_weights else 0) * p)
                p -= velocity[key]
            for p in peer.params.values():
                p.grad = None
    for key, w in net.params.items():
        theirs = peer.params[key].detach().numpy()
        theirs = theirs.transpose(np.argsort(axes(key, theirs)))
        np.testing.assert_allclose(w, theirs, rtol=0, atol=1e-9 * np.abs(theirs).max(), err_msg=key)
        if not (batch_norm and key.startswith("conv") and key.endswith("/bias")):  # no effect
            stays = "upscore" in key and upsampling == "fixed"
            assert np.array_equal(w, start[key]) == stays, key


def test_full_width(randomize):
    net = randomize(models.FCN8s(init=None))
    x = photos((1, 64, 48, 3), "float32")
    with torch.no_grad():
        expected = channels_last(Net(net)(images(x)))
    assert expected.shape == (1, 64, 48, 21)
    assert_close(net.forward(x), expected, 1e-4)
