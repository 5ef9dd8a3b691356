"""The crop layer."""
import numpy as np
import pytest

from tinyfcn.layers import Crop

X = np.arange(20.0).reshape(1, 4, 5, 1)


def test_forward_starts_at_the_offset_and_takes_the_size():
    y = Crop((1, 2)).forward(X, size=(2, 3))
    np.testing.assert_array_equal(y[0, :, :, 0], [[7, 8, 9], [12, 13, 14]])
    y = Crop(2).forward(X, size=(1, 2))
    np.testing.assert_array_equal(y[0, :, :, 0], [[12, 13]])


def test_backward_pads_with_zeros():
    layer = Crop((2, 1))
    y = layer.forward(X, keep=True, size=(1, 2))
    np.testing.assert_array_equal(layer.backward(y)[0, :, :, 0], [
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 11, 12, 0, 0],
        [0, 0, 0, 0, 0]])


@pytest.mark.parametrize("size", [(3, 1), (1, 4), (0, 1)])
def test_a_crop_that_reaches_outside_is_refused(size):
    with pytest.raises(ValueError, match=r"crop: .* at offset \(2, 2\) reaches outside \(4, 5\)"):
        Crop(2).forward(X, size=size)


def test_gradients(rng, assert_gradients):
    x = rng.standard_normal((2, 6, 7, 3))
    assert assert_gradients(Crop((1, 3)), x, linear=True, size=(4, 2)) == ["x", "dot test, x"]
