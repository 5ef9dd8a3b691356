"""Whole nets on a GPU against the CPU, in all that a user does with them.

Not collected by itself: `test_simulator.py` runs it in Numba's simulator, `gpu.sh` on a GPU.
"""
import copy
import json

import numpy as np
import pytest
from PIL import Image

from tinyfcn import (
    arrays,
    classification,
    evaluate,
    gradcheck,
    graph,
    inference,
    layers,
    loading,
    losses,
    models,
    optimizers,
    segment,
    train,
)

pytestmark = pytest.mark.filterwarnings(
    "error::numba.core.errors.NumbaPerformanceWarning",
    "ignore:overflow encountered:RuntimeWarning")  # splitmix64 in the simulator

SIZE = (4, 5)


def make_net(name, **options):
    small = {"width": 1 / 32, "fc_channels": 6, "classes": 3, "init": "scratch", "seed": 3}
    net = models.BY_NAME[name](**small | options)
    rng = np.random.default_rng(2)
    for key, w in net.params.items():
        if key.endswith(("/bias", "/beta")):
            w[...] = rng.normal(0, 0.2, w.shape)
    net.class_names, net.colours = ["a", "b", "c"], [[0, 0, 0], [9, 9, 9], [0, 0, 99]]
    return net


def one_step(net, x, labels):
    """Scores, loss and gradients of a training step, and the parameters after it."""
    net.reseed(1)
    optimizer = optimizers.SGD(net)
    scores = net.forward(arrays.to_device(x, net.device), keep=True)
    loss, gscores = losses.softmax_loss(scores, labels, 255)
    net.backward(gscores, input_gradient=False)
    grads = {name: arrays.to_host(g) for name, g in net.grads.items()}
    optimizer.step(0.1)
    params = {name: arrays.to_host(w).copy() for name, w in net.params.items()}
    return arrays.to_host(scores), float(loss), grads, params


def close(actual, expected, what):
    scale = max(1e-6, float(np.abs(expected).max()))
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-3 * scale, err_msg=what)


@pytest.mark.parametrize("name, options", [
    ("fcn32s", {}), ("fcn16s", {}), ("fcn8s", {}),
])
def test_a_training_step_is_that_of_the_cpu(name, options, device, rng):
    x = rng.standard_normal((1, *SIZE, 3), np.float32)
    labels = rng.integers(0, 3, (1, *SIZE)).astype(np.uint8)
    labels[:, 0] = 255
    expected = one_step(make_net(name, **options), x, labels)
    actual = one_step(make_net(name, **options).to(device), x, labels)
    close(actual[0], expected[0], "scores")
    assert actual[1] == pytest.approx(expected[1], rel=1e-4)
    for index in (2, 3):
        assert actual[index].keys() == expected[index].keys()
        for key, array in expected[index].items():
            close(actual[index][key], array, key)


def test_batch_norm_moves_its_averages_as_on_the_cpu(device, rng):
    x, gy = rng.standard_normal((2, 2, 3, 4, 5), np.float32)
    here, there = layers.BatchNorm(5), layers.BatchNorm(5)
    there.to(device)
    close(arrays.to_host(there.forward(arrays.to_device(x, device), keep=True)),
          here.forward(x, keep=True), "y")
    close(arrays.to_host(there.backward(arrays.to_device(gy, device))), here.backward(gy), "gx")
    for name, w in here.params.items():
        close(arrays.to_host(there.params[name]), w, name)
    for name, g in here.grads.items():
        close(arrays.to_host(there.grads[name]), g, name)


def test_upsampling_is_learned_as_on_the_cpu(device, rng):
    x = rng.standard_normal((1, 2, 3, 3), np.float32)
    gy = rng.standard_normal((1, 4, 5, 3), np.float32)
    here = layers.TransposedConvolution(3, 4, 2, padding=1, fixed=False)
    there = layers.TransposedConvolution(3, 4, 2, padding=1, fixed=False)
    there.to(device)
    y = there.forward(arrays.to_device(x, device), keep=True, size=(4, 5))
    close(arrays.to_host(y), here.forward(x, keep=True, size=(4, 5)), "y")
    close(arrays.to_host(there.backward(arrays.to_device(gy, device))), here.backward(gy), "gx")
    close(arrays.to_host(there.grads["weights"]), here.grads["weights"], "gw")


@pytest.mark.parametrize("separable", [True, False])
def test_fixed_upsampling_is_that_of_the_cpu(separable, device, rng, monkeypatch):
    """Interpolation where the filter allows it; which is looked at once, as a look stops a GPU."""
    from tinyfcn.kernels import cuda
    from tinyfcn.layers import transposed_convolution

    looked, done = [], []

    def note(module, name, notes):
        called = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, **options:
                            (notes.append(name), called(*args, **options))[1])

    here = layers.TransposedConvolution(3, 4, 2, padding=1)
    if not separable:
        here.params["weights"][0, 0, 0, 1] = 1
    there = copy.deepcopy(here)
    there.to(device)
    note(transposed_convolution, "to_host", looked)
    for name in "interpolate", "interpolate_backward", "transposed_convolution_forward", \
            "transposed_convolution_backward_input":
        note(cuda, name, done)
    for _ in range(2):
        x = rng.standard_normal((1, 2, 3, 3), np.float32)
        gy = rng.standard_normal((1, 4, 5, 3), np.float32)
        looked.clear()
        y = there.forward(arrays.to_device(x, device), keep=True, size=(4, 5))
        gx = there.backward(arrays.to_device(gy, device))
        times = len(looked)
        close(arrays.to_host(y), here.forward(x, keep=True, size=(4, 5)), "y")
        close(arrays.to_host(gx), here.backward(gy), "gx")
    assert times == 0
    assert there.grads == {}
    wanted = ["interpolate", "interpolate_backward"] if separable else [
        "transposed_convolution_forward", "transposed_convolution_backward_input"]
    assert done == 2 * wanted
    # Other weights, as a running average's, are looked at anew.
    there.params["weights"] = arrays.to_device(np.zeros((4, 4, 3, 3), np.float32), device)
    y = there.forward(arrays.to_device(x, device), size=(4, 5))
    assert not arrays.to_host(y).any()


