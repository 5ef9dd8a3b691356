"""The layer that joins two branches."""
import numpy as np

from tinyfcn.layers import Add


def test_forward():
    a = np.array([1, 2, 3, 4.5]).reshape(1, 2, 2, 1)
    b = np.array([10, -2, 0, 0.25]).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(Add().forward(a, b).ravel(), [11, 0, 3, 4.75])


def test_both_branches_get_the_gradient():
    gy = np.arange(6.0).reshape(1, 1, 2, 3)
    ga, gb = Add().backward(gy)
    np.testing.assert_array_equal(ga, gy)
    np.testing.assert_array_equal(gb, gy)


def test_gradients(rng, assert_gradients):
    a, b = rng.standard_normal((2, 2, 3, 4, 5))
    assert assert_gradients(Add(), a, b, linear=True) == ["x1", "x2", "dot test, x"]
