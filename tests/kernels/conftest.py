"""Fixtures that the kernel tests share."""
import importlib

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def always_parallel(monkeypatch):
    """However little there is to do, all threads take part."""
    from tinyfcn.kernels.cpu import gathered_blocks

    monkeypatch.setattr(gathered_blocks, "PARALLEL_WORK", 0)


@pytest.fixture(params=["naive", "cpu"])
def ops(request):
    """Every module of kernels in turn, for expectations that come from none of them."""
    return importlib.import_module(f"tinyfcn.kernels.{request.param}")


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(1)


@pytest.fixture(scope="session")
def agree():
    """A function that asserts that an array holds the expected numbers.

    agree(actual, expected, terms, what): `terms` is how many products of two numbers of size one
    each result is the sum of. Rounding in a running sum of that many grows like their number: the
    sum itself like its square root, and so does the number of roundings that add up.
    """
    def check(actual, expected, terms=1, what=""):
        assert isinstance(actual, np.ndarray)
        assert actual.dtype == expected.dtype, what
        assert actual.shape == expected.shape, what
        eps = np.finfo(expected.dtype).eps
        np.testing.assert_allclose(actual, expected, rtol=8 * eps, atol=8 * eps * max(terms, 1),
                                   err_msg=what)
    return check
