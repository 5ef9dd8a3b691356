"""The blocked product behind all convolutions: how work is cut, what memory it takes, its phases.

That results are right is for test_convolution.py; here are the parts that no result shows.
"""
import itertools
import math

import numba
import numpy as np
import pytest

from tinyfcn.kernels import cpu, naive
from tinyfcn.kernels.cpu import (
    convolution,
    gathered_blocks,
    gathered_gradient,
    gathered_product,
)
from tinyfcn.kernels.cpu.micro_kernel import TILE_ROWS, panel_width

MEGABYTE = 1 << 20


# ---- cutting


@pytest.mark.parametrize("total, parts, unit, pieces", [
    (10, 1, 1, [(0, 10)]),
    (10, 2, 1, [(0, 5), (5, 10)]),
    (10, 2, 4, [(0, 4), (4, 10)]),
    (10, 3, 4, [(0, 4), (4, 8), (8, 10)]),
    (3, 2, 4, [(0, 3)]),            # one unit: the other piece is left out
    (8, 4, 4, [(0, 4), (4, 8)]),
    (0, 2, 4, []),
])
def test_cut_by_hand(total, parts, unit, pieces):
    assert gathered_blocks.cut(total, parts, unit) == pieces


def test_cut_covers_the_range_in_even_pieces():
    for total, parts, unit in itertools.product(range(1, 70), range(1, 9), (1, 6, 14)):
        pieces = gathered_blocks.cut(total, parts, unit)
        assert len(pieces) <= parts
        assert pieces[0][0] == 0 and pieces[-1][1] == total
        assert all(a[1] == b[0] for a, b in itertools.pairwise(pieces))
        assert all(start % unit == 0 for start, _ in pieces)
        sizes = [-(-(stop - start) // unit) for start, stop in pieces]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("workers", [1, 2, 7])
@pytest.mark.parametrize("size, stride", [((1, 1), 1), ((5, 7), 1), ((9, 40), 2), ((23, 31), 3)])
@pytest.mark.parametrize("outputs", [1, 33, 200])
def test_jobs_of_a_product_cover_every_number_once(images, groups, workers, size, stride, outputs):
    phases, _ = convolution.scatter_phases(size, (3, 3), (stride,) * 2, (1, 1), (1, 1))
    counts = np.zeros((images, *size, groups * outputs), int)
    for job in gathered_product._product_jobs(
            images, groups, phases, outputs, workers, 4 * TILE_ROWS, TILE_ROWS, 32):
        assert (job["last_pixel"] - job["first_pixel"]) <= 4 * TILE_ROWS
        q_y, q_x = np.divmod(np.arange(job["first_pixel"], job["last_pixel"]), job["grid_w"])
        columns = slice(job["group"] * outputs + job["first_output"],
                        job["group"] * outputs + job["last_output"])
        counts[job["image"], job["origin_y"] + stride * q_y, job["origin_x"] + stride * q_x,
               columns] += 1
    assert (counts == 1).all()


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("workers", [1, 2, 7])
@pytest.mark.parametrize("rows", [1, 27, 500])
@pytest.mark.parametrize("outputs", [1, 64, 200])
def test_jobs_of_a_gradient_cover_every_number_once(groups, workers, rows, outputs):
    counts = np.zeros((groups, rows, outputs), int)
    for job in gathered_gradient._gradient_jobs(groups, rows, outputs, workers, 64):
        assert job["last_output"] - job["first_output"] <= 64
        counts[job["group"], job["first_row"]:job["last_row"],
               job["first_output"]:job["last_output"]] += 1
    assert (counts == 1).all()


@pytest.mark.parametrize("size, outputs", [((375, 500), 64), ((12, 16), 4096), ((47, 63), 256)])
def test_every_thread_has_about_the_same_share(size, outputs):
    workers = 2
    jobs = gathered_product._product_jobs(
        1, 1, ((0, 9, 0, 0, *size),), outputs, workers, gathered_product.JOB_PIXELS, TILE_ROWS,
        32)
    work = ((jobs["last_pixel"] - jobs["first_pixel"])
            * (jobs["last_output"] - jobs["first_output"]))
    shares = [work[worker::workers].sum() for worker in range(workers)]
    assert max(shares) <= 1.1 * min(shares)


# ---- threads


def test_little_work_is_done_by_one_thread(calls, dtype, monkeypatch):
    monkeypatch.setattr(gathered_blocks, "PARALLEL_WORK", 9 * 9 * 144 * 40)
    x = np.zeros((1, 9, 9, 16), dtype)
    for outputs, threads in ((39, 1), (40, numba.get_num_threads())):
        cpu.convolution_forward(
            x, np.zeros((3, 3, 16, outputs), dtype), padding=(1, 1), algorithm="im2col")
        cpu.convolution_backward_weights(
            x, np.zeros((1, 9, 9, outputs), dtype), (3, 3), padding=(1, 1), algorithm="im2col")
        assert [len(scratch) for scratch, _, _ in calls] == [threads, threads]
        calls.clear()


# ---- memory


@pytest.fixture
def calls(monkeypatch):
    """Calls of the compiled tasks, as (scratch memory, Blocks, jobs), instead of running them."""
    found = []

    def note(task, count, workers, *arguments):
        assert workers == len(arguments[-1])
        (blocks,) = (each for each in arguments if isinstance(each, gathered_blocks.Blocks))
        (jobs,) = (each for each in arguments if isinstance(each, np.ndarray)
                   and each.dtype in (gathered_product.PRODUCT_JOB, gathered_gradient.JOB))
        assert count == len(jobs)
        found.append((arguments[-1], blocks, jobs))

    monkeypatch.setattr(gathered_product, "do_jobs", note)
    monkeypatch.setattr(gathered_gradient, "do_jobs", note)
    return found


class Large:
    """What launchers look at of an array that is too large to be made."""

    def __init__(self, shape, dtype):
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.size, self.itemsize = math.prod(shape), self.dtype.itemsize
        self.ndim = len(shape)

    def reshape(self, size):
        assert size == -1
        return self


@pytest.mark.parametrize("kernel, channels", [(3, 64), (7, 512)])
def test_scratch_memory_does_not_grow_with_the_image(calls, dtype, kernel, channels):
    sizes = []
    for height, width in [(20, 30), (2000, 3000)]:
        x = Large((1, height, width, channels), dtype)
        w = Large((kernel, kernel, channels, channels), dtype)
        taps = convolution.convolution_taps((kernel,) * 2, (kernel // 2,) * 2, (1, 1))
        gathered_product.product(x, w, w.shape, x, None, ((0, len(taps), 0, 0, height, width),),
                                 taps, (1, 1), (1, 1))
        gathered_gradient.gradient(x, x, w, taps, (1, 1))
        sizes.append([scratch.strides[0] for scratch, _, _ in calls])
        calls.clear()
    assert sizes[0] == sizes[1]
    assert 0 < max(sizes[1]) <= 3 * MEGABYTE


def test_scratch_memory_holds_the_buffers_of_a_block(calls, dtype):
    """A tile, panels of weights, and gathered rows up to the last of a tile."""
    x, w = np.zeros((1, 9, 9, 16), dtype), np.zeros((3, 3, 16, 40), dtype)
    cpu.convolution_forward(x, w, algorithm="im2col")
    cpu.convolution_backward_weights(
        x, np.zeros((1, 7, 7, 40), dtype), (3, 3), algorithm="im2col")
    for scratch, blocks, _ in calls:
        width = panel_width(np.dtype(dtype))
        assert blocks.columns % width == 0
        before = TILE_ROWS * width + blocks.depth * blocks.columns
        rows = -(-blocks.rows // blocks.tile_rows) * blocks.tile_rows
        assert scratch.shape[1] >= before + rows * blocks.depth
        assert scratch.dtype == dtype


# ---- block sizes


@pytest.mark.parametrize("module, name, value", [
    (gathered_product, "BLOCK_COLUMNS", 1), (gathered_gradient, "COLUMNS", 1),
    (gathered_gradient, "ROWS", TILE_ROWS), (gathered_gradient, "ROWS", 3 * TILE_ROWS)])
def test_results_do_not_depend_on_block_sizes(module, name, value, dtype, monkeypatch, agree):
    """The blocks that test_convolution.py leaves as they are."""
    rng = np.random.default_rng(1)
    options = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2}
    outputs = panel_width(np.dtype(dtype)) + 3      # of a group: a panel, and part of another
    x = rng.standard_normal((2, 9, 11, 6), dtype)
    w = rng.standard_normal((3, 3, 3, 2 * outputs), dtype)
    monkeypatch.setattr(module, name, value)
    y = cpu.convolution_forward(x, w, **options)
    gy = rng.standard_normal(y.shape, dtype)
    terms = 9 * max(outputs, gy.shape[1] * gy.shape[2])
    agree(y, naive.convolution_forward(x, w, **options), terms, "forward")
    agree(cpu.convolution_backward_input(gy, w, x.shape[1:3], **options),
          naive.convolution_backward_input(gy, w, x.shape[1:3], **options), terms, "input")
    agree(cpu.convolution_backward_weights(x, gy, (3, 3), **options),
          naive.convolution_backward_weights(x, gy, (3, 3), **options), terms, "weights")


# ---- phases


@pytest.mark.parametrize("size", [(1, 1), (4, 5), (7, 6)])
@pytest.mark.parametrize("kernel, stride, padding, dilation", [
    ((1, 1), (1, 1), (0, 0), (1, 1)),
    ((3, 3), (1, 1), (1, 1), (1, 1)),
    ((4, 4), (2, 2), (1, 1), (1, 1)),
    ((2, 5), (3, 2), (0, 2), (1, 1)),
    ((3, 2), (2, 3), (1, 0), (2, 1)),
    ((2, 2), (3, 3), (0, 0), (2, 2)),       # some outputs are reached by nothing
])
def test_phases_list_what_reaches_each_output(size, kernel, stride, padding, dilation):
    phases, taps = convolution.scatter_phases(size, kernel, stride, padding, dilation)
    found = {}
    for first, last, origin_y, origin_x, grid_h, grid_w in phases:
        for q_y, q_x in itertools.product(range(grid_h), range(grid_w)):
            output = origin_y + q_y * stride[0], origin_x + q_x * stride[1]
            assert output not in found, "an output belongs to two phases"
            found[output] = sorted((q_y + tap_y, q_x + tap_x, index)
                                   for tap_y, tap_x, index in taps[first:last].tolist())
    expected = {output: [] for output in itertools.product(range(size[0]), range(size[1]))}
    # Every input, far beyond those that exist, sends to stride * i - padding + k * dilation.
    for i_y, i_x in itertools.product(range(-12, 13), repeat=2):
        for k_y, k_x in itertools.product(range(kernel[0]), range(kernel[1])):
            output = (i_y * stride[0] - padding[0] + k_y * dilation[0],
                      i_x * stride[1] - padding[1] + k_x * dilation[1])
            if output in expected:
                expected[output].append((i_y, i_x, k_y * kernel[1] + k_x))
    assert found == {output: sorted(reached) for output, reached in expected.items()}
