"""Size arithmetic, against numbers counted by hand or given by the networks' papers."""
import numpy as np
import pytest

from tinyfcn.kernels import geometry


def windows(size, extent, stride, padding):
    """Count the windows of `extent` that fit, by laying them one after the other."""
    count, start = 0, -padding
    while start + extent <= size + padding:
        count, start = count + 1, start + stride
    return count


@pytest.mark.parametrize("value, expected", [
    (3, (3, 3)), ((1, 2), (1, 2)), ([4, 5], (4, 5)), (np.int64(7), (7, 7)),
    (np.array([1, 2]), (1, 2)),
])
def test_pair(value, expected):
    result = geometry.pair(value)
    assert result == expected
    assert all(type(part) is int for part in result)


@pytest.mark.parametrize("value", [(1,), (1, 2, 3), ()])
def test_pair_of_another_length_is_an_error(value):
    with pytest.raises(ValueError, match="pair of ints"):
        geometry.pair(value)


@pytest.mark.parametrize("value", [1.5, (1.5, 2), "ab", None])
def test_pair_of_something_else_is_an_error(value):
    with pytest.raises(TypeError, match="pair of ints"):
        geometry.pair(value)


@pytest.mark.parametrize("arguments, expected", [
    ((5, 3), 3), ((5, 3, 2), 2), ((6, 3, 2), 2), ((5, 3, 1, 1), 5), ((1, 3, 1, 1), 1),
    ((5, 3, 1, 0, 2), 1), ((7, 7), 1), ((227, 11, 4), 55), ((500, 3, 1, 100), 698),
    ((22, 7), 16), ((4, 2, 5), 1),
])
def test_convolution_size(arguments, expected):
    assert geometry.convolution_size(*arguments) == expected


def test_convolution_size_counts_windows():
    for size in range(1, 9):
        for kernel in range(1, 4):
            for stride in range(1, 5):
                for padding in range(3):
                    for dilation in range(1, 4):
                        extent = dilation * (kernel - 1) + 1
                        count = windows(size, extent, stride, padding)
                        arguments = size, kernel, stride, padding, dilation
                        if count:
                            assert geometry.convolution_size(*arguments) == count
                        else:
                            with pytest.raises(ValueError, match="kernel larger than padded"):
                                geometry.convolution_size(*arguments)


def test_pooling_halves_as_in_fcn():
    sizes = [698]
    for _ in range(5):
        sizes.append(geometry.pooling_size(sizes[-1], 2, 2, 0, ceil=True))
    assert sizes == [698, 349, 175, 88, 44, 22]


@pytest.mark.parametrize("arguments, expected", [
    ((5, 2, 2, 0, False), 2), ((5, 2, 2, 0, True), 3), ((4, 2, 2, 0, True), 2),
    ((1, 2, 2, 0, True), 1),        # the only window reaches over the edge
    ((4, 3, 2, 1, True), 3),        # starts at -1, 1, 3
    ((3, 2, 2, 1, True), 2),        # -1, 1; one at 3 would lie in the padding
    ((2, 2, 2, 1, True), 2),        # -1, 1
    ((3, 2, 4, 0, True), 1),        # one at 4 would lie beyond the image
    ((55, 3, 2, 0, True), 27), ((6, 3, 2, 0, True), 3), ((6, 3, 2, 0, False), 2),
])
def test_pooling_size(arguments, expected):
    assert geometry.pooling_size(*arguments) == expected


def test_pooling_windows_hold_a_pixel_and_cover_the_image():
    for size in range(1, 9):
        for kernel in range(1, 5):
            for stride in range(1, kernel + 1):
                for padding in range(kernel):
                    try:
                        out = geometry.pooling_size(size, kernel, stride, padding, ceil=True)
                    except ValueError:
                        assert size + 2 * padding <= kernel - stride
                        continue
                    starts = [o * stride - padding for o in range(out)]
                    covered = {i for s in starts for i in range(s, s + kernel)}
                    assert all(max(s, 0) < min(s + kernel, size) for s in starts)
                    assert covered >= set(range(size))


@pytest.mark.parametrize("arguments, message", [
    ((1, 2, 2, 0, False), "kernel larger than padded input"),
    ((4, 2, 2, 2, True), "padding 2 must be smaller than the kernel 2"),
    ((0, 2, 2, 0, True), "size must be at least 1, got 0"),
    ((4, 0, 2, 0, True), "kernel must be at least 1, got 0"),
    ((4, 2, 0, 0, True), "stride must be at least 1, got 0"),
    ((4, 2, 2, -1, True), "padding must be at least 0, got -1"),
])
def test_pooling_size_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        geometry.pooling_size(*arguments)


@pytest.mark.parametrize("arguments, message", [
    ((5, 7), "kernel 7 with dilation 1 spans 7, input 5 with padding 0 has 5"),
    ((5, 3, 1, 0, 3), "kernel 3 with dilation 3 spans 7, input 5 with padding 0 has 5"),
    ((0, 1), "size must be at least 1, got 0"),
    ((5, 0), "kernel must be at least 1, got 0"),
    ((5, 3, 0), "stride must be at least 1, got 0"),
    ((5, 3, 1, -1), "padding must be at least 0, got -1"),
    ((5, 3, 1, 0, 0), "dilation must be at least 1, got 0"),
])
def test_convolution_size_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        geometry.convolution_size(*arguments)


@pytest.mark.parametrize("arguments, expected", [
    ((16, 64, 32, 0), 544), ((34, 4, 2, 0), 70), ((70, 16, 8, 0), 568), ((3, 4, 2, 1), 6),
    ((1, 1, 5, 0), 1),
])
def test_transposed_convolution_size(arguments, expected):
    assert geometry.transposed_convolution_size(*arguments) == expected


@pytest.mark.parametrize("arguments, message", [
    ((1, 2, 2, 1), "nothing left of the output"),
    ((0, 2, 2, 0), "size must be at least 1, got 0"),
    ((1, 2, 0, 0), "stride must be at least 1, got 0"),
    ((1, 2, 1, -1), "padding must be at least 0, got -1"),
])
def test_transposed_convolution_size_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        geometry.transposed_convolution_size(*arguments)


def test_crop_stop():
    assert geometry.crop_stop(10, 3, 7) == 10
    assert geometry.crop_stop(10, 0, 1) == 1


@pytest.mark.parametrize("offset, length", [(4, 7), (-1, 3), (0, 0), (10, 1)])
def test_crop_outside_is_an_error(offset, length):
    with pytest.raises(ValueError, match=f"crop of {length} at offset {offset} does not lie"):
        geometry.crop_stop(10, offset, length)
