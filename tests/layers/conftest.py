"""What the tests of layers share."""
import numpy as np
import pytest

from tinyfcn.gradient_check import Settings, check_adjoint, check_gradients


@pytest.fixture
def rng():
    return np.random.default_rng(1)


@pytest.fixture
def fill(rng):
    """A function that gives a layer random parameters and returns it."""
    def fill(layer):
        for name, w in layer.params.items():
            if name not in ("running_mean", "running_var"):
                w[...] = rng.standard_normal(w.shape)
        return layer
    return fill


@pytest.fixture
def assert_gradients():
    """A function that compares a layer's gradients with numerical ones.

    It returns the names of what was compared. With `linear`, the dot test is done too.
    """
    def check(layer, *inputs, linear=False, **options):
        rows = check_gradients(layer, *inputs, settings=Settings(seed=2, entries=40), **options)
        if linear:
            rows += check_adjoint(layer, *inputs, seed=2, **options)
        assert [row for row in rows if not row.passed] == []
        return [row.parameter for row in rows]
    return check
