"""Jobs that threads share: each is done once, with what was given, and only that is taken."""
import functools

import numpy as np
import pytest
from numba import types

from tinyfcn.kernels.cpu.callables import PAIR, TABLE
from tinyfcn.kernels.cpu.jobs import compile_task, do_jobs, task_types


def _note(given, job, worker):
    """Write what was given to a row of `found`, and count the jobs of each worker."""
    start, step, places, number, flag, found, done, rows = given[0]
    found[job * 8 + 0] = job
    found[job * 8 + 1] = start[job]
    found[job * 8 + 2] = step[0] * 10 + step[1]
    found[job * 8 + 3] = places[job % places.shape[0], 1]
    found[job * 8 + 4] = number
    found[job * 8 + 5] = flag
    found[job * 8 + 6] = rows[worker, rows.shape[1] - 1]
    done[worker * 100 + job] += 1


@functools.cache
def task():
    numbers, scratch = task_types(np.dtype(np.float32))
    return compile_task(_note, (
        numbers, PAIR, TABLE, types.intp, types.intp, types.CPointer(types.float64),
        types.CPointer(types.int64), scratch))


def given():
    return {
        "start": np.arange(40, dtype=np.float32) / 4,
        "step": (3, 7),
        "places": np.arange(6).reshape(3, 2),
        "number": 1 << 40,
        "flag": True,
        "found": np.full((40, 8), -1.0),
        "done": np.zeros((2, 100), np.int64),
        "rows": np.array([[0, 1, 11], [0, 1, 12]], np.float32),
    }


@pytest.mark.parametrize("count, workers", [(0, 1), (0, 2), (1, 1), (1, 2), (40, 1), (40, 2)])
def test_each_job_is_done_once_with_what_is_given(count, workers):
    values = given()
    do_jobs(task(), count, workers, *values.values())
    jobs = np.arange(count)
    np.testing.assert_array_equal(values["found"][:count, 0], jobs)
    np.testing.assert_array_equal(values["found"][:count, 1], jobs / 4)
    np.testing.assert_array_equal(values["found"][:count, 2], 37)
    np.testing.assert_array_equal(values["found"][:count, 3], np.array([1, 3, 5])[jobs % 3])
    np.testing.assert_array_equal(values["found"][:count, 4], 1 << 40)
    np.testing.assert_array_equal(values["found"][:count, 5], 1)
    done = values["done"]
    np.testing.assert_array_equal(done.sum(axis=0), [1] * count + [0] * (100 - count))
    np.testing.assert_array_equal(values["found"][:count, 6], 11 + done[:, :count].argmax(axis=0))
    assert (values["found"][count:] == -1).all() and (values["found"][:, 7] == -1).all()
    assert not done[workers:].any()


@pytest.mark.parametrize("name, value", [
    ("start", np.zeros(40)), ("start", np.zeros(80, np.float32)[::2]),
    ("places", np.zeros((3, 2), np.int32)), ("places", np.zeros((2, 3), np.int64).T),
    ("rows", np.zeros((2, 3)))])
def test_other_arrays_than_it_was_compiled_for_are_an_error(name, value):
    with pytest.raises(TypeError, match=rf"a task for .* was given {value.dtype} \("):
        do_jobs(task(), 1, 1, *{**given(), name: value}.values())


def test_an_array_of_other_dimensions_is_an_error():
    with pytest.raises(TypeError, match=r"a task for .* was given float32 \(6,\)"):
        do_jobs(task(), 1, 1, *{**given(), "rows": np.zeros(6, np.float32)}.values())


def test_too_few_arguments_are_an_error():
    with pytest.raises(ValueError, match="shorter"):
        do_jobs(task(), 1, 1, *list(given().values())[:-1])
