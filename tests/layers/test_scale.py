"""The layer that multiplies by a fixed number."""
import numpy as np

from tinyfcn.layers import Scale


def test_forward_and_backward_by_hand():
    x = np.array([1.0, -2, 0.5]).reshape(1, 1, 1, 3)
    np.testing.assert_array_equal(Scale(4).forward(x).ravel(), [4, -8, 2])
    np.testing.assert_array_equal(Scale(0.5).backward(x).ravel(), [0.5, -1, 0.25])


def test_type_stays():
    assert Scale(0.01).forward(np.ones((1, 1, 1, 1), np.float32)).dtype == np.float32


def test_the_factor_is_no_parameter():
    assert Scale(0.01).params == {}


def test_gradients(rng, assert_gradients):
    x = rng.standard_normal((2, 3, 4, 5))
    assert assert_gradients(Scale(0.01), x, linear=True) == ["x", "dot test, x"]
