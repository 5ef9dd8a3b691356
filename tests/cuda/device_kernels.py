"""Every kernel for GPUs against the plain loops of `naive`.

Not collected by itself: `test_simulator.py` runs it in Numba's simulator, `gpu.sh` on a GPU.
"""
import inspect
import pathlib
import runpy

import numpy as np
import pytest

from tinyfcn import arrays
from tinyfcn.kernels import cpu, cuda, naive
from tinyfcn.kernels.cuda import algorithms, launch, memory

pytestmark = pytest.mark.filterwarnings(
    "error::numba.core.errors.NumbaPerformanceWarning",
    "ignore:overflow encountered:RuntimeWarning")  # splitmix64 in the simulator

EPS = float(np.finfo(np.float32).eps)


def normal(rng, *shape):
    return rng.standard_normal(shape, np.float32)


def call(device, name, *args, stay=(), **kwargs):
    """Call a kernel of the GPU with copies of NumPy arrays, and bring back what it returns.

    `stay` are the places of arguments that the kernel takes from the host.
    """
    moved = [arrays.to_device(value, device)
             if isinstance(value, np.ndarray) and index not in stay else value
             for index, value in enumerate(args)]
    result = getattr(cuda, name)(*moved, **kwargs)
    parts = result if isinstance(result, tuple) else (result,)
    return [arrays.to_host(part) if isinstance(part, memory.DeviceArray)
            else part if part is None else float(part) for part in parts]


def check(device, name, *args, terms=1, stay=(), **kwargs):
    """Compare a kernel with the naive one; `terms` is how many products each result adds up."""
    expected = getattr(naive, name)(*args, **kwargs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    actual = call(device, name, *args, stay=stay, **kwargs)
    for found, wanted in zip(actual, expected, strict=True):
        if isinstance(wanted, np.ndarray):
            assert found.dtype == wanted.dtype
            assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=8 * EPS, atol=8 * EPS * max(1, terms))


