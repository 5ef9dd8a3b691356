"""The gradient check finds wrong gradients, says where, and leaves everything as it was."""
import re

import numpy as np
import pytest

from tinyfcn.gradient_check import Settings, check_adjoint, check_gradients, compare
from tinyfcn.graph import Graph
from tinyfcn.layers import BatchNorm, Convolution, Dropout, Layer, MaxPooling, ReLU, Scale


class Square(Layer):
    """y = w x^2, with a gradient that is off in places."""

    def __init__(self, x_factor=None, w_gradient=lambda g: g):
        super().__init__()
        self.params["weights"] = np.array([2.0])
        self.x_factor, self.w_gradient = x_factor, w_gradient

    def forward(self, x, keep=False):
        if keep:
            self.kept = x.copy()
        return self.params["weights"] * x * x

    def backward(self, gy):
        x = self.take_kept()
        self.grads["weights"] = self.w_gradient(np.array([np.sum(gy * x * x)]))
        if self.grads["weights"] is None:
            del self.grads["weights"]
        gx = 2 * self.params["weights"] * x * gy
        return gx if self.x_factor is None else gx * self.x_factor


@pytest.fixture
def x():
    return np.random.default_rng(0).uniform(1, 2, (1, 2, 3, 2))


def only(rows, parameter):
    (row,) = [row for row in rows if row.parameter == parameter]
    return row


def test_a_right_gradient_passes(x):
    rows = check_gradients(Square(), x, name="square", settings=Settings(seed=7))
    assert [(row.layer, row.parameter) for row in rows] == [("square", "x"), ("square", "weights")]
    for row in rows:
        assert row.passed and row.problem == "" and 0 < row.error < row.threshold == 1e-6
        assert row.seed == 7 and row.kinks == 0
    # All entries, and a direction.
    assert [row.compared for row in rows] == [13, 2]


def test_a_wrong_entry_is_found_with_its_place_and_both_values(x):
    factor = np.ones(x.shape)
    factor[0, 1, 2, 0] = 1.01
    row = only(check_gradients(Square(factor), x, settings=Settings(directions=0)), "x")
    assert not row.passed
    assert row.error == pytest.approx(0.01 / 1.01, rel=1e-4)
    assert row.worst.where == (0, 1, 2, 0) and row.worst.eps == 1e-5
    assert row.worst.backward / row.worst.numerical == pytest.approx(1.01, rel=1e-6)
    assert row.problem == (
        f"at (0, 1, 2, 0): backward {row.worst.backward:.10g}, "
        f"numerical {row.worst.numerical:.10g}, eps 1e-05")
    assert only(check_gradients(Square(factor), x), "weights").passed


def test_a_direction_finds_a_wrong_entry_that_was_not_drawn(x):
    factor = np.ones(x.shape)
    factor[0, 1, 2, 0] = 1.01
    row = only(check_gradients(Square(factor), x, settings=Settings(entries=0)), "x")
    assert not row.passed and row.compared == 1
    assert row.problem.startswith("at a direction: backward ")


def test_a_tiny_relative_error_is_found(x):
    row = only(check_gradients(Square(1 + 3e-6), x), "x")
    assert not row.passed and row.error == pytest.approx(3e-6, rel=0.2)


@pytest.mark.parametrize("wrong, problem", [
    (lambda g: None, r"backward left none, weights has shape \(1,\)"),
    (lambda g: g[None], r"backward left one of shape \(1, 1\), weights has shape \(1,\)"),
    (lambda g: g * np.nan, r"at \(0,\): backward nan"),
    (lambda g: g * np.inf, r"at \(0,\): backward -?inf"),
    (lambda g: g * 0, r"at .*: backward -?0, numerical "),
    (lambda g: -g, r"at .*: backward .*, numerical "),
])
def test_other_wrong_gradients(x, wrong, problem):
    row = only(check_gradients(Square(w_gradient=wrong), x), "weights")
    assert not row.passed
    assert re.match(problem, row.problem), row.problem


def test_a_nan_in_the_output_is_a_failure(x):
    x[0, 0, 0, 0] = np.nan
    assert not any(row.passed for row in check_gradients(Square(), x))


def test_a_gradient_that_is_zero_everywhere_tests_nothing(x):
    row = only(check_gradients(Scale(0.0), x), "x")
    assert row.problem == "the gradient is zero everywhere, which tests nothing"


def test_what_is_at_a_kink_is_skipped_and_counted():
    # Two entries are closer to 0 than eps: 1e-6 and -3e-6.
    x = np.array([1e-6, -3e-6, 1, -1, 2, -2.0]).reshape(1, 1, 2, 3)
    row = only(check_gradients(ReLU(), x, settings=Settings(directions=0)), "x")
    assert row.passed and row.kinks == 2 and row.compared == 4
    # The nearest rivals are 2e-6 and 4e-6 apart, so the winners and their rivals are at kinks.
    x = np.array([[5, 5 + 2e-6, 1, 0], [0, 1, 3, 3 - 4e-6]]).reshape(1, 2, 4, 1)
    row = only(check_gradients(MaxPooling(2, 2), x, settings=Settings(directions=0)), "x")
    assert row.passed and row.kinks == 4 and row.compared == 4


