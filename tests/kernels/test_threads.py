"""How many threads kernels use."""
import concurrent.futures
import os
import pathlib
import subprocess
import sys

import numba
import numpy as np
import pytest

import tinyfcn
from tinyfcn.kernels import cpu
from tinyfcn.kernels.cpu import pooling, threads

MOST = numba.config.NUMBA_NUM_THREADS
ALLOWED = f"choose 1 to {MOST}, the threads that Numba was started with (NUMBA_NUM_THREADS)"
several = pytest.mark.skipif(MOST < 2, reason="needs NUMBA_NUM_THREADS of at least 2")


@pytest.fixture(autouse=True)
def restored():
    before = threads.set_threads(None)
    yield
    threads.set_threads(before)


@pytest.fixture
def used(monkeypatch):
    """The thread counts of the kernel calls that follow."""
    counts, set_num_threads = [], numba.set_num_threads

    def noted(count):
        counts.append(count)
        set_num_threads(count)

    monkeypatch.setattr(numba, "set_num_threads", noted)
    return counts


def pool(x):
    return pooling.max_pooling_forward(x, (2, 2), (2, 2), keep_argmax=False)[0]


X = np.random.default_rng(0).standard_normal((1, 40, 40, 24), np.float32)


def test_it_is_at_the_top():
    assert tinyfcn.set_threads is threads.set_threads
    assert "set_threads" in dir(tinyfcn)


def test_numbas_own_setting_counts_until_one_is_made():
    assert threads.thread_count() == numba.get_num_threads()
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        assert threads.thread_count() == 1
    finally:
        numba.set_num_threads(before)


@several
def test_kernels_use_what_is_set(used):
    w = np.ones((3, 3, 24, 8), np.float32)
    for count in (1, 2, 1):
        tinyfcn.set_threads(count)
        assert threads.thread_count() == count
        used.clear()
        pool(X)
        cpu.convolution_forward(X, w, algorithm="im2col")
        cpu.convolution_forward(X, w, algorithm="winograd-4")
        # Set for the kernel, then as before it for whatever else uses Numba.
        assert set(used[::2]) == {count}
        assert set(used[1::2]) == {numba.get_num_threads()}


def test_it_returns_what_was_set_before():
    assert threads.set_threads(1) is None
    assert threads.set_threads(np.int64(1)) == 1
    assert threads.set_threads(None) == 1
    assert threads.set_threads(None) is None


@several
def test_it_holds_in_every_python_thread(used):
    tinyfcn.set_threads(1)
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        executor.submit(pool, X).result()
        assert executor.submit(threads.thread_count).result() == 1
    assert used[0] == 1
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        executor.submit(tinyfcn.set_threads, 2).result()
    assert threads.thread_count() == 2


def small_net():
    net = tinyfcn.models.FCN8s(classes=3, width=1 / 8, fc_channels=32, init="scratch")
    x = np.random.default_rng(0).uniform(-100, 100, (1, 70, 90, 3)).astype(np.float32)
    return net, x


def results(net, x):
    """The bytes of scores and gradients, of the net and of the prepared net."""
    net.reseed(0)
    scores = net.forward(x, keep=True)
    gx = net.backward(scores)
    prepared = tinyfcn.models.prepare(net)
    arrays = [scores, gx, *net.grads.values(), prepared.forward(x), prepared.forward(x)]
    return [array.tobytes() for array in arrays]


@several
def test_a_nets_results_have_the_same_bits_for_any_number():
    net, x = small_net()
    found = []
    for count in range(1, min(MOST, 4) + 1):
        tinyfcn.set_threads(count)
        found.append(results(net, x))
    assert all(each == found[0] for each in found)


@several
def test_it_may_be_set_while_other_threads_compute():
    net, x = small_net()
    expected = net.forward(x).tobytes()
    with concurrent.futures.ThreadPoolExecutor(3) as executor:
        runs = [executor.submit(lambda: [net.forward(x).tobytes() for _ in range(5)])
                for _ in range(3)]
        while not all(run.done() for run in runs):
            for count in (1, 2):
                tinyfcn.set_threads(count)
    assert {scores for run in runs for scores in run.result()} == {expected}


@pytest.mark.parametrize("count", [0, -1, MOST + 1, 10**30])
def test_a_count_that_cannot_be_is_an_error(count):
    with pytest.raises(ValueError) as error:
        tinyfcn.set_threads(count)
    assert str(error.value) == f"set_threads({count}): {ALLOWED}"
    assert threads.set_threads(None) is None


@pytest.mark.parametrize("count", ["2", 1.0, True, [1]])
def test_what_is_no_count_is_an_error(count):
    with pytest.raises(TypeError) as error:
        tinyfcn.set_threads(count)
    assert str(error.value) == f"set_threads: not a whole number: {count!r}"
    assert threads.set_threads(None) is None


# ---- the environment


@pytest.mark.parametrize("value, count", [("", None), ("  ", None), ("1", 1), (f" {MOST} ", MOST)])
def test_the_environment_may_say_it(value, count, monkeypatch):
    monkeypatch.setenv("TINYFCN_THREADS", value)
    assert threads.chosen_count() == count
    monkeypatch.delenv("TINYFCN_THREADS")
    assert threads.chosen_count() is None


@pytest.mark.parametrize("value", ["0", "-1", str(MOST + 1), "two", "1.5", "²", "1 2"])
def test_another_value_is_an_error(value, monkeypatch):
    monkeypatch.setenv("TINYFCN_THREADS", value)
    with pytest.raises(ValueError) as error:
        threads.chosen_count()
    assert str(error.value) == f"TINYFCN_THREADS={value}: {ALLOWED}"


def in_a_process(program, value):
    environment = {**os.environ, "TINYFCN_THREADS": value, "NUMBA_NUM_THREADS": "2"}
    return subprocess.run([sys.executable, *program], env=environment, capture_output=True,
                          text=True, timeout=300)


def test_a_process_uses_what_the_environment_says():
    program = ("from tinyfcn.kernels.cpu import threads; import numba, tinyfcn; "
               "print(threads.thread_count(), numba.get_num_threads()); "
               "tinyfcn.set_threads(2); print(threads.thread_count())")
    assert in_a_process(["-c", program], "1").stdout == "1 2\n2\n"
    assert in_a_process(["-c", program], "").stdout == "2 2\n2\n"


def test_a_command_says_in_one_line_what_is_wrong(tmp_path):
    photo = pathlib.Path(__file__).parents[2] / "examples/images/china.jpg"
    process = in_a_process(["-m", "tinyfcn.segment", str(photo), "-o", str(tmp_path)], "9")
    assert (process.returncode != 0, process.stdout) == (True, "")
    assert process.stderr.endswith("TINYFCN_THREADS=9: choose 1 to 2, the threads that Numba was "
                                   "started with (NUMBA_NUM_THREADS)\n")
    assert process.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
