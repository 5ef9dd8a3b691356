"""The batch normalization layer."""
import numpy as np
import pytest

from tinyfcn.kernels import naive
from tinyfcn.layers import BatchNorm


def test_forward_in_training_by_hand():
    # One channel, 1 3 5 7: mean 4, biased variance 5, unbiased 20/3.
    layer = BatchNorm(1, momentum=0.1, eps=0.0, dtype=np.float64)
    layer.params["gamma"][:] = 10
    layer.params["beta"][:] = -1
    y = layer.forward(np.array([1.0, 3, 5, 7]).reshape(2, 1, 2, 1), keep=True)
    root = np.sqrt(5)
    np.testing.assert_allclose(
        y.ravel(), [-30 / root - 1, -10 / root - 1, 10 / root - 1, 30 / root - 1], rtol=1e-14)
    np.testing.assert_allclose(layer.params["running_mean"], [0.4], rtol=1e-14)
    np.testing.assert_allclose(layer.params["running_var"], [0.9 + 2 / 3], rtol=1e-14)


def test_forward_in_inference_uses_the_running_averages(rng):
    layer = BatchNorm(3, dtype=np.float64)
    for w in layer.params.values():
        w[...] = rng.uniform(0.5, 2, 3)
    x = rng.standard_normal((2, 3, 4, 3))
    expected = naive.batch_norm_forward(
        x, layer.params["running_mean"], layer.params["running_var"], layer.params["gamma"],
        layer.params["beta"], 1e-5)
    before = {key: w.copy() for key, w in layer.params.items()}
    np.testing.assert_allclose(layer.forward(x), expected, rtol=1e-12)
    for key, w in before.items():
        np.testing.assert_array_equal(layer.params[key], w)


def test_running_averages_converge_to_the_data(rng):
    layer = BatchNorm(2, dtype=np.float64)
    x = rng.standard_normal((4, 8, 8, 2)) * [3, 0.5] + [7, -2]
    for _ in range(200):
        layer.forward(x, keep=True)
    np.testing.assert_allclose(layer.params["running_mean"], x.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(layer.params["running_var"], x.var((0, 1, 2), ddof=1), rtol=1e-6)
    assert layer.params["running_mean"].dtype == np.float64


def test_running_averages_stay_float32(rng):
    layer = BatchNorm(2)
    layer.forward(rng.standard_normal((1, 2, 2, 2), np.float32), keep=True)
    assert {w.dtype for w in layer.params.values()} == {np.dtype(np.float32)}


def test_one_pixel(rng):
    layer = BatchNorm(3)
    y = layer.forward(np.ones((1, 1, 1, 3), np.float32), keep=True)
    np.testing.assert_array_equal(y, 0)
    np.testing.assert_allclose(layer.params["running_var"], 0.9, rtol=1e-6)


def test_names():
    layer = BatchNorm(3)
    assert list(layer.params) == ["gamma", "beta", "running_mean", "running_var"]
    assert layer.fixed == {"running_mean", "running_var"}


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (5, 1, 1, 9)])
def test_gradients(rng, fill, assert_gradients, shape):
    layer = fill(BatchNorm(shape[3], dtype=np.float64))
    x = rng.standard_normal(shape) + 3
    assert assert_gradients(layer, x) == ["x", "gamma", "beta"]


@pytest.mark.parametrize("relu", [False, True])
def test_frozen_it_normalizes_by_its_running_averages_in_training_too(rng, relu):
    layer = BatchNorm(3, dtype=np.float64)
    for w in layer.params.values():
        w[...] = rng.uniform(0.5, 2, 3)
    before = {key: w.copy() for key, w in layer.params.items()}
    layer.fixed = frozenset(layer.params)
    x, gy = rng.standard_normal((2, 2, 3, 4, 3))
    y = layer.forward(x, keep=True, relu=relu)
    np.testing.assert_array_equal(y, layer.forward(x, relu=relu))
    # Without the ReLU it is linear in x: its gradient is the slope of each channel.
    slope = layer.forward(x + 1) - layer.forward(x)
    np.testing.assert_allclose(layer.backward(gy), gy * slope * (y > 0 if relu else 1), rtol=1e-9)
    assert layer.grads == {}
    for key, w in before.items():
        np.testing.assert_array_equal(layer.params[key], w)
