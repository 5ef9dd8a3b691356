"""Convolution, forwards and backwards, by the algorithm that does all: im2col and a product.

Winograd's is tested in test_winograd.py.
"""
import pathlib
import re
import runpy

import numpy as np
import pytest
import scipy.signal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinyfcn.kernels import cpu, geometry
from tinyfcn.kernels.cpu import gathered_gradient, gathered_product
from tinyfcn.kernels.cpu.micro_kernel import TILE_ROWS


HERE = pathlib.Path(__file__).parent
SHARED = runpy.run_path(str(HERE / "convolution_cases.py"))
case, CASES, arrays, compare = (SHARED[name] for name in ("case", "CASES", "arrays", "compare"))


@pytest.mark.parametrize("name", CASES)
def test_cpu_gives_what_naive_gives(name, rng, dtype, agree):
    compare(CASES[name], rng, dtype, agree)


@pytest.mark.parametrize("tiles", [1, 2])
@pytest.mark.parametrize("rows_bytes", [1, 5000])
@pytest.mark.parametrize("vectors", [1, 2])
def test_block_sizes_do_not_matter(tiles, rows_bytes, vectors, monkeypatch, rng, dtype, agree):
    """Blocks far smaller than the images and sums of the cases, so that all of them are cut."""
    row_bytes = gathered_product.panel_width(np.dtype(dtype)) * np.dtype(dtype).itemsize
    depth = vectors * gathered_product.lanes_of(np.dtype(dtype))
    monkeypatch.setattr(gathered_product, "JOB_PIXELS", tiles * TILE_ROWS)
    monkeypatch.setattr(gathered_product, "ROWS_BYTES", rows_bytes)
    monkeypatch.setattr(gathered_product, "PANEL_BYTES", depth * row_bytes)
    monkeypatch.setattr(gathered_gradient, "DEPTH_BYTES", 12 * vectors)
    for name in ["odd sizes", "stride", "dilation, stride", "two groups", "3 to 16", "empty batch"]:
        compare(CASES[name], rng, dtype, agree)


@st.composite
def random_cases(draw, largest=3):
    """Convolutions of all kinds whose kernel fits the padded image."""
    small = st.integers(1, largest)
    groups, group_in, group_out = draw(small), draw(small), draw(small)
    kernel, stride = (draw(st.tuples(small, small)) for _ in range(2))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    size = [max(1, dilation[i] * (kernel[i] - 1) + 1 - 2 * padding[i]) + draw(st.integers(0, 3))
            for i in (0, 1)]
    return case((draw(st.integers(0, 2)), *size, groups * group_in),
                (*kernel, group_in, groups * group_out),
                stride=stride, padding=padding, dilation=dilation, groups=groups)


@given(shapes=random_cases(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None, derandomize=True, database=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_cpu_gives_what_naive_gives_at_random(shapes, seed, dtype, agree):
    compare(shapes, np.random.default_rng(seed), dtype, agree)


def test_forward_by_hand(ops, dtype):
    x = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], dtype).reshape(1, 3, 3, 1)
    w = np.array([[1, 2], [3, -4]], dtype).reshape(2, 2, 1, 1)
    # 1*1 + 2*2 + 4*3 - 5*4 = -3, each step right adds 2, each step down 3 * 2
    y = ops.convolution_forward(x, w)
    assert y.dtype == dtype
    assert y[0, :, :, 0].tolist() == [[-3, -1], [3, 5]]
    assert ops.convolution_forward(x, w, relu=True)[0, :, :, 0].tolist() == [[0, 0], [3, 5]]
    b = np.array([2], dtype)
    assert ops.convolution_forward(x, w, b)[0, :, :, 0].tolist() == [[-1, 1], [5, 7]]
    assert ops.convolution_forward(x, w, b, relu=True)[0, :, :, 0].tolist() == [[0, 1], [5, 7]]
    # The kernel's last tap alone meets the upper left corner: the kernel is not flipped.
    y = ops.convolution_forward(x, w, padding=(1, 1))[0, :, :, 0]
    assert y.tolist() == [[-4, -5, -6, 9], [-14, -3, -1, 21], [-20, 3, 5, 33], [14, 23, 26, 9]]
    assert ops.convolution_forward(x, w, stride=(1, 2), padding=(0, 1))[0, :, :, 0].tolist() == [
        [-14, -1], [-20, 5]]
    assert ops.convolution_forward(x, w, dilation=(2, 2))[0, :, :, 0].tolist() == [
        [1 + 2 * 3 + 3 * 7 - 4 * 9]]