def test_a_prepared_net_gives_the_scores_of_the_net(device, rng):
    net = make_net("fcn8s", batch_norm=True)
    x = rng.standard_normal((1, *SIZE, 3), np.float32)
    expected = net.forward(x)
    prepared = models.prepare(net.to(device))
    assert prepared.device == device
    for _ in range(2):
        close(arrays.to_host(prepared.forward(arrays.to_device(x, device))), expected, "scores")
    with pytest.raises(RuntimeError, match="stays on its device"):
        prepared.to("cpu")


def test_a_net_goes_and_comes_back(device, tmp_path):
    net = make_net("fcn32s")
    before = {name: w.copy() for name, w in net.params.items()}
    net.to(device)
    assert net.device == device
    loading.save_model(net, tmp_path / "net.h5")
    loading.load_weights(net, tmp_path / "net.h5")
    assert net.device == device
    net.to("cpu")
    for name, w in net.params.items():
        np.testing.assert_array_equal(w, before[name])
    loaded = loading.load_model(tmp_path / "net.h5")
    np.testing.assert_array_equal(loaded.params["fc6/weights"], before["fc6/weights"])


def test_a_photo_is_segmented_as_on_the_cpu(device, rng):
    photo = rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    net = make_net("fcn16s")
    expected = inference.segment(net, photo)
    actual = inference.segment(net.to(device), photo)
    assert isinstance(actual.labels, np.ndarray)
    assert (actual.labels == expected.labels).mean() > 0.98
    np.testing.assert_allclose(actual.confidence, expected.confidence, atol=1e-3)


def test_a_photo_is_classified_as_on_the_cpu(device, rng):
    net = graph.Graph("vgg16", {"input_size": 3, "in_channels": 3, "classes": 2})
    net.preprocessing = {
        "channel_order": "RGB", "scale": 1 / 128, "mean": [0.0] * 3, "std": [1.0] * 3}
    net.add("conv1", layers.Convolution(3, 2, 1))
    net.add("fc6", layers.Linear(18, 2))
    for w in net.params.values():
        w[...] = rng.standard_normal(w.shape)
    photo = rng.integers(0, 256, (4, 5, 3)).astype(np.uint8)
    here = classification.Classifier(net)
    expected = here.classify(photo), here.heat_map(photo, 1)
    there = classification.Classifier(net.to(device))
    for actual, wanted in zip((there.classify(photo), there.heat_map(photo, 1)), expected):
        assert isinstance(actual, np.ndarray)
        np.testing.assert_allclose(actual, wanted, atol=1e-5)


def test_commands_run_on_the_gpu(device, data_set, tmp_path, capsys):
    root = data_set(train=2, val=1, size=SIZE)
    run = tmp_path / "run"
    code = train.main([
        "--data", str(root), "-o", str(run), "--epochs", "1", "--batch", "1", "--crop", "4", "4",
        "--width", "0.02", "--fc-channels", "4", "--device", "cuda"])
    out, err = capsys.readouterr()
    assert code == 0, err
    assert f"device {device}" in err
    assert "epoch 1" in out
    best = str(run / "best.h5")
    photo = str(root / "images/val/0.png")
    labels = {}
    for name in "cpu", "cuda":
        folder = tmp_path / name
        assert segment.main([photo, "--weights", best, "-o", str(folder), "--device", name]) == 0
        labels[name] = np.asarray(Image.open(folder / "0_labels.png"))
    assert (labels["cpu"] == labels["cuda"]).mean() > 0.98
    capsys.readouterr()
    assert evaluate.main(["--data", str(root), "--weights", best, "--device", device,
                          "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 1


@pytest.mark.parametrize("layer", ["BatchNorm", "MaxPooling", "Dropout", "softmax_loss"])
def test_gradients_are_checked_on_the_gpu(layer, device, capsys):
    assert gradcheck.main(["--layer", layer, "--device", "cuda"]) == 0
    out, _ = capsys.readouterr()
    assert "gradients agree with the CPU's" in out
    assert "1e-03" in out


def test_a_wrong_gradient_of_the_gpu_is_found(device, monkeypatch, capsys):
    from tinyfcn.kernels import cuda

    right = cuda.relu_backward
    monkeypatch.setattr(cuda, "relu_backward", lambda gy, y: cuda.scale(right(gy, y), 1.01))
    assert gradcheck.main(["--layer", "ReLU", "--device", "cuda"]) == 1
    assert "WRONG at (" in capsys.readouterr().out


def test_a_gpu_that_is_not_there_is_one_line(device, capsys):
    assert gradcheck.main(["--layer", "ReLU", "--device", "cuda:63"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "--device cuda:63: there is no cuda:63: there" in err
