"""The rectifier layer."""
import numpy as np

from tinyfcn.layers import ReLU


def test_forward_and_backward_by_hand():
    layer = ReLU()
    x = np.array([-2, -0.0, 0, 1e-30, 3]).reshape(1, 1, 5, 1)
    np.testing.assert_array_equal(layer.forward(x, keep=True).ravel(), [0, 0, 0, 1e-30, 3])
    gy = np.array([1.0, 2, 3, 4, 5]).reshape(x.shape)
    np.testing.assert_array_equal(layer.backward(gy).ravel(), [0, 0, 0, 4, 5])


def test_nan_is_not_hidden():
    assert np.isnan(ReLU().forward(np.array([[[[np.nan]]]]))).all()


def test_gradients(rng, assert_gradients):
    assert assert_gradients(ReLU(), rng.standard_normal((2, 3, 4, 5))) == ["x"]