def test_channels_and_groups_by_hand(ops, dtype):
    x = np.array([1, 10, 100, 1000], dtype).reshape(1, 1, 1, 4)
    w = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], dtype).reshape(1, 1, 2, 4)
    y = ops.convolution_forward(x, w, groups=2)
    assert y.ravel().tolist() == [51, 62, 7300, 8400]
    gx = ops.convolution_backward_input(y, w, (1, 1), groups=2)
    assert gx.ravel().tolist() == [51 + 124, 255 + 372, 21900 + 33600, 51100 + 67200]
    gw = ops.convolution_backward_weights(x, np.ones_like(y), (1, 1), groups=2)
    assert gw[0, 0].tolist() == [[1, 1, 100, 100], [10, 10, 1000, 1000]]


def test_backward_by_hand(ops, dtype):
    x = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], dtype).reshape(1, 3, 3, 1)
    w = np.array([[1, 2], [3, -4]], dtype).reshape(2, 2, 1, 1)
    gy = np.array([[1, 0], [0, 10]], dtype).reshape(1, 2, 2, 1)
    gx = ops.convolution_backward_input(gy, w, (3, 3))
    assert gx.dtype == dtype
    assert gx[0, :, :, 0].tolist() == [[1, 2, 0], [3, 6, 20], [0, 30, -40]]
    gw = ops.convolution_backward_weights(x, gy, (2, 2))
    assert gw.dtype == dtype
    assert gw[:, :, 0, 0].tolist() == [[51, 62], [84, 95]]
    assert ops.convolution_backward_bias(gy).tolist() == [11]


@pytest.mark.parametrize("stride, padding, dilation", [
    ((1, 1), (0, 0), (1, 1)), ((2, 3), (1, 2), (1, 1)), ((1, 2), (2, 0), (2, 3))])
