"""What all layers have in common: what they keep, and when."""
import numpy as np
import pytest

from tinyfcn.kernels import cpu
from tinyfcn.layers import (
    Add,
    BatchNorm,
    Convolution,
    Crop,
    Dropout,
    Layer,
    Linear,
    MaxPooling,
    ReLU,
    Scale,
    TransposedConvolution,
)

# How to construct each layer that keeps something, and its forward's options.
KEEPING = {
    "BatchNorm": (lambda: BatchNorm(3), {}),
    "Convolution": (lambda: Convolution(3, 5, 3, padding=1), {}),
    "Crop": (lambda: Crop(1), {"size": (2, 2)}),
    "Dropout": (lambda: Dropout(0.5), {}),
    "Linear": (lambda: Linear(60, 4), {}),
    "MaxPooling": (lambda: MaxPooling(2, 2), {}),
    "ReLU": (ReLU, {}),
    "TransposedConvolution": (lambda: TransposedConvolution(3, 4, 2), {}),
}
X = np.random.default_rng(0).standard_normal((2, 4, 5, 3), np.float32)


@pytest.mark.parametrize("name", KEEPING)
def test_backward_before_forward_is_an_error(name):
    make, options = KEEPING[name]
    layer = make()
    message = rf"{name}\.backward: run forward\(x, keep=True\) before it"
    with pytest.raises(RuntimeError, match=message):
        layer.backward(X)
    y = layer.forward(X, **options)
    with pytest.raises(RuntimeError, match=message):
        layer.backward(y)


@pytest.mark.parametrize("name", KEEPING)
def test_what_is_kept_serves_one_backward(name):
    make, options = KEEPING[name]
    layer = make()
    y = layer.forward(X, keep=True, **options)
    assert layer.kept is not None
    assert layer.backward(y).shape == X.shape
    assert layer.kept is None
    with pytest.raises(RuntimeError, match="run forward"):
        layer.backward(y)


@pytest.mark.parametrize("name", KEEPING)
def test_inference_changes_nothing_of_the_layer(name):
    make, options = KEEPING[name]
    layer = make()
    before = dict(vars(layer))
    params = {key: w.copy() for key, w in layer.params.items()}
    x = X.copy()
    layer.forward(x, **options)
    assert vars(layer) == before
    for key, w in params.items():
        np.testing.assert_array_equal(layer.params[key], w)
    np.testing.assert_array_equal(x, X)


def test_layers_without_a_state_keep_nothing():
    for layer, inputs in (Add(), (X, X)), (Scale(2.0), (X,)):
        layer.forward(*inputs, keep=True)
        assert layer.kept is None


@pytest.mark.parametrize("name", KEEPING)
def test_backward_leaves_the_arriving_gradient_alone(name):
    make, options = KEEPING[name]
    layer = make()
    gy = layer.forward(X, keep=True, **options)
    before = gy.copy()
    layer.backward(gy)
    np.testing.assert_array_equal(gy, before)


def test_a_layer_has_its_own_dicts():
    a, b = Layer(), Layer()
    a.params["weights"] = a.grads["weights"] = 1
    assert b.params == {} and b.grads == {}
    assert Layer.fixed == frozenset()


def test_arrays_of_an_unknown_kind_are_refused_by_name():
    with pytest.raises(TypeError, match="no kernels for builtins.list: expected a numpy.ndarray"):
        ReLU().forward([[1.0]])


def test_types_of_input_and_parameters_must_agree():
    with pytest.raises(ValueError, match="float32 or all float64, got float32, float64"):
        Convolution(3, 5, 1).forward(X.astype(np.float64))
    assert cpu.relu_forward(X).dtype == np.float32
