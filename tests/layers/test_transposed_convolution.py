"""The transposed convolution layer and its bilinear start."""
import numpy as np
import pytest

from tinyfcn.kernels import naive
from tinyfcn.layers import TransposedConvolution
from tinyfcn.layers.transposed_convolution import bilinear_filter

CASES = [
    # channels, kernel, stride, padding, input size, output size
    (3, 4, 2, 0, (3, 4), None),
    (9, 4, 2, 1, (3, 4), (5, 7)),
    (2, 16, 8, 4, (2, 3), (13, 24)),
    (2, (3, 5), (1, 3), (1, 0), (4, 2), (9, 9)),
]

# upsample_filt(4) of the authors' surgery.py: f = 2, centre 1.5, so 1/4 3/4 3/4 1/4 along an axis.
SIZE_4 = np.array([[1, 3, 3, 1], [3, 9, 9, 3], [3, 9, 9, 3], [1, 3, 3, 1]]) / 16
# upsample_filt(3): f = 2, centre 1.
SIZE_3 = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4


@pytest.mark.parametrize("size, expected", [(4, SIZE_4), (3, SIZE_3), (1, [[1]])])
def test_bilinear_filter(size, expected):
    weights = bilinear_filter((size, size), 3, np.float64)
    assert weights.shape == (size, size, 3, 3)
    for i, j in np.ndindex(3, 3):
        np.testing.assert_array_equal(weights[:, :, i, j], expected if i == j else 0)


@pytest.mark.parametrize("size", [2, 5, 16, 32, 63, 64])
def test_bilinear_filter_is_the_authors_formula(size):
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 == 1 else factor - 0.5
    weights = bilinear_filter((size, size), 1, np.float64)[:, :, 0, 0]
    for i, j in np.ndindex(size, size):
        expected = (1 - abs(i - centre) / factor) * (1 - abs(j - centre) / factor)
        assert weights[i, j] == pytest.approx(expected, rel=1e-14)


def test_axes_may_differ():
    weights = bilinear_filter((4, 3), 1, np.float64)[:, :, 0, 0]
    np.testing.assert_array_equal(weights, np.outer([1, 3, 3, 1], [1, 2, 1]) / 8)


@pytest.mark.parametrize("factor", [2, 8, 16, 32])
def test_upsampling_a_constant_image_is_constant_inside(factor):
    layer = TransposedConvolution(2, 2 * factor, factor, padding=factor // 2)
    x = np.empty((1, 3, 4, 2), np.float32)
    x[..., 0], x[..., 1] = 5, -3
    y = layer.forward(x, size=(3 * factor, 4 * factor))
    inside = y[:, factor // 2:-factor // 2, factor // 2:-factor // 2]
    np.testing.assert_allclose(inside[..., 0], 5, rtol=1e-6)
    np.testing.assert_allclose(inside[..., 1], -3, rtol=1e-6)


def test_upsampling_a_ramp_is_a_ramp_inside():
    layer = TransposedConvolution(1, 4, 2, padding=1, dtype=np.float64)
    x = np.arange(5.0).reshape(1, 1, 5, 1).repeat(3, axis=1)
    y = layer.forward(x, size=(6, 10))
    np.testing.assert_allclose(y[0, 2, 1:-1, 0], np.arange(0.25, 4, 0.5), rtol=1e-14)


@pytest.mark.parametrize("channels, kernel, stride, padding, size, output_size", CASES)
def test_forward(rng, fill, channels, kernel, stride, padding, size, output_size):
    layer = fill(TransposedConvolution(channels, kernel, stride, padding, dtype=np.float64))
    x = rng.standard_normal((2, *size, channels))
    stride, padding = (value if isinstance(value, tuple) else (value, value)
                       for value in (stride, padding))
    expected = naive.transposed_convolution_forward(
        x, layer.params["weights"], stride, padding, output_size)
    y = layer.forward(x, size=output_size)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("channels, kernel, stride, padding, size, output_size", CASES)
def test_gradients(rng, fill, assert_gradients, channels, kernel, stride, padding, size,
                   output_size):
    layer = fill(TransposedConvolution(channels, kernel, stride, padding, fixed=False,
                                       dtype=np.float64))
    x = rng.standard_normal((2, *size, channels))
    assert assert_gradients(layer, x, linear=True, size=output_size) == [
        "x", "weights", "dot test, x", "dot test, weights"]


def test_fixed_weights_get_no_gradient(rng, assert_gradients):
    layer = TransposedConvolution(2, 4, 2, dtype=np.float64)
    assert layer.fixed == {"weights"}
    assert assert_gradients(layer, rng.standard_normal((1, 2, 3, 2))) == ["x"]
    gy = layer.forward(rng.standard_normal((1, 2, 3, 2)), keep=True)
    layer.backward(gy)
    assert layer.grads == {}
    assert TransposedConvolution(2, 4, 2, fixed=False).fixed == frozenset()
