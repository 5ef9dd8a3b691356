"""The kernels for GPUs and nets on them, in Numba's simulator, chosen for whole processes."""
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent


@pytest.mark.cuda_simulator
@pytest.mark.parametrize("file", [
    "device_kernels.py", "device_nets.py", "device_benchmark.py", "device_roads.py"])
def test_in_the_simulator(file, needs_numba_cuda):
    run_in_the_simulator(file, "not torch")


@pytest.mark.cuda_simulator
@pytest.mark.torch
def test_against_torch_in_the_simulator(needs_numba_cuda):
    pytest.importorskip("torch", reason="compares with torch, which is not installed")
    run_in_the_simulator("device_benchmark.py", "torch")


def run_in_the_simulator(file, marked):
    path = os.pathsep.join(filter(None, [os.fspath(HERE), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": path}
    environment.pop("PYTEST_ADDOPTS", None)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", marked,
         str(HERE / file)],
        capture_output=True, text=True, env=environment, timeout=600)
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-2000:]
    assert "skipped" not in run.stdout.splitlines()[-1]
