"""Upsampling by separable filters, each channel for itself."""
import numpy as np
import pytest

from tinyfcn.kernels import cpu, naive
from tinyfcn.kernels.cpu import simd
from tinyfcn.layers.transposed_convolution import bilinear_filter

# x's shape, kernel size, stride, padding, output size
CASES = {
    "one pixel": ((1, 1, 1, 1), (1, 1), (1, 1), (0, 0), (1, 1)),
    "one pixel, twice": ((1, 1, 1, 3), (4, 4), (2, 2), (1, 1), (2, 2)),
    "empty batch": ((0, 3, 4, 3), (4, 4), (2, 2), (1, 1), (6, 8)),
    "no output": ((1, 3, 4, 3), (4, 4), (2, 2), (1, 1), (0, 8)),
    "twice, odd": ((2, 3, 5, 4), (4, 4), (2, 2), (1, 1), (5, 9)),
    "eight times": ((1, 3, 2, 21), (16, 16), (8, 8), (4, 4), (23, 15)),
    "uneven": ((1, 4, 3, 17), (3, 5), (2, 3), (1, 1), (7, 8)),
    "gaps": ((1, 3, 2, 2), (2, 1), (3, 2), (0, 0), (8, 3)),
    "no stride": ((1, 4, 5, 2), (3, 3), (1, 1), (1, 1), (4, 5)),
    "larger than what reaches it": ((1, 2, 2, 2), (4, 4), (2, 2), (0, 0), (9, 11)),
    "far padding": ((1, 4, 4, 2), (4, 4), (2, 2), (5, 6), (2, 1)),
}


@pytest.mark.parametrize("name", CASES)
def test_cpu_gives_what_naive_gives(name, rng, dtype, agree):
    shape, kernel, *geometry = CASES[name]
    x = rng.standard_normal(shape, dtype)
    rows, columns = (rng.standard_normal(size, dtype) for size in kernel)
    agree(cpu.interpolate(x, rows, columns, *geometry),
          naive.interpolate(x, rows, columns, *geometry), kernel[0] * kernel[1])
    *geometry, size = geometry
    gy = rng.standard_normal((shape[0], *size, shape[3]), dtype)
    arguments = rows, columns, *geometry, shape[1:3]
    agree(cpu.interpolate_backward(gy, *arguments), naive.interpolate_backward(gy, *arguments),
          kernel[0] * kernel[1])


@pytest.mark.parametrize("name", ["one pixel, twice", "twice, odd", "uneven", "no stride"])
def test_size_of_its_own(name, ops, rng, dtype, agree):
    shape, kernel, stride, padding, _ = CASES[name]
    x = rng.standard_normal(shape, dtype)
    rows, columns = (rng.standard_normal(size, dtype) for size in kernel)
    y = ops.interpolate(x, rows, columns, stride, padding)
    w = np.outer(rows, columns)[:, :, None, None] * np.eye(shape[3])
    expected = naive.transposed_convolution_forward(x, w.astype(dtype), stride, padding)
    agree(y, expected, kernel[0] * kernel[1])


@pytest.mark.parametrize("name", [name for name in CASES if name != "gaps"])
def test_classes_without_the_scores(name, rng, dtype):
    """In "gaps" whole pixels are zero: there rounding decides nothing, but the order of classes."""
    shape, kernel, *geometry = CASES[name]
    x = rng.standard_normal(shape, dtype)
    rows, columns = (rng.uniform(0.5, 1, size) for size in kernel)
    labels, confidence = cpu.interpolate_classify(x, rows, columns, *geometry)
    expected_labels, expected_confidence = naive.interpolate_classify(x, rows, columns, *geometry)
    assert labels.dtype == np.uint8 and confidence.dtype == np.float32
    np.testing.assert_array_equal(labels, expected_labels)
    np.testing.assert_allclose(confidence, expected_confidence, rtol=2e-5)