def test_forward_is_scipys_correlation(stride, padding, dilation, ops, rng):
    x, w = rng.standard_normal((2, 9, 10, 3)), rng.standard_normal((3, 2, 3, 4))
    spread = np.zeros((dilation[0] * 2 + 1, dilation[1] + 1, 3, 4))
    spread[::dilation[0], ::dilation[1]] = w
    py, px = padding
    padded = np.pad(x, ((0, 0), (py, py), (px, px), (0, 0)))
    expected = np.stack([
        scipy.signal.correlate(image, spread[..., j], mode="valid")[..., 0]
        for image in padded for j in range(4)])
    expected = expected.reshape(2, 4, *expected.shape[1:]).transpose(0, 2, 3, 1)
    y = ops.convolution_forward(x, w, stride=stride, padding=padding, dilation=dilation)
    np.testing.assert_allclose(y, expected[:, ::stride[0], ::stride[1]], rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", CASES)
def test_backward_is_the_adjoint_of_forward(name, ops, rng):
    x, w, b, gy = arrays(CASES[name], rng, np.float64)
    options = CASES[name].options
    forward = np.vdot(gy, ops.convolution_forward(x, w, **options))
    gx = ops.convolution_backward_input(gy, w, x.shape[1:3], **options)
    gw = ops.convolution_backward_weights(x, gy, w.shape[:2], **options)
    assert np.vdot(gx, x) == pytest.approx(forward, rel=1e-12, abs=1e-12)
    assert np.vdot(gw, w) == pytest.approx(forward, rel=1e-12, abs=1e-12)
    biased = np.vdot(gy, ops.convolution_forward(x, w, b, **options))
    gb = ops.convolution_backward_bias(gy)
    assert np.vdot(gb, b) == pytest.approx(biased - forward, rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("x_shape, w_shape, padding", [
    ((1, 40, 50, 3), (3, 3, 3, 64), (1, 1)), ((2, 23, 19, 64), (3, 3, 64, 48), (1, 1)),
    ((1, 12, 13, 20), (7, 7, 20, 130), (0, 0)), ((1, 31, 33, 96), (1, 1, 96, 21), (0, 0)),
    ((1, 5, 6, 3), (3, 3, 3, 16), (30, 30))])
@pytest.mark.parametrize("algorithm, more_error", [("im2col", 1), (None, 8)])
def test_sizes_of_real_layers(x_shape, w_shape, padding, algorithm, more_error, dtype, rng, agree):
    """Images that take many tiles, by FFT and by the dot test: too slow for plain loops."""
    options = {"padding": padding, "algorithm": algorithm}
    x, w = rng.standard_normal(x_shape, dtype), rng.standard_normal(w_shape, dtype)
    py, px = padding
    padded = np.pad(x.astype(np.float64), ((0, 0), (py, py), (px, px), (0, 0)))
    flipped = w[::-1, ::-1].astype(np.float64)
    size = [geometry.convolution_size(x_shape[1 + i], w_shape[i], 1, padding[i]) for i in (0, 1)]
    expected = np.zeros((x_shape[0], *size, w_shape[3]))
    for j in range(w_shape[3]):
        expected[..., j] = scipy.signal.fftconvolve(
            padded, flipped[None, :, :, :, j], mode="valid", axes=(1, 2)).sum(axis=3)
    y = cpu.convolution_forward(x, w, **options)
    agree(y, expected.astype(dtype), more_error * w[..., 0].size)
    gy = rng.standard_normal(y.shape, dtype)
    forward = np.vdot(gy.astype(np.float64), expected)
    gx = cpu.convolution_backward_input(gy, w, x_shape[1:3], **options)
    gw = cpu.convolution_backward_weights(x, gy, w_shape[:2], **options)
    tolerance = 8 * more_error * np.finfo(dtype).eps * np.sqrt(gy.size) * w[..., 0].size
    assert np.vdot(gx.astype(np.float64), x) == pytest.approx(forward, abs=tolerance)
    assert np.vdot(gw.astype(np.float64), w) == pytest.approx(forward, abs=tolerance)


def test_a_nan_reaches_only_the_windows_that_hold_it(ops, dtype):
    x, w = np.ones((1, 6, 6, 3), dtype), np.ones((3, 3, 3, 5), dtype)
    x[0, 2, 3, 1] = np.nan
    expected = np.zeros((1, 6, 6, 5), bool)
    expected[0, 1:4, 2:5] = True
    for relu in (False, True):
        y = ops.convolution_forward(x, w, np.zeros(5, dtype), padding=(1, 1), relu=relu)
        np.testing.assert_array_equal(np.isnan(y), expected)
    # Nor does it stay behind in memory that is used again.
    y = ops.convolution_forward(np.ones((1, 3, 2, 1), dtype), np.ones((3, 3, 1, 2), dtype),
                                padding=(1, 1))
    assert y[0, :, :, 1].tolist() == [[4, 4], [6, 6], [4, 4]]


def pattern(message):
    """A regular expression in which parentheses, as of shapes, stand for themselves."""
    return message.replace("(", r"\(").replace(")", r"\)")


@pytest.mark.parametrize("x, w, options, message", [
    ((1, 5, 5, 4), (3, 3, 3, 2), {}, "4 channels.*(3, 3, 3, 2)"),
    ((5, 5, 3), (3, 3, 3, 2), {}, "x .*(5, 5, 3)"),
    ((1, 5, 5, 3), (3, 3, 3), {}, "w .*(3, 3, 3)"),
    ((1, 5, 5, 4), (3, 3, 2, 3), {"groups": 2}, "(3, 3, 2, 3).*groups=2"),
    ((1, 5, 5, 4), (3, 3, 4, 4), {"groups": 2}, "(3, 3, 4, 4).*groups=2"),
    ((1, 5, 5, 4), (3, 3, 2, 4), {}, "4 channels.*(3, 3, 2, 4).*groups=1"),
    ((1, 5, 5, 4), (3, 3, 4, 4), {"groups": 0}, "groups=0"),
])
def test_forward_shapes_that_do_not_fit(x, w, options, message):
    with pytest.raises(ValueError, match=pattern(message)):
        cpu.convolution_forward(np.zeros(x), np.zeros(w), **options)


@pytest.mark.parametrize("b", [(3,), (1, 2), ()])
def test_bias_that_does_not_fit(b):
    with pytest.raises(ValueError, match=re.escape(str(b))):
        cpu.convolution_forward(np.zeros((1, 5, 5, 3)), np.zeros((3, 3, 3, 2)), np.zeros(b))


@pytest.mark.parametrize("options, message", [
    ({}, "kernel larger than padded input"),
    ({"padding": (3, 3), "stride": (0, 1)}, "stride must be at least 1"),
    ({"padding": (-1, 3)}, "padding must be at least 0"),
    ({"padding": (3, 3), "dilation": (1, 0)}, "dilation must be at least 1"),
])
def test_sizes_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        cpu.convolution_forward(np.zeros((1, 2, 2, 1)), np.zeros((3, 3, 1, 1)), **options)


@pytest.mark.parametrize("gy, w, input_size, groups, message", [
    ((1, 3, 3, 2), (3, 3, 3, 4), (5, 5), 1, "gy (1, 3, 3, 2).*expected (n, 3, 3, 4)"),
    ((1, 3, 3, 4), (3, 3, 3, 4), (6, 5), 1, "gy (1, 3, 3, 4).*expected (n, 4, 3, 4)"),
    ((1, 3, 3, 4), (3, 3, 3, 4), (5, 4), 1, "gy (1, 3, 3, 4).*expected (n, 3, 2, 4)"),
    ((1, 3, 3, 4), (3, 3, 3, 4), (2, 5), 1, "kernel larger than padded input"),
    ((3, 3, 4), (3, 3, 3, 4), (5, 5), 1, "gy must have 4 axes, got shape (3, 3, 4)"),
    ((1, 3, 3, 4), (3, 3, 3, 4), (5, 5), 3, "groups=3"),
    ((1, 3, 3, 4), (3, 3, 3, 4), (5, 5), 0, "groups=0"),
])
def test_backward_input_shapes_that_do_not_fit(gy, w, input_size, groups, message):
    with pytest.raises(ValueError, match=pattern(message)):
        cpu.convolution_backward_input(np.zeros(gy), np.zeros(w), input_size, groups=groups)


@pytest.mark.parametrize("x, gy, kernel_size, groups, message", [
    ((1, 5, 5, 3), (1, 3, 3, 4), (2, 3), 1, "gy (1, 3, 3, 4).*expected (n, 4, 3, 4)"),
    ((1, 5, 5, 3), (1, 3, 3, 4), (3, 4), 1, "gy (1, 3, 3, 4).*expected (n, 3, 2, 4)"),
    ((1, 5, 5, 3), (1, 3, 3, 4), (6, 3), 1, "kernel larger than padded input"),
    ((2, 5, 5, 3), (1, 3, 3, 4), (3, 3), 1, "x (2, 5, 5, 3) and gy (1, 3, 3, 4)"),
    ((1, 5, 5, 3), (3, 3, 4), (3, 3), 1, "gy must have 4 axes, got shape (3, 3, 4)"),
    ((1, 5, 5, 3), (1, 3, 3, 4), (3, 3), 2, "groups=2"),
    ((1, 5, 5, 4), (1, 3, 3, 3), (3, 3), 2, "groups=2"),
    ((1, 5, 5, 4), (1, 3, 3, 4), (3, 3), 0, "groups=0"),
])
def test_backward_weights_shapes_that_do_not_fit(x, gy, kernel_size, groups, message):
    with pytest.raises(ValueError, match=pattern(message)):
        cpu.convolution_backward_weights(np.zeros(x), np.zeros(gy), kernel_size, groups=groups)
