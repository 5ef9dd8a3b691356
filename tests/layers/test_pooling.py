"""The max-pooling layer."""
import numpy as np
import pytest

from tinyfcn.kernels import naive
from tinyfcn.layers import MaxPooling

CASES = [
    (2, 2, 0, True), (2, 2, 0, False), (3, 2, 1, True), (3, 2, 1, False), ((2, 3), (1, 2), 0, True),
]


def test_forward_by_hand():
    x = np.array([[1, 2, 3], [4, 5, 6], [9, 8, 7.0]]).reshape(1, 3, 3, 1)
    np.testing.assert_array_equal(
        MaxPooling(2, 2).forward(x)[0, :, :, 0], [[5, 6], [9, 7]])
    np.testing.assert_array_equal(MaxPooling(2, 2, ceil=False).forward(x).ravel(), [5])
    np.testing.assert_array_equal(
        MaxPooling(2, 1, padding=1).forward(x)[0, :, :, 0],
        [[1, 2, 3, 3], [4, 5, 6, 6], [9, 9, 8, 7], [9, 9, 8, 7]])


@pytest.mark.parametrize("kernel, stride, padding, ceil", CASES)
def test_forward_is_the_same_in_training_and_inference(rng, kernel, stride, padding, ceil):
    x = rng.standard_normal((2, 6, 7, 3))
    layer = MaxPooling(kernel, stride, padding, ceil)
    pairs = [value if isinstance(value, tuple) else (value, value)
             for value in (kernel, stride, padding)]
    expected, _ = naive.max_pooling_forward(x, *pairs, ceil)
    np.testing.assert_array_equal(layer.forward(x), expected)
    np.testing.assert_array_equal(layer.forward(x, keep=True), expected)


def test_gradient_goes_to_the_first_maximum():
    layer = MaxPooling(2, 2)
    layer.forward(np.zeros((1, 3, 3, 1)), keep=True)
    gx = layer.backward(np.array([1.0, 2, 3, 4]).reshape(1, 2, 2, 1))
    np.testing.assert_array_equal(gx[0, :, :, 0], [[1, 0, 2], [0, 0, 0], [3, 0, 4]])


@pytest.mark.parametrize("kernel, stride, padding, ceil", CASES)
def test_gradients(rng, assert_gradients, kernel, stride, padding, ceil):
    x = rng.standard_normal((2, 6, 7, 3))
    assert assert_gradients(MaxPooling(kernel, stride, padding, ceil), x) == ["x"]
