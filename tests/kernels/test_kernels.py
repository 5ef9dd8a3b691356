"""What all kernels have in common: names, purity, determinism, threads, memory, errors."""
import concurrent.futures
import inspect
import pathlib
import runpy
import signal
import subprocess
import sys

import numba
import numpy as np
import pytest

from tinyfcn import kernels
from tinyfcn.kernels import cpu, naive
from tinyfcn.kernels.cpu.threads import set_threads

HERE = pathlib.Path(__file__).parent
SHARED = runpy.run_path(str(HERE / "calls.py"))
CALLS, kernel_of = SHARED["CALLS"], SHARED["kernel_of"]
KERNELS = {name.partition(" ")[0] for name in CALLS}
# Which arguments are modified instead of results returned.
IN_PLACE = {"sgd_momentum": (0, 2), "adam": (0, 2, 3), "move_towards": (0,)}
PURE = [name for name in CALLS if name not in IN_PLACE]


def call(name, dtype=np.float32, prepare=lambda value: value):
    """Call a kernel with its arrays prepared; return its results, or the arguments it modified."""
    args, kwargs = CALLS[name](np.random.default_rng(1), dtype)
    args = [prepare(value) if isinstance(value, np.ndarray) else value for value in args]
    result = kernel_of(name, cpu)(*args, **kwargs)
    if name in IN_PLACE:
        return [args[index] for index in IN_PLACE[name]]
    return [np.asarray(part) for part in (result if isinstance(result, tuple) else (result,))]


def awkward(array):
    """The same numbers in a view that is neither contiguous nor writable."""
    view = np.zeros((*array.shape, 2), array.dtype)[..., 1]
    view[...] = array
    view.flags.writeable = False
    return view


def identical(results, others):
    for result, other in zip(results, others, strict=True):
        assert result.dtype == other.dtype and result.shape == other.shape
        assert result.tobytes() == other.tobytes()


def test_backend_of_an_array_is_cpu():
    assert kernels.backend(np.zeros(3)) is cpu


@pytest.mark.parametrize("value", [[1.0, 2.0], 3.0, None])
def test_backend_of_anything_else_is_an_error(value):
    with pytest.raises(TypeError, match=f"no kernels for builtins.{type(value).__name__}"):
        kernels.backend(value)


def test_every_kernel_is_called_here():
    public = {name for name, value in vars(naive).items()
              if inspect.isfunction(value) and value.__module__ == naive.__name__}
    assert public - {"in_float64", "taps", "rectified", "response_scale", "splitmix64"} == KERNELS


@pytest.mark.parametrize("name", CALLS)
def test_backends_have_the_same_signature(name):
    assert inspect.signature(kernel_of(name, cpu)) == inspect.signature(kernel_of(name, naive))


@pytest.mark.parametrize("name", CALLS)
def test_kernels_are_documented(name):
    for module in (cpu, naive):
        assert inspect.getdoc(kernel_of(name, module)).strip()


def test_cpu_offers_kernels_and_nothing_else():
    public = {name for name, value in vars(cpu).items()
              if callable(value) and not name.startswith("_")}
    assert public == KERNELS


@pytest.mark.parametrize("name", PURE)
def test_arguments_are_not_modified(name):
    args, kwargs = CALLS[name](np.random.default_rng(1), np.float32)
    before = [np.copy(value) for value in args]
    kernel_of(name, cpu)(*args, **kwargs)
    for value, copy in zip(args, before):
        np.testing.assert_array_equal(value, copy)


@pytest.mark.parametrize("name", PURE)
def test_results_share_no_memory_with_arguments(name):
    args, kwargs = CALLS[name](np.random.default_rng(1), np.float32)
    result = kernel_of(name, cpu)(*args, **kwargs)
    for part in result if isinstance(result, tuple) else (result,):
        for value in args:
            if isinstance(part, np.ndarray) and isinstance(value, np.ndarray):
                assert not np.shares_memory(part, value)


