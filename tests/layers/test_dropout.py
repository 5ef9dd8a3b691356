"""The dropout layer."""
import numpy as np
import pytest

from tinyfcn.kernels import naive
from tinyfcn.layers import Dropout

ONES = np.ones((1, 50, 40, 8), np.float32)


def test_inference_passes_through():
    np.testing.assert_array_equal(Dropout(0.9).forward(ONES), ONES)


@pytest.mark.parametrize("rate", [0, 0.25, 0.5, 0.8])
def test_training_drops_the_share_and_scales_up_the_rest(rate):
    y = Dropout(rate, seed=5).forward(ONES, keep=True)
    assert set(np.unique(y)) <= {0, np.float32(1 / (1 - rate))}
    # 16,000 draws: six standard deviations are 0.024 at most.
    assert abs((y == 0).mean() - rate) < 0.024


def test_mask_is_that_of_the_plain_loops():
    x = np.arange(1, 61, dtype=np.float64).reshape(1, 3, 4, 5)
    layer = Dropout(0.5, seed=3)
    layer.forward(x, keep=True)
    second = layer.forward(x, keep=True)
    np.testing.assert_array_equal(second, naive.dropout(x, 0.5, 3 * 2**32 + 1))


def test_backward_has_the_mask_of_forward():
    layer = Dropout(0.5)
    y = layer.forward(ONES, keep=True)
    np.testing.assert_array_equal(layer.backward(ONES), y)


def test_each_forward_draws_another_mask_and_reseed_begins_anew():
    layer = Dropout(0.5, seed=1)
    first, second = (layer.forward(ONES, keep=True) for _ in range(2))
    assert 0.4 < (first == second).mean() < 0.6
    layer.reseed(1)
    np.testing.assert_array_equal(layer.forward(ONES, keep=True), first)
    np.testing.assert_array_equal(layer.forward(ONES, keep=True), second)
    layer.reseed(2)
    assert 0.4 < (layer.forward(ONES, keep=True) == first).mean() < 0.6


def test_inference_draws_no_mask():
    layer = Dropout(0.5, seed=1)
    first = layer.forward(ONES, keep=True)
    layer.reseed(1)
    layer.forward(ONES)
    np.testing.assert_array_equal(layer.forward(ONES, keep=True), first)


@pytest.mark.parametrize("rate", [1, -0.1, 1.5])
def test_a_rate_outside_zero_to_one_is_refused(rate):
    with pytest.raises(ValueError, match="rate"):
        Dropout(rate).forward(ONES, keep=True)


def test_gradients(rng, assert_gradients):
    x = rng.standard_normal((2, 4, 5, 6))
    assert assert_gradients(Dropout(0.4), x, linear=True) == ["x", "dot test, x"]
