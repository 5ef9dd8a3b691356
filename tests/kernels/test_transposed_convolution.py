"""Transposed convolution, forwards and backwards."""
import re
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.signal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinyfcn.kernels import cpu, geometry, naive


def case(x, w, output_size=None, **options):
    """Shapes and options; x (n, h, w, in), w (kh, kw, in, out)."""
    return SimpleNamespace(x=x, w=w, output_size=output_size, options=options)


CASES = {
    "one pixel, 1x1": case((1, 1, 1, 1), (1, 1, 1, 1)),
    "one pixel": case((1, 1, 1, 3), (4, 4, 3, 2), stride=(2, 2)),
    "odd sizes": case((1, 3, 5, 3), (3, 5, 3, 4), stride=(2, 1)),
    "empty batch": case((0, 2, 3, 2), (4, 4, 2, 2), stride=(2, 2)),
    "kernel 4, stride 2": case((2, 3, 2, 5), (4, 4, 5, 5), stride=(2, 2)),
    "padding": case((1, 3, 4, 2), (4, 3, 2, 3), stride=(2, 2), padding=(1, 2)),
    "stride larger than the kernel": case((1, 3, 3, 2), (2, 1, 2, 3), stride=(4, 3)),
    "smaller output": case((1, 3, 4, 2), (4, 4, 2, 2), (5, 3), stride=(2, 2)),
    "larger output": case((1, 3, 4, 2), (4, 4, 2, 2), (13, 12), stride=(2, 2)),
    "smaller and larger output": case((1, 3, 4, 2), (3, 4, 2, 3), (2, 17), stride=(3, 2)),
    "output of one pixel": case((1, 3, 3, 2), (4, 4, 2, 2), (1, 1), stride=(2, 2), padding=(1, 1)),
    "padding cuts everything off": case((1, 1, 1, 2), (2, 2, 2, 2), (3, 3), padding=(4, 4)),
    "1 to 17": case((1, 2, 3, 1), (4, 4, 1, 17), stride=(2, 2)),
    "16 to 1": case((1, 3, 2, 16), (3, 3, 16, 1), stride=(2, 2)),
    "17 to 16": case((1, 2, 2, 17), (3, 3, 17, 16), stride=(2, 2)),
    "21 to 21": case((1, 2, 2, 21), (4, 4, 21, 21), stride=(2, 2)),
    "33 to 5": case((1, 2, 2, 33), (2, 2, 33, 5), stride=(1, 1)),
    "3 to 64": case((1, 2, 2, 3), (4, 4, 3, 64), stride=(2, 2)),
    "kernel 16, stride 8": case((1, 2, 3, 2), (16, 16, 2, 2), (11, 19), stride=(8, 8)),
}


def arrays(shapes, rng, dtype):
    """Return x, w and gy of a case, and its output size."""
    stride = shapes.options.get("stride", (1, 1))
    padding = shapes.options.get("padding", (0, 0))
    size = shapes.output_size or tuple(
        geometry.transposed_convolution_size(shapes.x[1 + i], shapes.w[i], stride[i], padding[i])
        for i in (0, 1))
    gy = shapes.x[0], *size, shapes.w[3]
    return *(rng.standard_normal(shape, dtype) for shape in (shapes.x, shapes.w, gy)), size


def compare(shapes, rng, dtype, agree):
    x, w, gy, _ = arrays(shapes, rng, dtype)
    options = shapes.options
    agree(cpu.transposed_convolution_forward(x, w, output_size=shapes.output_size, **options),
          naive.transposed_convolution_forward(x, w, output_size=shapes.output_size, **options),
          w[..., 0].size)
    agree(cpu.transposed_convolution_backward_input(gy, w, x.shape[1:3], **options),
          naive.transposed_convolution_backward_input(gy, w, x.shape[1:3], **options),
          w[:, :, 0].size)
    agree(cpu.transposed_convolution_backward_weights(x, gy, w.shape[:2], **options),
          naive.transposed_convolution_backward_weights(x, gy, w.shape[:2], **options),
          x[..., 0].size)


@pytest.mark.parametrize("name", CASES)
def test_cpu_gives_what_naive_gives(name, rng, dtype, agree):
    compare(CASES[name], rng, dtype, agree)


