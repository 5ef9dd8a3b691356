"""Fixtures of the tests that run kernels for GPUs, on a GPU or in Numba's simulator of one."""
import importlib.util
import os

import numpy as np
import pytest

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")


@pytest.fixture(scope="session")
def device():
    """The GPU, or the simulator."""
    from tinyfcn import arrays

    name = arrays.find("cuda")
    arrays.set_precision("float32", name)
    return name


@pytest.fixture
def tensor_cores(device):
    """A GPU that has those for TF32 and BF16; the simulator's does."""
    from tinyfcn.kernels.cuda import algorithms, launch

    if launch.capability() < algorithms.TENSOR_CORES:
        pytest.skip("this GPU has no tensor cores for TF32 and BF16")


@pytest.fixture
def rng():
    return np.random.default_rng(1)


@pytest.fixture(scope="session")
def needs_numba_cuda():
    if importlib.util.find_spec("numba_cuda") is None:
        pytest.skip("needs numba-cuda: pip install 'tinyfcn[cuda]'")