CONVOLUTIONS = {
    "1x1": ((2, 3, 4, 8), (1, 1, 8, 8), {}),
    "one pixel": ((1, 1, 1, 3), (3, 3, 3, 5), {"padding": (1, 1)}),
    "kernel larger than the image": ((1, 2, 3, 4), (7, 7, 4, 6), {"padding": (3, 3)}),
    "stride and padding": ((2, 5, 6, 3), (3, 2, 3, 7), {"stride": (2, 3), "padding": (1, 2)}),
    "dilation": ((1, 6, 5, 5), (2, 3, 5, 4), {"dilation": (3, 2), "padding": (0, 2)}),
    "groups": ((1, 4, 5, 6), (3, 3, 2, 9), {"groups": 3, "padding": (1, 1)}),
    "depth of no tap's end": ((1, 3, 3, 12), (2, 2, 12, 4), {}),
    "all at once": ((2, 5, 6, 4), (3, 2, 2, 6), {
        "stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2}),
    "large tile": ((1, 6, 11, 4), (1, 1, 4, 65), {}),
    "tall tile": ((3, 5, 5, 3), (1, 1, 3, 33), {}),
    "no images": ((0, 4, 4, 4), (3, 3, 4, 4), {}),
}


def convolution_case(name, rng):
    x_shape, w_shape, options = CONVOLUTIONS[name]
    x, w, b = normal(rng, *x_shape), normal(rng, *w_shape), normal(rng, w_shape[3])
    y = naive.convolution_forward(x, w, b, **options)
    return x, w, b, normal(rng, *y.shape), options


@pytest.fixture
def sharing(monkeypatch):
    """However short a sum is, several blocks share it."""
    monkeypatch.setattr(launch, "LEAST_STEPS", 1)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution(name, device, rng):
    x, w, b, gy, options = convolution_case(name, rng)
    terms = w.size // w.shape[3]
    check(device, "convolution_forward", x, w, b, terms=terms, relu=name != "1x1", **options)
    check(device, "convolution_backward_input", gy, w, x.shape[1:3], terms=w.size, **options)
    check(device, "convolution_backward_weights", x, gy, w.shape[:2],
          terms=gy.size // gy.shape[3], **options)
    check(device, "convolution_backward_bias", gy, terms=gy.size // gy.shape[3])


@pytest.mark.parametrize("name", ["all at once", "one pixel", "groups"])
def test_convolution_whose_sums_several_blocks_share(name, device, rng, sharing):
    x, w, b, gy, options = convolution_case(name, rng)
    check(device, "convolution_forward", x, w, b, terms=w.size, relu=True, **options)
    check(device, "convolution_backward_input", gy, w, x.shape[1:3], terms=w.size, **options)
    check(device, "convolution_backward_weights", x, gy, w.shape[:2], terms=gy.size, **options)


def test_sums_are_really_shared(device, sharing):
    places = 2 * launch.multiprocessors()
    assert launch.shares(1, 2, 3, 100) == min(places, 3)
    assert launch.shares(1, 2, 1000, 100) == min(places, launch.MOST_SHARES)
    assert launch.shares(places // 2, 2, 1000, 100) == 2
    assert launch.shares(places // 2 + 1, 2, 1000, 100) == 1  # two would not have room at once
    assert launch.shares(places + 1, 2, 1000, 100) == 1
    assert launch.shares(1, 2, 1000, launch.SHARED_BYTES) == 1


def test_convolution_and_pooling_at_once(device, rng):
    x, w, b = normal(rng, 1, 3, 5, 4), normal(rng, 3, 3, 4, 4), normal(rng, 4)
    check(device, "convolution_forward", x, w, b, terms=36, relu=True, pool=True, padding=(1, 1))


FORWARD, INPUT, WEIGHTS = "forward", "backward_input", "backward_weights"
# Sizes of x and w, the padding, and what is computed; the simulator takes long where taps are many.
WINOGRADS = {
    "one pixel": ("winograd-2", (1, 1, 1, 1), (3, 3, 1, 2), (1, 1), (FORWARD, INPUT, WEIGHTS)),
    "several tiles": ("winograd-4", (2, 5, 6, 3), (3, 3, 3, 5), (1, 1), (FORWARD, INPUT, WEIGHTS)),
    "whole quads, no padding": (
        "winograd-2", (1, 6, 3, 4), (3, 3, 4, 8), (0, 0), (FORWARD, INPUT, WEIGHTS)),
    "much padding": ("winograd-2", (1, 2, 3, 2), (3, 3, 2, 3), (4, 0), (INPUT, WEIGHTS)),
    "large tiles": ("winograd-6", (1, 7, 2, 2), (3, 3, 2, 5), (1, 2), (FORWARD, WEIGHTS)),
    "7 x 7": ("winograd-2", (1, 2, 3, 2), (7, 7, 2, 3), (3, 3), (INPUT, WEIGHTS)),
    "no images": ("winograd-4", (0, 4, 4, 4), (3, 3, 4, 4), (1, 1), (FORWARD, INPUT, WEIGHTS)),
}


@pytest.mark.parametrize("name", WINOGRADS)
def test_winograds_algorithm(name, device, rng):
    algorithm, x_shape, w_shape, padding, kinds = WINOGRADS[name]
    x, w, b = normal(rng, *x_shape), normal(rng, *w_shape), normal(rng, w_shape[3])
    gy = normal(rng, *naive.convolution_forward(x, w, padding=padding).shape)
    for kind, args, terms in (
        (FORWARD, (x, w, b), w.size // w_shape[3]),
        (INPUT, (gy, w, x_shape[1:3]), w.size),
        (WEIGHTS, (x, gy, w_shape[:2]), gy.size),
    ):
        if kind in kinds:
            # Its numbers lose some digits on the way.
            check(device, f"convolution_{kind}", *args, terms=4 * terms, padding=padding,
                  algorithm=algorithm)


@pytest.mark.parametrize("size", [(4, 4), (3, 1)])
def test_pooling_and_relu_in_winograds_last_transform(size, device, rng):
    x, w, b = normal(rng, 1, *size, 2), normal(rng, 3, 3, 2, 3), normal(rng, 3)
    options = {"padding": (1, 1), "relu": True, "pool": True, "algorithm": "winograd-2"}
    check(device, "convolution_forward", x, w, b, terms=100, **options)


def test_winograds_algorithm_for_some_tiles_at_a_time(device, rng, monkeypatch):
    monkeypatch.setattr(launch, "WORKSPACE_BYTES", 2 * 4 * 16 * 8)  # of 3 tiles here, 2
    x, w, gy = normal(rng, 1, 2, 6, 3), normal(rng, 3, 3, 3, 2), normal(rng, 1, 2, 6, 2)
    options = {"padding": (1, 1), "algorithm": "winograd-2"}
    check(device, "convolution_forward", x, w, terms=100, **options)
    check(device, "convolution_backward_weights", x, gy, (3, 3), terms=200, **options)


def test_a_nan_is_not_lost_by_winograds_algorithm(device, rng):
    x, w = normal(rng, 1, 4, 4, 2), normal(rng, 3, 3, 2, 2)
    x[0, 3, 3, 0] = np.nan
    for pool in False, True:
        y, = call(device, "convolution_forward", x, w, padding=(1, 1), relu=True, pool=pool,
                  algorithm="winograd-2")
        assert np.isnan(y[0, -1, -1]).all() and not np.isnan(y[0, 0, 0]).any()


TASK = algorithms.Task(1, 96, 125, 256, 256, (3, 3), (1, 1), (1, 1), 1, ready=True)


@pytest.mark.parametrize("peaks, changes, chosen", [
    ((2e13, 1e12), {}, "winograd-6"),
    ((2e13, 1e10), {}, "im2col"),                 # its memory is too slow for what is moved
    ((2e13, 1e12), {"out_h": 1, "out_w": 1}, "im2col"),
    ((2e13, 1e12), {"inputs": 3}, "im2col"),
    ((2e13, 1e12), {"stride": (2, 2)}, "im2col"),
    ((2e13, 1e12), {"dilation": (2, 2)}, "im2col"),
    ((2e13, 1e12), {"groups": 2}, "im2col"),
    ((2e13, 1e12), {"kernel_size": (3, 1)}, "im2col"),
    ((2e13, 1e12), {"kernel_size": (1, 1)}, "im2col"),
    ((2e13, 1e12), {"kernel_size": (7, 7), "outputs": 512}, "winograd-2"),
])
def test_the_cheapest_algorithm_is_chosen(peaks, changes, chosen, device, monkeypatch):
    monkeypatch.setattr(launch, "peaks", lambda: launch.Peaks(*peaks))
    monkeypatch.setattr(launch, "capability", lambda: (8, 0))
    algorithms.cost.cache_clear()
    algorithms._cheapest.cache_clear()
    try:
        assert algorithms.choose(TASK._replace(**changes)) == chosen
        assert algorithms.choose(TASK._replace(**changes), gradient=True) == chosen
        algorithms.set_precision("bf16")
        assert algorithms.choose(TASK._replace(**changes)) == "im2col-bf16"
    finally:
        algorithms.set_precision("float32")
        algorithms.cost.cache_clear()
        algorithms._cheapest.cache_clear()


def test_a_choice_is_what_runs(device, rng, monkeypatch):
    """Forward, both gradients and prepared weights ask for the same, and do it."""
    x, w, b = normal(rng, 1, 4, 4, 3), normal(rng, 3, 3, 3, 2), normal(rng, 2)
    gy, asked = normal(rng, 1, 4, 4, 2), []

    def cheapest(task, gradient):
        asked.append((task, gradient))
        return "winograd-2"

    monkeypatch.setattr(algorithms, "_cheapest", cheapest)
    check(device, "convolution_forward", x, w, b, terms=100, padding=(1, 1))
    check(device, "convolution_backward_input", gy, w, (4, 4), terms=100, padding=(1, 1))
    check(device, "convolution_backward_weights", x, gy, (3, 3), terms=200, padding=(1, 1))
    prepared = cuda.prepare_weights(arrays.to_device(w, device), x.shape, padding=(1, 1))
    assert prepared.algorithm == "winograd-2"
    y = cuda.convolution_forward(arrays.to_device(x, device), prepared, padding=(1, 1))
    np.testing.assert_allclose(
        arrays.to_host(y), naive.convolution_forward(x, w, padding=(1, 1)), atol=1e-4)
    square = (1, 4, 4, 3, 2, (3, 3), (1, 1), (1, 1), 1)
    turned = (1, 4, 4, 2, 3, (3, 3), (1, 1), (1, 1), 1)
    assert asked == [((*square, False), False), ((*turned, False), False), ((*square, False), True),
                     ((*square, True), False)]


@pytest.mark.parametrize("name", ["one pixel", "groups"])
def test_prepared_weights(name, device, rng):
    x, w, b, _, options = convolution_case(name, rng)
    expected = call(device, "convolution_forward", x, w, b, **options)[0]
    prepared = cuda.prepare_weights(arrays.to_device(w, device), x.shape, **options)
    actual = cuda.convolution_forward(
        arrays.to_device(x, device), prepared, arrays.to_device(b, device), **options)
    np.testing.assert_array_equal(arrays.to_host(actual), expected)


# Half a unit in the last of 10 or 7 bits of mantissa, of each factor.
@pytest.mark.parametrize("algorithm, rounding", [
    (algorithms.TF32, 2.0**-11), (algorithms.BF16, 2.0**-8)])
@pytest.mark.parametrize("name", ["1x1", "all at once", "kernel larger than the image"])
def test_convolution_on_tensor_cores(name, algorithm, rounding, device, rng, tensor_cores):
    """Within what rounding the factors may cost, and not closer than it nearly always does."""
    x, w, b, gy, options = convolution_case(name, rng)
    for kernel, args in (
        ("convolution_forward", (x, w, b)),
        ("convolution_backward_input", (gy, w, x.shape[1:3])),
        ("convolution_backward_weights", (x, gy, w.shape[:2])),
    ):
        expected = getattr(naive, kernel)(*args, **options)
        sizes = [np.abs(arg) if isinstance(arg, np.ndarray) else arg for arg in args]
        bound = (2 * rounding + rounding**2) * getattr(naive, kernel)(*sizes, **options)
        actual, = call(device, kernel, *args, algorithm=algorithm, **options)
        assert actual.shape == expected.shape
        error = np.abs(actual - expected)
        assert (error <= bound + 1e-4 * rounding + 64 * EPS).all()
        assert error.max() > 0.01 * rounding * np.abs(expected).mean()


@pytest.mark.parametrize("algorithm", [algorithms.TF32, algorithms.BF16])
def test_large_tile_on_tensor_cores(algorithm, device, rng, tensor_cores):
    # Numbers of a few bits, which no rounding changes.
    x = rng.integers(-4, 5, (1, 6, 11, 4)).astype(np.float32)
    w = rng.integers(-4, 5, (1, 1, 4, 65)).astype(np.float32)
    actual, = call(device, "convolution_forward", x, w, algorithm=algorithm)
    np.testing.assert_array_equal(actual, naive.convolution_forward(x, w))
    gy = rng.integers(-4, 5, actual.shape).astype(np.float32)
    actual, = call(device, "convolution_backward_input", gy, w, (6, 11), algorithm=algorithm)
    np.testing.assert_array_equal(actual, naive.convolution_backward_input(gy, w, (6, 11)))


@pytest.mark.parametrize("algorithm", [algorithms.IM2COL, algorithms.TF32, algorithms.BF16])
def test_parts_of_a_deep_sum_follow_each_other(algorithm, device, rng):
    """More of them than shared memory holds at a time, the last one not full."""
    if algorithm != algorithms.IM2COL and launch.capability() < algorithms.TENSOR_CORES:
        pytest.skip("this GPU has no tensor cores for TF32 and BF16")
    x = rng.integers(-4, 5, (1, 9, 11, 20)).astype(np.float32)
    w = rng.integers(-4, 5, (3, 2, 20, 33)).astype(np.float32)
    actual, = call(device, "convolution_forward", x, w, algorithm=algorithm)
    expected = naive.convolution_forward(x, w)
    np.testing.assert_array_equal(actual, expected)
    gy = rng.integers(-4, 5, expected.shape).astype(np.float32)
    actual, = call(device, "convolution_backward_input", gy, w, (9, 11), algorithm=algorithm)
    np.testing.assert_array_equal(actual, naive.convolution_backward_input(gy, w, (9, 11)))
    actual, = call(device, "convolution_backward_weights", x, gy, (3, 2), algorithm=algorithm)
    np.testing.assert_array_equal(actual, naive.convolution_backward_weights(x, gy, (3, 2)))


@pytest.mark.parametrize("x_shape, w_shape, options", [
    ((2, 3, 2, 3), (4, 5, 3, 5), {"stride": (2, 3), "padding": (1, 1)}),
    ((1, 1, 1, 2), (4, 4, 2, 2), {"stride": (2, 2), "output_size": (3, 7)}),
    ((1, 2, 3, 4), (1, 1, 4, 4), {"stride": (2, 2), "output_size": (4, 5)}),  # pixels without a tap
])
def test_transposed_convolution(x_shape, w_shape, options, device, rng):
    x, w = normal(rng, *x_shape), normal(rng, *w_shape)
    check(device, "transposed_convolution_forward", x, w, terms=w.size, **options)
    y = naive.transposed_convolution_forward(x, w, **options)
    geometry = {key: value for key, value in options.items() if key != "output_size"}
    gy = normal(rng, *y.shape)
    check(device, "transposed_convolution_backward_input", gy, w, x.shape[1:3], terms=w.size,
          **geometry)
    check(device, "transposed_convolution_backward_weights", x, gy, w.shape[:2],
          terms=gy.size // gy.shape[3], **geometry)


@pytest.mark.parametrize("size", [(6, 5), (7, 9), (1, 1)])
def test_interpolation(size, device, rng):
    x, rows = normal(rng, 2, 3, 2, 3), np.array([0.25, 0.75, 0.75, 0.25], np.float32)
    filters = rows, rows[::-1].copy(), (2, 2), (1, 1)
    check(device, "interpolate", x, *filters, size, terms=4, stay=(1, 2))
    gy = normal(rng, 2, *size, 3)
    check(device, "interpolate_backward", gy, *filters, (3, 2), terms=16, stay=(1, 2))
    labels, _ = cuda.interpolate_classify(arrays.to_device(x, device), *filters, size)
    np.testing.assert_array_equal(
        arrays.to_host(labels), naive.interpolate_classify(x, *filters, size)[0])


@pytest.mark.parametrize("turn_a", [False, True])
@pytest.mark.parametrize("turn_b", [False, True])
@pytest.mark.parametrize("m, k, n", [(1, 1, 1), (7, 9, 6), (3, 33, 34)])
def test_matrix_product(m, k, n, turn_a, turn_b, device, rng):
    a = normal(rng, k, m) if turn_a else normal(rng, m, k)
    b = normal(rng, n, k) if turn_b else normal(rng, k, n)
    check(device, "matrix_product", a, b, turn_a, turn_b, terms=k)


@pytest.mark.parametrize("shape, kernel, stride, padding, ceil", [
    ((1, 5, 7, 9), (2, 2), (2, 2), (0, 0), True),
    ((2, 7, 6, 3), (3, 3), (2, 2), (1, 1), False),
    ((1, 4, 6, 3), (2, 3), (1, 2), (0, 1), True),
    ((1, 17, 18, 1), (17, 16), (1, 1), (0, 0), False),
    ((1, 1, 1, 1), (2, 2), (2, 2), (0, 0), True),
])
def test_max_pooling(shape, kernel, stride, padding, ceil, device, rng):
    x = rng.integers(-3, 3, shape).astype(np.float32)  # many are equal
    x.ravel()[::7] = np.nan
    options = {"padding": padding, "ceil": ceil}
    y, argmax = naive.max_pooling_forward(x, kernel, stride, **options)
    check(device, "max_pooling_forward", x, kernel, stride, **options)
    alone = call(device, "max_pooling_forward", x, kernel, stride, keep_argmax=False, **options)
    np.testing.assert_array_equal(alone[0], y)
    assert alone[1] is None
    check(device, "max_pooling_backward", normal(rng, *y.shape), argmax, shape[1:3], kernel,
          stride, padding=padding, terms=y.size)


SHAPES = [(1,), (2, 3, 4, 5), (257,), (0, 3)]


@pytest.mark.parametrize("shape", SHAPES)
def test_elementwise(shape, device, rng):
    a, b = normal(rng, *shape), normal(rng, *shape)
    if a.size > 2:
        a.ravel()[1] = np.nan
    check(device, "relu_forward", a)
    check(device, "relu_backward", b, a)
    check(device, "add", a, b)
    check(device, "scale", a, 0.01)
    check(device, "bias_relu", a, normal(rng, shape[-1]))
    for rate in 0, 0.3, 0.999:
        check(device, "dropout", a, rate, 2**63 + 12345)


def test_crop(device, rng):
    check(device, "crop_forward", normal(rng, 2, 5, 4, 3), (1, 2), (3, 2))
    check(device, "crop_backward", normal(rng, 2, 3, 2, 3), (1, 2), (5, 4))


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 1, 9), (1, 7, 10, 33)])
def test_batch_norm(shape, device, rng):
    x, c = normal(rng, *shape) + 3, shape[3]
    mean, var = naive.batch_norm_statistics(x)
    gamma, beta = normal(rng, c), normal(rng, c)
    check(device, "batch_norm_statistics", x, terms=10)
    check(device, "batch_norm_forward", x, mean, var, gamma, beta, 1e-2, terms=300)
    gy = normal(rng, *shape)
    check(device, "batch_norm_backward", gy, x, mean, var, gamma, 1e-2, terms=1000)
    check(device, "batch_norm_forward", x, mean, var, gamma, beta, 1e-2, relu=True, terms=300)
    check(device, "batch_norm_backward", gy, x, mean, var, gamma, 1e-2, beta, terms=1000)


@pytest.mark.parametrize("shape, size, alpha, beta, k", [
    ((2, 3, 2, 7), 5, 1e-4, 0.75, 1.0), ((1, 2, 3, 2), 5, 0.5, 0.5, 2.0),
    ((1, 1, 1, 9), 1, 1, 2, 1)])
def test_local_response_normalization(shape, size, alpha, beta, k, device, rng):
    x, gy = normal(rng, *shape), normal(rng, *shape)
    check(device, "local_response_normalization_forward", x, size, alpha, beta, k, terms=10)
    check(device, "local_response_normalization_backward", gy, x, size, alpha, beta, k, terms=50)
    with pytest.raises(ValueError, match="size must be odd, got 4"):
        call(device, "local_response_normalization_forward", x, 4, alpha, beta, k)


@pytest.mark.parametrize("shape", [(2, 3, 2, 5), (1, 1, 1, 1), (1, 1, 9, 300)])
def test_loss(shape, device, rng):
    scores = normal(rng, *shape) * 5
    scores.flat[0] = 1000
    labels = rng.integers(-1, min(shape[3], 7) + 1, shape[:-1])
    labels[labels == shape[3]] = 99
    check(device, "softmax", scores, terms=100)
    check(device, "classify", scores, terms=100)
    weights = rng.uniform(0.3, 3, shape[3])
    for class_weights in None, weights:
        expected = naive.softmax_cross_entropy(scores, labels, 99, class_weights)
        loss, weight, gscores = call(device, "softmax_cross_entropy", scores, labels, 99,
                                     class_weights, stay=(1, 3))
        assert loss == pytest.approx(float(expected[0]), rel=1e-5, abs=1e-6)
        assert weight == pytest.approx(float(expected[1]))
        np.testing.assert_allclose(gscores, expected[2], atol=1e-5)


CALLS = runpy.run_path(str(pathlib.Path(__file__).parents[1] / "kernels/calls.py"))["CALLS"]

# What takes the simulator longer than 7 s; the last more than a minute. On a GPU all are run.
LONG = {
    "batch_norm_backward", "batch_norm_statistics", "convolution_backward_bias",
    "convolution_backward_input", "convolution_backward_input winograd",
    "convolution_backward_weights", "convolution_backward_weights winograd",
    "convolution_forward winograd", "convolution_forward winograd, few tiles",
    "interpolate_classify", "convolution_backward_weights winograd, many tiles",
} if launch.SIMULATED else set()


@pytest.mark.parametrize("name", sorted(set(CALLS) - LONG - {"prepare_weights"}))
def test_what_the_cpus_kernels_are_called_with(name, device, rng):
    """The same calls, in sizes that leave remainders everywhere, against the CPU's results."""
    kernel = name.partition(" ")[0]
    args, options = CALLS[name](rng, np.float32)
    stay = (1,) if kernel == "softmax_cross_entropy" else ()
    moved = [arrays.to_device(value, device) if isinstance(value, np.ndarray) and index not in stay
             else value for index, value in enumerate(args)]
    found, wanted = (getattr(ops, kernel)(*values, **options)
                     for ops, values in ((cuda, moved), (cpu, args)))
    pairs = list(zip(found, wanted)) if isinstance(wanted, tuple) else [(found, wanted)]
    if wanted is None:  # it changes what it is given
        pairs = list(zip(moved, args))
    for actual, expected in pairs:
        if isinstance(expected, np.ndarray):
            actual = arrays.to_host(actual)
            assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
        expected = np.asarray(expected, float)
        np.testing.assert_allclose(np.asarray(actual, float), expected, rtol=1e-4,
                                   atol=1e-4 * np.abs(expected).max())


def test_loss_is_read_when_asked_for(device, rng):
    scores = arrays.to_device(normal(rng, 1, 2, 2, 3), device)
    loss, weight, _ = cuda.softmax_cross_entropy(scores, np.zeros((1, 2, 2), np.uint8), 255)
    assert not isinstance(loss, float)
    assert float(loss / 2) == float(loss) / 2
    assert weight == 4


@pytest.mark.parametrize("shape", [(3, 5), (1,), (0,)])
def test_updates(shape, device, rng):
    w, g, v = (normal(rng, *shape) for _ in range(3))
    moved = [arrays.to_device(array, device) for array in (w, g, v)]
    square = abs(v)
    moved.append(arrays.to_device(square, device))
    for ops, (weights, gradient, velocity, squares) in (
            (cuda, moved), (naive, (w, g, v, square))):
        ops.sgd_momentum(weights, gradient, velocity, 0.1, 0.9, 0.01)
        ops.sgd_momentum(weights, gradient, velocity, 0.1, 0.9, 0.01, nesterov=True)
        ops.adam(weights, gradient, velocity, squares, 0.1, 0.9, 0.99, 1e-3, 0.01, 3)
        ops.move_towards(weights, gradient, 0.25)
    for array, expected in zip(moved, (w, g, v, square)):
        np.testing.assert_allclose(arrays.to_host(array), expected, rtol=1e-5, atol=1e-6)


# ---- errors


def test_arrays_of_the_host_are_an_error(device, rng):
    with pytest.raises(TypeError, match="add: argument 2 is not on the GPU but a ndarray"):
        cuda.add(arrays.to_device(normal(rng, 3), device), normal(rng, 3))


def test_float64_is_an_error(device, rng):
    x = arrays.to_device(np.zeros((1, 2, 2, 3)), device)
    with pytest.raises(ValueError, match="on a GPU all arrays must be float32, got float64"):
        cuda.relu_forward(x)


def test_arrays_beyond_32_bit_places_are_an_error(device):
    small = arrays.to_device(np.zeros(1, np.float32), device)
    huge = memory.DeviceArray(small.block, (1, 2**16, 2**15, 1))
    with pytest.raises(ValueError, match="larger than the 2147483644 numbers"):
        cuda.convolution_backward_bias(huge)


@pytest.mark.parametrize("call_it, message", [
    (lambda x, w: cuda.convolution_forward(x, w), "does not fit"),
    (lambda x, w: cuda.convolution_forward(x, x, algorithm="fast"), "does not fit"),
    (lambda x, w: cuda.add(x, w), "expected"),
    (lambda x, w: cuda.crop_forward(x, (1, 1), (2, 2)), "reaches outside"),
    (lambda x, w: cuda.dropout(x, 1, 0), "rate must be"),
    (lambda x, w: cuda.max_pooling_forward(x, (5, 5), (1, 1)), "kernel larger"),
    (lambda x, w: cuda.softmax_cross_entropy(x, np.full((1, 2, 2), 3), 9),
     "label 3 with 3 classes"),
    (lambda x, w: cuda.softmax_cross_entropy(x, np.zeros((1, 2, 2)), 9), "labels are float64"),
    (lambda x, w: x.reshape(5, -1), "cannot reshape"),
])
def test_what_does_not_fit_is_an_error(call_it, message, device, rng):
    x = arrays.to_device(normal(rng, 1, 2, 2, 3), device)
    w = arrays.to_device(normal(rng, 1, 1, 4, 3), device)
    with pytest.raises(ValueError, match=message):
        call_it(x, w)


def test_unknown_algorithms_are_an_error(device, rng):
    x, w = (arrays.to_device(normal(rng, *shape), device) for shape in ((1, 2, 2, 3), (1, 1, 3, 3)))
    with pytest.raises(ValueError, match="algorithm must be one of 'im2col', .* on a GPU"):
        cuda.convolution_forward(x, w, algorithm="fft")
    with pytest.raises(ValueError, match="winograd-4 is for kernels of 3 x 3"):
        cuda.convolution_forward(x, w, algorithm="winograd-4")
    with pytest.raises(ValueError, match="precision must be one of float32, tf32, bf16"):
        algorithms.set_precision("fp8")


# ---- memory


@pytest.mark.parametrize("array", [
    np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::2], np.zeros((0, 3), np.float32),
    np.array([[1, 2]], np.uint8), np.arange(5.0)])
def test_arrays_come_back_as_they_went(array, device):
    there = arrays.to_device(array, device)
    assert (there.shape, there.dtype, there.size) == (array.shape, array.dtype, array.size)
    assert arrays.device_of(there) == device
    back = arrays.to_host(there)
    np.testing.assert_array_equal(back, array)
    assert arrays.to_device(there, device) is there
    assert arrays.to_host(back) is back


def test_uploads_one_after_another_do_not_mix(device, rng):
    sent = [normal(rng, 50) for _ in range(5)]
    there = [arrays.to_device(array, device) for array in sent]
    for array, expected in zip(there, sent):
        np.testing.assert_array_equal(arrays.to_host(array), expected)


def test_a_second_run_of_a_shape_allocates_nothing(device, rng, monkeypatch):
    x, w = normal(rng, 1, 4, 4, 3), normal(rng, 3, 3, 3, 5)

    def run():
        return call(device, "convolution_forward", x, w, padding=(1, 1))[0]

    run()
    run()  # the second of two places for uploads
    asked = []
    monkeypatch.setattr(memory, "_allocate", lambda *args: asked.append(args))
    run()
    assert asked == []


def test_memory_that_runs_out_is_one_line(device, monkeypatch):
    class OutOfMemory(RuntimeError):
        code = "CUDA_ERROR_OUT_OF_MEMORY"

    def refuse(*_):
        raise OutOfMemory

    memory.empty((123,))  # waits in the pool when it is gone
    monkeypatch.setattr(memory.cuda, "device_array", refuse)
    with pytest.raises(arrays.DeviceMemoryError,
                       match="not enough memory on cuda:0: 48 MiB more are needed, "
                             ".* MiB are free"):
        memory.empty((12, 2**20), np.float32)
    assert memory._blocks.idle == {}


def test_what_the_driver_says_is_one_line(device, rng, monkeypatch):
    error = type("CudaAPIError", (Exception,), {"__module__": "numba.cuda.cudadrv.driver"})

    def fail(*_):
        raise error("[700] Call to cuLaunchKernel results in\nCUDA_ERROR_ILLEGAL_ADDRESS")

    x = arrays.to_device(normal(rng, 3), device)
    monkeypatch.setattr(launch, "compute_stream", fail)
    monkeypatch.setattr(launch, "_abandon", lambda: None)
    with pytest.raises(arrays.DeviceError,
                       match="^cuda:0 failed: .*in CUDA_ERROR_ILLEGAL_ADDRESS$"):
        cuda.relu_forward(x)


def test_one_process_uses_one_gpu(device):
    with pytest.raises(arrays.DeviceError, match="uses cuda:0 already, it cannot use cuda:7"):
        launch.select(7)


def test_every_kernel_is_called_here():
    source = inspect.getsource(inspect.getmodule(call))
    for name in cuda.__all__:
        assert f'"{name}"' in source or f".{name}(" in source, name


def test_tiles_are_chosen_by_what_they_waste():
    tiles = launch.TILES
    assert tiles == ((128, 128), (128, 64), (64, 32))
    assert [launch.choose_tile(tiles, *size) for size in (
        (65, 65), (10**6, 512), (10**6, 64), (64, 512), (10**6, 21))] == [0, 0, 1, 2, 2]
