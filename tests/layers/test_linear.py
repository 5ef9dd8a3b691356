"""The fully connected layer."""
import numpy as np
import pytest

from tinyfcn.layers import Convolution, Linear


def test_forward_flattens_in_h_w_c_order():
    layer = Linear(8, 2, dtype=np.float64)
    layer.params["weights"][:, 0] = [1, 10, 100, 1000, 1e4, 1e5, 1e6, 1e7]
    layer.params["weights"][:, 1] = -1
    layer.params["bias"][:] = [0.5, 40]
    x = np.empty((1, 2, 2, 2))
    x[0, 0, 0], x[0, 0, 1], x[0, 1, 0], x[0, 1, 1] = [1, 2], [3, 4], [5, 6], [7, 8]
    np.testing.assert_array_equal(layer.forward(x), [[87654321.5, 4]])


@pytest.mark.parametrize("shape", [(3, 4, 2, 5), (3, 40)])
def test_forward_is_a_matrix_product(rng, fill, shape):
    layer = fill(Linear(40, 6, dtype=np.float64))
    x = rng.standard_normal(shape)
    y = layer.forward(x)
    assert y.shape == (3, 6)
    expected = [
        [sum(a * b for a, b in zip(image.ravel(), column)) + bias
         for column, bias in zip(layer.params["weights"].T, layer.params["bias"])]
        for image in x]
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)


def test_a_convolution_over_the_whole_image_is_the_same(rng, fill):
    layer = fill(Linear(4 * 2 * 5, 6, dtype=np.float64))
    convolution = Convolution(5, 6, (4, 2), dtype=np.float64)
    convolution.params["weights"][...] = layer.params["weights"].reshape(4, 2, 5, 6)
    convolution.params["bias"][...] = layer.params["bias"]
    x = rng.standard_normal((3, 4, 2, 5))
    np.testing.assert_allclose(
        convolution.forward(x)[:, 0, 0], layer.forward(x), rtol=1e-12, atol=1e-12)


def test_gradients(rng, fill, assert_gradients):
    for shape in (3, 4, 2, 5), (2, 40):
        layer = fill(Linear(40, 7, dtype=np.float64))
        assert assert_gradients(layer, rng.standard_normal(shape), linear=True) == [
            "x", "weights", "bias", "dot test, x", "dot test, weights"]


def test_parameters_that_do_not_learn_get_no_gradient(rng, fill):
    x = rng.standard_normal((2, 40))
    layer = fill(Linear(40, 7, dtype=np.float64))
    gx = layer.backward(layer.forward(x, keep=True))
    assert set(layer.grads) == {"weights", "bias"}
    layer.grads.clear()
    layer.fixed = frozenset(layer.params)
    np.testing.assert_array_equal(layer.backward(layer.forward(x, keep=True)), gx)
    assert layer.grads == {}


def test_parameters():
    layer = Linear(3, 2)
    assert {key: w.shape for key, w in layer.params.items()} == {"weights": (3, 2), "bias": (2,)}
    assert {w.dtype for w in layer.params.values()} == {np.dtype(np.float32)}


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError):
        Linear(40, 6).forward(np.zeros((1, 4, 2, 6), np.float32))