@pytest.mark.parametrize("name", PURE)
def test_results_outlive_the_next_call(name):
    first = call(name)
    copies = [part.copy() for part in first]
    call(name, prepare=lambda array: array[::1] * 0)
    identical(first, copies)


@pytest.mark.parametrize("name", PURE)
def test_non_contiguous_and_read_only_arguments(name, dtype):
    identical(call(name, dtype, awkward), call(name, dtype))


@pytest.mark.parametrize("name", PURE)
def test_reversed_arguments(name):
    """Negative strides: the numbers come from the end of the memory."""
    def backwards(array):
        return np.ascontiguousarray(array[..., ::-1])[..., ::-1]
    identical(call(name, prepare=backwards), call(name))


@pytest.mark.parametrize("name", CALLS)
def test_every_run_gives_the_same_bits(name, dtype):
    first = call(name, dtype)
    for _ in range(3):
        identical(call(name, dtype), first)


@pytest.mark.parametrize("name", CALLS)
def test_thread_count_does_not_change_the_bits(name):
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("needs NUMBA_NUM_THREADS of at least 2")
    before = set_threads(1)
    try:
        alone = call(name)
        set_threads(2)
        identical(call(name), alone)
    finally:
        set_threads(before)


def test_python_threads_may_call_kernels_at_once():
    expected = {name: call(name) for name in CALLS}
    # Every thread has another order, so that different kernels meet.
    orders = [np.random.default_rng(seed).permutation(list(CALLS)) for seed in range(4)]
    with concurrent.futures.ThreadPoolExecutor(len(orders)) as pool:
        runs = [pool.submit(lambda names: [(name, call(name)) for name in names], order)
                for order in orders]
    for run in runs:
        for name, results in run.result():
            identical(results, expected[name])


def run_guarded(dtype_name, *names):
    return subprocess.run([sys.executable, str(HERE / "guarded_calls.py"), dtype_name, *names],
                          capture_output=True, text=True, timeout=600)


def test_the_guard_pages_stop_an_overrun():
    assert run_guarded("float32", "overrun").returncode == -signal.SIGSEGV


@pytest.fixture(scope="module")
def guarded_runs():
    """{name of a dtype: its process, ended}: at once, since each compiles nearly all kernels."""
    names = "float32", "float64"
    with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
        return dict(zip(names, pool.map(lambda name: run_guarded(name, *CALLS), names)))


@pytest.mark.parametrize("dtype_name", ["float32", "float64"])
def test_nothing_is_touched_beyond_the_ends_of_arrays(dtype_name, guarded_runs):
    run = guarded_runs[dtype_name]
    if run.returncode == 0:
        return
    culprits = [name for name in CALLS if run_guarded(dtype_name, name).returncode != 0]
    pytest.fail(f"beyond the ends: {culprits}, exit status {run.returncode}\n{run.stderr}")


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("wrong", [np.float16, np.int32, np.complex64])
def test_other_types_of_numbers_are_an_error(name, wrong):
    with pytest.raises((TypeError, ValueError), match=np.dtype(wrong).name):
        call(name, prepare=lambda array: array.astype(wrong) if array.dtype.kind == "f" else array)


SEVERAL = [name for name, make in CALLS.items()
           if sum(isinstance(value, np.ndarray) and value.dtype.kind == "f"
                  for value in make(np.random.default_rng(1), np.float32)[0]) > 1]


@pytest.mark.parametrize("name", SEVERAL)
def test_mixed_types_of_numbers_are_an_error(name):
    args, kwargs = CALLS[name](np.random.default_rng(1), np.float32)
    for i, value in enumerate(args):
        if isinstance(value, np.ndarray) and value.dtype == np.float32:
            mixed = [*args[:i], value.astype(np.float64), *args[i + 1:]]
            with pytest.raises((TypeError, ValueError), match="float64"):
                kernel_of(name, cpu)(*mixed, **kwargs)