def test_many_classes_and_none(rng):
    x = rng.standard_normal((1, 2, 2, 300), np.float32)
    linear = np.array([0.25, 0.75, 0.75, 0.25])
    arguments = linear, linear, (2, 2), (1, 1), (4, 4)
    labels, confidence = cpu.interpolate_classify(x, *arguments)
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels, naive.interpolate_classify(x, *arguments)[0])
    x[0, 0, 0, 299] = np.nan
    assert np.isnan(cpu.interpolate_classify(x, *arguments)[1][0, 0, 0])
    with pytest.raises(ValueError, match="interpolate_classify: no classes"):
        cpu.interpolate_classify(x[..., :0], *arguments)


@pytest.mark.parametrize("beyond", [-1, 0, 1])
@pytest.mark.parametrize("vectors", [1, 2])
def test_channels_around_whole_vectors(vectors, beyond, rng, dtype, agree):
    channels = vectors * simd.lanes_of(np.dtype(dtype)) + beyond
    x = rng.standard_normal((1, 3, 4, channels), dtype)
    rows, columns = rng.standard_normal((2, 4), dtype)
    arguments = rows, columns, (2, 2), (1, 1), (6, 7)
    agree(cpu.interpolate(x, *arguments), naive.interpolate(x, *arguments), 16)


@pytest.mark.parametrize("stride", [(2, 2), (8, 8), (3, 2)])
@pytest.mark.parametrize("channels", [3, 21, 40])
def test_it_is_the_transposed_convolution_by_a_diagonal_filter(stride, channels, rng, dtype, agree):
    kernel, padding = [2 * s for s in stride], [s // 2 for s in stride]
    w = bilinear_filter(kernel, channels, dtype)
    rows, columns = w[:, :, 0, 0].sum(1), w[:, :, 0, 0].sum(0)
    total = w[:, :, 0, 0].sum()
    x = rng.standard_normal((2, 5, 7, channels), dtype)
    size = 5 * stride[0] - 1, 7 * stride[1]
    found = cpu.interpolate(x, rows / total, columns, stride, padding, size)
    agree(found, cpu.transposed_convolution_forward(x, w, stride, padding, output_size=size), 16)


def test_by_hand(ops, dtype):
    x = np.array([[8, 16], [24, 64]], dtype).reshape(1, 2, 2, 1)
    linear = np.array([0.25, 0.75, 0.75, 0.25], dtype)
    y = ops.interpolate(x, linear, linear, (2, 2), (1, 1), (4, 4))
    assert y.dtype == dtype
    # Along a row of 8 and 16: 0.75 * 8, 0.75 * 8 + 0.25 * 16, 0.25 * 8 + 0.75 * 16, 0.75 * 16.
    top, bottom = np.array([6, 10, 14, 12]), np.array([18, 34, 54, 48])
    np.testing.assert_array_equal(y[0, :, :, 0], np.outer([0.75, 0.75, 0.25, 0], top)
                                  + np.outer([0, 0.25, 0.75, 0.75], bottom))


def test_a_nan_reaches_only_the_pixels_it_belongs_to(dtype):
    x = np.ones((1, 4, 4, 5), dtype)
    x[0, 1, 2, 3] = np.nan
    linear = np.array([0.25, 0.75, 0.75, 0.25])
    y = cpu.interpolate(x, linear, linear, (2, 2), (1, 1), (8, 8))
    expected = np.zeros(y.shape, bool)
    expected[0, 1:5, 3:7, 3] = True
    np.testing.assert_array_equal(np.isnan(y), expected)


@pytest.mark.parametrize("x, message", [
    (np.zeros((3, 4, 2)), "x must have 4 axes"), (np.zeros((1, 3, 4, 2), np.int32), "int32")])
def test_what_it_does_not_take(x, message):
    with pytest.raises(ValueError, match=f"interpolate: .*{message}"):
        cpu.interpolate(x, [1.0], [1.0], (1, 1), (0, 0), (3, 4))
