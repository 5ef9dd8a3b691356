"""The choice of a convolution's algorithm."""
import numpy as np
import pytest

from tinyfcn.kernels import cpu
from tinyfcn.kernels.cpu import algorithms
from tinyfcn.kernels.cpu.algorithms import Task, choose, cost, name_of, tile_of

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def task(inputs, outputs, size, kernel=(3, 3), images=1, **more):
    options = {"stride": (1, 1), "dilation": (1, 1), "groups": 1, **more}
    return Task(images, *size, inputs, outputs, kernel, **options)


@pytest.mark.parametrize("name, tile", [
    ("im2col", None), ("winograd-2", 2), ("winograd-6", 6), ("winograd-11", 11)])
def test_names(name, tile):
    assert tile_of(name) == tile
    assert name_of(tile) == name


@pytest.mark.parametrize("name", [
    "", "fft", "winograd", "winograd-", "winograd-0", "winograd--2", "winograd-x", "winograd-2.0",
    "winograd-²", "im2col-2", "Winograd-2"])
def test_other_names_are_an_error(name):
    message = f"algorithm must be 'im2col' or 'winograd-M', got {name!r}"
    with pytest.raises(ValueError) as error:
        tile_of(name)
    assert str(error.value) == message
    x, w = np.zeros((1, 5, 5, 2)), np.zeros((3, 3, 2, 2))
    for run in (lambda: cpu.convolution_forward(x, w, algorithm=name),
                lambda: cpu.prepare_weights(w, x.shape, algorithm=name),
                lambda: cpu.convolution_backward_input(x[:, :3, :3], w, (5, 5), algorithm=name),
                lambda: cpu.convolution_backward_weights(x, x[:, :3, :3], (3, 3), algorithm=name)):
        with pytest.raises(ValueError) as error:
            run()
        assert str(error.value) == message


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64])
@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("different", [
    {"kernel": (3, 5)}, {"stride": (2, 1)}, {"stride": (2, 2)}, {"dilation": (1, 2)},
    {"groups": 2}, {"kernel": (9, 9)}, {"kernel": (2, 2)}])
def test_what_does_not_fit_is_never_chosen(different, gradient, dtype):
    for inputs, outputs, size in [(512, 512, (56, 56)), (64, 64, (224, 224)), (2, 2, (1, 1))]:
        assert choose(task(inputs, outputs, size, **different), gradient, dtype) == "im2col"


@pytest.mark.parametrize("gradient", [False, True])
def test_im2col_serves_1x1(gradient):
    # fc7 and score_fr at 375x500.
    assert choose(task(4096, 4096, (12, 16), (1, 1)), gradient, FLOAT32) == "im2col"
    assert choose(task(4096, 21, (12, 16), (1, 1)), gradient, FLOAT32) == "im2col"


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("channels, size", [(256, (94, 125)), (512, (47, 63)), (512, (24, 32))])
def test_winograd_serves_the_deep_layers(channels, size, gradient):
    assert choose(task(channels, channels, size), gradient, FLOAT32) in ("winograd-4", "winograd-6")
    fc6 = task(512, 4096, (12, 16), (7, 7))
    assert choose(fc6, gradient, FLOAT32) in ("winograd-2", "winograd-3")


def test_the_choice_depends_on_the_task_alone():
    tasks = [task(inputs, 4 * inputs, (size, size + 3), images=images)
             for inputs in (8, 64, 200) for size in (3, 14, 60) for images in (1, 4)]
    first = [choose(each, gradient, FLOAT32) for each in tasks for gradient in (False, True)]
    choose.cache_clear()
    cost.cache_clear()
    again = [choose(each, gradient, FLOAT32)
             for each in reversed(tasks) for gradient in (True, False)]
    assert again[::-1] == first
    assert len(set(first)) > 1


def test_the_cheapest_is_chosen():
    each = task(128, 128, (60, 60))
    costs = {name: cost(name, each, False, FLOAT32)
             for name in ["im2col", *(name_of(m) for m in algorithms.TILES[3])]}
    assert choose(each, False, FLOAT32) == min(costs, key=costs.get)
    assert min(costs.values()) > 0


def test_the_choice_is_what_is_done(rng):
    """Other tiles lose other digits: the same bits come from the same algorithm."""
    x = rng.standard_normal((1, 30, 30, 64), np.float32)
    w = rng.standard_normal((3, 3, 64, 64), np.float32)
    chosen = choose(task(64, 64, (30, 30)), False, FLOAT32)
    y = cpu.convolution_forward(x, w, padding=(1, 1))
    same = {name for name in ["im2col", *(name_of(m) for m in algorithms.TILES[3])]
            if np.array_equal(y, cpu.convolution_forward(x, w, padding=(1, 1), algorithm=name))}
    assert same == {chosen}
    assert cpu.prepare_weights(w, x.shape, padding=(1, 1)).algorithm in {
        "im2col", *(name_of(m) for m in algorithms.TILES[3])}


@pytest.mark.parametrize("different", [
    {"inputs": 16}, {"outputs": 18}, {"dilation": (1, 2)}, {"groups": 3, "inputs": 3}])
def test_rows_of_few_channels_are_read_in_place(different):
    few = {"inputs": 3, "outputs": 64, "size": (9, 9)}
    assert algorithms.reads_in_place(task(**few), FLOAT32)
    assert algorithms.reads_in_place(task(**few, kernel=(11, 11), stride=(4, 4)), FLOAT32)
    assert not algorithms.reads_in_place(task(**{**few, **different}), FLOAT32)
