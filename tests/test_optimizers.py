"""Steps of SGD against literal numbers."""
import types

import numpy as np
import pytest

from tinyfcn import models
from tinyfcn.optimizers import SGD, AdamW, RunningAverage, poly_rate


def small_net(**params):
    """Stands for a net: what an optimizer looks at."""
    arrays = {name.replace("__", "/"): np.array(value, np.float64)
              for name, value in params.items()}
    return types.SimpleNamespace(params=arrays, grads={}, fixed=set())


def test_two_steps_of_weights():
    net = small_net(conv__weights=[1.0, -2.0])
    optimizer = SGD(net, momentum=0.5, decay=0.1)
    net.grads["conv/weights"] = np.array([0.5, 1.0])
    optimizer.step(0.2)
    # v = 0.2 (g + 0.1 w)
    np.testing.assert_allclose(optimizer.state["velocity/conv/weights"], [0.12, 0.16], rtol=1e-14)
    np.testing.assert_allclose(net.params["conv/weights"], [0.88, -2.16], rtol=1e-14)
    net.grads["conv/weights"] = np.array([0.0, -1.0])
    optimizer.step(0.1)
    # v = 0.5 v + 0.1 (g + 0.1 w)
    np.testing.assert_allclose(optimizer.state["velocity/conv/weights"],
                               [0.06 + 0.0088, 0.08 - 0.1 - 0.0216], rtol=1e-14)
    np.testing.assert_allclose(net.params["conv/weights"], [0.8112, -2.1184], rtol=1e-14)


@pytest.mark.parametrize("name", ["conv/bias", "bn/gamma", "bn/beta"])
def test_only_weights_decay(name):
    net = small_net()
    net.params[name] = np.array([4.0])
    optimizer = SGD(net, momentum=0.9, decay=0.25)
    net.grads[name] = np.array([0.0])
    optimizer.step(1.0)
    assert net.params[name] == 4.0
    net.grads[name] = np.array([0.5])
    optimizer.step(1.0)
    assert net.params[name] == 3.5


def test_rate_of_biases():
    net = small_net(conv__bias=[1.0], conv__weights=[1.0], bn__beta=[1.0])
    optimizer = SGD(net, momentum=0, decay=0, bias_rate=2)
    net.grads = {name: np.array([1.0]) for name in net.params}
    optimizer.step(0.125)
    assert {name: w[0] for name, w in net.params.items()} == {
        "conv/bias": 0.75, "conv/weights": 0.875, "bn/beta": 0.875}


@pytest.mark.parametrize("upsampling, moves", [("fixed", False), ("learned", True)])
def test_fixed_parameters_are_left_alone(upsampling, moves):
    net = models.FCN32s(classes=2, width=1 / 32, fc_channels=4, batch_norm=True,
                        upsampling=upsampling, init="scratch")
    optimizer = SGD(net, decay=0.5)
    net.layers["conv1_1"].grads = {}
    for layer in net.layers.values():
        layer.grads = {name: np.ones_like(w) for name, w in layer.params.items()}
    before = {name: w.copy() for name, w in net.params.items()}
    optimizer.step(0.5)
    moved = {name for name, w in net.params.items() if not np.array_equal(w, before[name])}
    still = {name for name in before if "running" in name}
    if not moves:
        still.add("upscore/weights")
    assert still and moved == set(before) - still
    assert set(optimizer.state) == {f"velocity/{name}" for name in moved}


def test_velocity_is_of_the_dtype_of_its_parameter():
    net = small_net(conv__weights=[1.0])
    net.params["conv/weights"] = np.ones(3, np.float32)
    velocity = SGD(net).state["velocity/conv/weights"]
    assert velocity.dtype == np.float32 and velocity.tolist() == [0, 0, 0]


def test_nesterov_looks_ahead():
    net = small_net(conv__weights=[1.0])
    optimizer = SGD(net, momentum=0.5, decay=0, nesterov=True)
    net.grads["conv/weights"] = np.array([1.0])
    optimizer.step(0.25)  # v = 0.25, w -= 0.5 v + 0.25
    assert net.params["conv/weights"] == 0.625
    optimizer.step(0.25)  # v = 0.375, w -= 0.1875 + 0.25
    assert net.params["conv/weights"] == 0.1875


def test_two_steps_of_adam():
    net = small_net(conv__weights=[1.0], conv__bias=[1.0])
    optimizer = AdamW(net, decay=0.5, bias_rate=2, betas=(0.5, 0.75), eps=0)
    net.grads = {"conv/weights": np.array([3.0]), "conv/bias": np.array([-3.0])}
    optimizer.step(0.1)
    # The first step is the rate's, whatever the gradient; then 0.1 * 0.5 of the weight is gone.
    np.testing.assert_allclose(net.params["conv/weights"], [1 - 0.1 - 0.05], rtol=1e-14)
    np.testing.assert_allclose(net.params["conv/bias"], [1 + 0.2], rtol=1e-14)
    net.grads = {"conv/weights": np.array([1.0]), "conv/bias": np.array([-3.0])}
    optimizer.step(0.1)
    # m = 0.5 * 1.5 + 0.5, m' = m / 0.75; v = 0.75 * 2.25 + 0.25, v' = v / 0.4375
    expected = 0.85 - 0.1 * ((1.25 / 0.75) / np.sqrt(1.9375 / 0.4375) + 0.5 * 0.85)
    np.testing.assert_allclose(net.params["conv/weights"], [expected], rtol=1e-14)
    np.testing.assert_allclose(net.params["conv/bias"], [1.4], rtol=1e-14)
    assert set(optimizer.state) == {"mean/conv/weights", "square/conv/weights",
                                    "mean/conv/bias", "square/conv/bias"}


def test_running_average():
    net = models.FCN32s(classes=2, width=1 / 32, fc_channels=4, batch_norm=True, init="scratch")
    average = RunningAverage(net, keep=0.25)
    before = {name: w.copy() for name, w in net.params.items()}
    for w in net.params.values():
        w += 8
    average.step()  # moves by 9 / 10
    average.step()  # by 9 / 11, since 2 / 11 < 0.25
    now = {name: w.copy() for name, w in net.params.items()}
    average.exchange()
    for name, w in net.params.items():
        expected = before[name] + 8 * (1 - 0.1 * 2 / 11)
        np.testing.assert_allclose(w, expected, rtol=1e-6)
    average.exchange()
    for name, w in net.params.items():
        assert w.tobytes() == now[name].tobytes()


@pytest.mark.parametrize("step, expected", [
    (0, 0.25), (1, 0.5), (2, 0.75), (3, 1.0),       # the rise
    (4, 1.0),                                       # the whole way is before it
    (9, 0.5 ** 0.9),
    (13, 0.1 ** 0.9),
    (14, 0.0), (15, 0.0), (1000, 0.0),
])
def test_poly_rate(step, expected):
    assert poly_rate(step, 14, 1.0, warm_up=4) == pytest.approx(expected, rel=1e-12)
    assert poly_rate(step, 14, 0.02, warm_up=4) == pytest.approx(0.02 * expected, rel=1e-12)


def test_poly_rate_of_another_power_without_a_rise():
    assert [poly_rate(step, 4, 8.0, power=2) for step in range(5)] == [8, 4.5, 2, 0.5, 0]


def test_poly_rate_with_a_rise_longer_than_the_training():
    assert poly_rate(4, 5, 1.0, warm_up=10) == pytest.approx(0.5)