def test_wrong_gradients_beside_kinks_are_not_excused():
    class Wrong(ReLU):
        def backward(self, gy):
            return super().backward(gy) * 1.5

    x = np.array([1e-6, -3e-6, 1, -1, 2, -2.0]).reshape(1, 1, 2, 3)
    row = only(check_gradients(Wrong(), x), "x")
    assert not row.passed and row.error == pytest.approx(1 / 3)


def test_nothing_but_kinks_is_a_failure():
    row = only(check_gradients(ReLU(), np.zeros((1, 1, 2, 1))), "x")
    assert not row.passed and row.compared == 0
    assert row.problem == "nothing was compared: 6 steps tried, all across kinks"


def test_near_a_kink_in_every_direction_steps_are_shortened():
    net = Graph("near")
    net.add("conv", Convolution(1, 1, 1, dtype=np.float64))
    net.add("relu", ReLU())
    net.params["conv/weights"][...] = 1
    net.params["conv/bias"][...] = 3e-7
    x = np.array([0.0, 1, 2, 3]).reshape(1, 2, 2, 1)  # the first lies 3e-7 beside the kink
    row = only(check_gradients(net, x, settings=Settings(threshold=1e-5)), "conv/bias")
    assert row.passed and row.worst.eps == pytest.approx(1e-7)


def test_batch_norms_running_averages_are_put_back(x):
    layer = BatchNorm(2, dtype=np.float64)
    layer.params["running_mean"][:] = [3, 4]
    held = layer.params["running_mean"]
    assert [row.parameter for row in check_gradients(layer, x)] == ["x", "gamma", "beta"]
    assert layer.params["running_mean"] is held
    np.testing.assert_array_equal(held, [3, 4])
    np.testing.assert_array_equal(layer.params["running_var"], [1, 1])


def test_parameters_inputs_gradients_and_dropout_are_put_back(x):
    net = Graph("net")
    net.add("conv", Convolution(2, 3, 1, dtype=np.float64))
    net.add("drop", Dropout(0.5))
    net.reseed(9)
    rng = np.random.default_rng(1)
    for w in net.params.values():
        w[...] = rng.standard_normal(w.shape)
    net.forward(x, keep=True)
    state = net.layers["drop"].seed, net.layers["drop"].draws
    kept = net.layers["drop"].kept
    params = {name: w.copy() for name, w in net.params.items()}
    x_before = x.copy()
    rows = check_gradients(net, x)
    assert all(row.passed for row in rows)
    np.testing.assert_array_equal(x, x_before)
    for name, w in params.items():
        np.testing.assert_array_equal(net.params[name], w)
    assert (net.layers["drop"].seed, net.layers["drop"].draws) == state
    assert net.layers["drop"].kept == kept and net.grads == {}


def test_the_seed_decides_what_is_drawn(x):
    def run(seed):
        return check_gradients(Square(), x, settings=Settings(seed, entries=3))

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_float32_is_refused(x):
    with pytest.raises(ValueError, match="Convolution: gradients are checked in float64, weights"
                                         " is float32"):
        check_gradients(Convolution(2, 2, 1), x)
    with pytest.raises(ValueError, match="some name: .* x is float32"):
        check_gradients(ReLU(), x.astype(np.float32), name="some name")


def test_parameters_can_be_left_out(x):
    rows = check_gradients(Square(), x, skip=["weights"])
    assert [row.parameter for row in rows] == ["x"]


def test_dot_test_finds_a_wrong_adjoint(x):
    class Wrong(Scale):
        def backward(self, gy):
            gx = super().backward(gy)
            gx[0, 0, 0, 0] *= 1 + 1e-9
            return gx

    assert only(check_adjoint(Scale(3.0), x), "dot test, x").passed
    row = only(check_adjoint(Wrong(3.0), x), "dot test, x")
    assert not row.passed and row.error > 1e-12
    assert row.problem.startswith("<A u, v> = ") and ", <u, A' v> = " in row.problem


def test_dot_test_ignores_the_bias_and_tests_the_weights(x):
    layer = Convolution(2, 3, 2, padding=1, dtype=np.float64)
    for w in layer.params.values():
        w[...] = np.random.default_rng(5).standard_normal(w.shape)
    before = {key: w.copy() for key, w in layer.params.items()}
    rows = check_adjoint(layer, x, name="conv")
    assert [(row.layer, row.parameter, row.passed) for row in rows] == [
        ("conv", "dot test, x", True), ("conv", "dot test, weights", True)]
    for key, w in before.items():
        np.testing.assert_array_equal(layer.params[key], w)


def test_a_function_of_an_array_can_be_compared():
    array = np.array([0.5, 2.0])
    rng = np.random.default_rng(0)

    def run():
        return np.array(np.sin(array[0]) * array[1] ** 2), []

    right = np.array([np.cos(0.5) * 4, np.sin(0.5) * 4])
    assert compare("f", "x", run, array, right, np.ones(()), rng).passed
    assert not compare("f", "x", run, array, right * [1, 1.001], np.ones(()), rng).passed
    np.testing.assert_array_equal(array, [0.5, 2])
