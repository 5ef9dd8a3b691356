"""The convolution layer."""
import numpy as np
import pytest

from tinyfcn.kernels import naive
from tinyfcn.layers import Convolution

CASES = {
    "1x1": ((2, 4, 5, 9), 7, 1, {}),
    "3x3, padded": ((1, 5, 6, 3), 17, 3, {"padding": 1}),
    "pairs": ((2, 8, 9, 3), 4, (5, 3), {"stride": (2, 3), "padding": (1, 2)}),
    "dilated": ((1, 8, 7, 2), 3, (3, 2), {"dilation": (2, 3)}),
    "groups": ((1, 7, 6, 4), 6, 3, {"stride": 2, "groups": 2}),
    "no bias": ((1, 4, 5, 3), 4, 2, {"bias": False}),
    "larger than the image": ((1, 2, 3, 3), 4, 7, {"padding": 3}),
}


def geometry_of(options):
    """The options as the kernels want them, worked out anew: pairs, and no bias."""
    pairs = {name: value if isinstance(value, tuple) else (value, value)
             for name, value in options.items() if name in ("stride", "padding", "dilation")}
    return {**pairs, "groups": options.get("groups", 1)}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-5), (np.float64, 1e-13)])
def test_forward(rng, fill, name, dtype, tolerance):
    shape, out, kernel, options = CASES[name]
    layer = fill(Convolution(shape[3], out, kernel, dtype=dtype, **options))
    x = rng.standard_normal(shape).astype(dtype)
    expected = naive.convolution_forward(
        x, layer.params["weights"], layer.params.get("bias"), **geometry_of(options))
    y = layer.forward(x)
    assert y.dtype == dtype and y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance * np.abs(expected).max())
    rectified = layer.forward(x, relu=True)
    np.testing.assert_allclose(
        rectified, np.maximum(expected, 0), rtol=0, atol=tolerance * np.abs(expected).max())
    assert rectified.min() >= 0


@pytest.mark.parametrize("name", CASES)
def test_gradients(rng, fill, assert_gradients, name):
    shape, out, kernel, options = CASES[name]
    layer = fill(Convolution(shape[3], out, kernel, dtype=np.float64, **options))
    assert assert_gradients(layer, rng.standard_normal(shape), linear=True) == [
        "x", "weights", *(["bias"] if "bias" in layer.params else []),
        "dot test, x", "dot test, weights"]


def test_parameters():
    layer = Convolution(6, 8, (5, 3), groups=2)
    assert {key: w.shape for key, w in layer.params.items()} == {
        "weights": (5, 3, 3, 8), "bias": (8,)}
    assert all(w.dtype == np.float32 and not w.any() for w in layer.params.values())
    assert layer.fixed == frozenset()
    assert list(Convolution(2, 2, 1, bias=False).params) == ["weights"]


def test_without_the_inputs_gradient(rng, fill):
    x = rng.standard_normal((1, 4, 5, 3))
    layer = fill(Convolution(3, 4, 3, dtype=np.float64))
    gy = layer.forward(x, keep=True)
    assert layer.backward(gy).shape == x.shape
    expected = {key: g.copy() for key, g in layer.grads.items()}
    layer.forward(x, keep=True)
    assert layer.backward(gy, input_gradient=False) is None
    for key, g in expected.items():
        np.testing.assert_array_equal(layer.grads[key], g)


def test_a_kernel_larger_than_the_image_is_refused():
    with pytest.raises(ValueError, match="kernel larger than padded input: kernel 7"):
        Convolution(1, 1, 7).forward(np.zeros((1, 5, 9, 1), np.float32))