@st.composite
def random_cases(draw):
    small = st.integers(1, 3)
    size, stride = (draw(st.tuples(small, small)) for _ in range(2))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    padding = [draw(st.integers(0, min(2, (stride[i] * (size[i] - 1) + kernel[i] - 1) // 2)))
               for i in (0, 1)]
    output_size = draw(st.none() | st.tuples(st.integers(1, 12), st.integers(1, 12)))
    channels = draw(small)
    return case((draw(st.integers(0, 2)), *size, channels), (*kernel, channels, draw(small)),
                output_size, stride=stride, padding=tuple(padding))


@given(shapes=random_cases(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None, derandomize=True, database=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_cpu_gives_what_naive_gives_at_random(shapes, seed, dtype, agree):
    compare(shapes, np.random.default_rng(seed), dtype, agree)


def test_forward_by_hand(ops, dtype):
    x = np.array([[1, 10], [100, 1000]], dtype).reshape(1, 2, 2, 1)
    w = np.array([[1, 2], [3, 4]], dtype).reshape(2, 2, 1, 1)
    y = ops.transposed_convolution_forward(x, w)
    assert y.dtype == dtype
    assert y[0, :, :, 0].tolist() == [[1, 12, 20], [103, 1234, 2040], [300, 3400, 4000]]
    y = ops.transposed_convolution_forward(x, w, stride=(2, 3))
    assert y[0, :, :, 0].tolist() == [
        [1, 2, 0, 10, 20], [3, 4, 0, 30, 40], [100, 200, 0, 1000, 2000], [300, 400, 0, 3000, 4000]]
    y = ops.transposed_convolution_forward(x, w, padding=(1, 0))
    assert y[0, :, :, 0].tolist() == [[103, 1234, 2040]]
    y = ops.transposed_convolution_forward(x, w, padding=(1, 1), output_size=(3, 1))
    assert y[0, :, :, 0].tolist() == [[1234], [3400], [0]]


def test_channels_by_hand(ops, dtype):
    x = np.array([1, 10], dtype).reshape(1, 1, 1, 2)
    w = np.array([[1, 2, 3], [4, 5, 6]], dtype).reshape(1, 1, 2, 3)
    assert ops.transposed_convolution_forward(x, w).ravel().tolist() == [41, 52, 63]
    gy = np.array([1, 0, 100], dtype).reshape(1, 1, 1, 3)
    gx = ops.transposed_convolution_backward_input(gy, w, (1, 1))
    assert gx.ravel().tolist() == [301, 604]
    gw = ops.transposed_convolution_backward_weights(x, gy, (1, 1))
    assert gw[0, 0].tolist() == [[1, 0, 100], [10, 0, 1000]]


def test_bilinear_upsampling_by_hand(ops, dtype):
    """Stride 2, kernel 4, padding 1: new pixels lie a quarter of the way to their neighbours."""
    row = np.array([0.25, 0.75, 0.75, 0.25], dtype)
    w = (row[:, None] * row).reshape(4, 4, 1, 1)
    x = np.array([[0, 4, 8], [0, 4, 8]], dtype).reshape(1, 2, 3, 1)
    y = ops.transposed_convolution_forward(x, w, stride=(2, 2), padding=(1, 1))
    assert y.shape == (1, 4, 6, 1)
    assert y[0, 1, :, 0].tolist() == [0, 1, 3, 5, 7, 6]     # the edge has a zero neighbour
    assert y[0, 0, :, 0].tolist() == [0, 0.75, 2.25, 3.75, 5.25, 4.5]


@pytest.mark.parametrize("kernel, stride, channels", [(4, 2, 3), (16, 8, 3), (64, 32, 2)])
def test_forward_is_scipys_convolution_of_zeros_between(kernel, stride, channels, rng):
    """The upsamplings of FCN, on the CPU alone: too slow for plain loops."""
    x = rng.standard_normal((2, 3, 5, channels))
    w = rng.standard_normal((kernel, kernel, channels, channels))
    spread = np.zeros((2, 2 * stride + 1, 4 * stride + 1, channels))
    spread[:, ::stride, ::stride] = x
    expected = np.stack([
        sum(scipy.signal.convolve(spread[i, :, :, c], w[:, :, c, j]) for c in range(channels))
        for i in range(2) for j in range(channels)])
    expected = expected.reshape(2, channels, *expected.shape[1:]).transpose(0, 2, 3, 1)
    y = cpu.transposed_convolution_forward(x, w, stride=(stride, stride))
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", CASES)
def test_backward_is_the_adjoint_of_forward(name, ops, rng):
    x, w, gy, size = arrays(CASES[name], rng, np.float64)
    options = CASES[name].options
    y = ops.transposed_convolution_forward(x, w, output_size=size, **options)
    gx = ops.transposed_convolution_backward_input(gy, w, x.shape[1:3], **options)
    gw = ops.transposed_convolution_backward_weights(x, gy, w.shape[:2], **options)
    assert np.vdot(gx, x) == pytest.approx(np.vdot(gy, y), rel=1e-12, abs=1e-12)
    assert np.vdot(gw, w) == pytest.approx(np.vdot(gy, y), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("stride, padding", [((1, 1), (0, 0)), ((2, 3), (1, 2))])
def test_forward_is_the_adjoint_of_convolution(stride, padding, ops, rng):
    """Its name: <convolution(v), x> = <v, transposed(x)> with the kernel's channels swapped."""
    v, w = rng.standard_normal((2, 7, 8, 3)), rng.standard_normal((3, 4, 3, 2))
    u = ops.convolution_forward(v, w, stride=stride, padding=padding)
    x = rng.standard_normal(u.shape)
    y = ops.transposed_convolution_forward(x, w.transpose(0, 1, 3, 2), stride, padding, (7, 8))
    assert np.vdot(y, v) == pytest.approx(np.vdot(x, u), rel=1e-12)


@pytest.mark.parametrize("x, w, message", [
    ((1, 2, 2, 3), (4, 4, 2, 2), "channels of w: expected 3, got 2"),
    ((2, 2, 3), (4, 4, 3, 2), "x must have 4 axes, got shape (2, 2, 3)"),
    ((1, 2, 2, 3), (4, 3, 2), "w must have 4 axes, got shape (4, 3, 2)"),
])
def test_forward_shapes_that_do_not_fit(x, w, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        cpu.transposed_convolution_forward(np.zeros(x), np.zeros(w))


@pytest.mark.parametrize("options, message", [
    ({"stride": (0, 1)}, "stride must be at least 1"),
    ({"padding": (2, 2)}, "nothing left of the output"),
    ({"output_size": (0, 3)}, "output"),
])
def test_sizes_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        cpu.transposed_convolution_forward(np.zeros((1, 1, 1, 1)), np.zeros((3, 3, 1, 1)),
                                           **options)


def test_backward_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="channels of gy: expected 2, got 3"):
        cpu.transposed_convolution_backward_input(np.zeros((1, 4, 4, 3)), np.zeros((4, 4, 3, 2)),
                                                  (2, 2))
    with pytest.raises(ValueError, match="images: expected 2, got 1"):
        cpu.transposed_convolution_backward_weights(np.zeros((2, 2, 2, 3)), np.zeros((1, 4, 4, 2)),
                                                    (4, 4))
