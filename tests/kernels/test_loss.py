"""Soft-max, cross-entropy and the choice of a class."""
import math
import re

import numpy as np
import pytest
import scipy.special

from tinyfcn.kernels import cpu, naive

SHAPES = [(1, 1, 1, 1), (1, 1, 1, 2), (2, 3, 5, 11), (1, 4, 3, 16), (1, 2, 3, 17), (1, 5, 7, 21),
          (1, 3, 2, 33), (1, 1, 2, 64), (0, 3, 4, 5)]
shapes = pytest.mark.parametrize("shape", SHAPES)
labels_as = pytest.mark.parametrize("label_type", [np.int32, np.uint8])


@shapes
def test_softmax_as_naive(shape, rng, dtype, agree):
    scores = 5 * rng.standard_normal(shape, dtype)
    agree(cpu.softmax(scores), naive.softmax(scores), 4)


@shapes
@labels_as
def test_loss_as_naive(shape, label_type, rng, dtype, agree):
    scores = 5 * rng.standard_normal(shape, dtype)
    labels = rng.integers(0, shape[-1] + 1, shape[:-1]).astype(label_type)
    labels[labels == shape[-1]] = 255
    loss, count, gscores = cpu.softmax_cross_entropy(scores, labels, 255)
    expected_loss, expected_count, expected_gscores = naive.softmax_cross_entropy(
        scores, labels, 255)
    assert type(loss) is float and count == expected_count
    eps = float(np.finfo(dtype).eps)
    assert loss == pytest.approx(expected_loss, rel=16 * eps, abs=64 * eps * max(count, 1))
    agree(gscores, expected_gscores, 4)


@shapes
def test_classify_as_naive(shape, rng, dtype):
    scores = 5 * rng.standard_normal(shape, dtype)
    labels, confidence = cpu.classify(scores)
    expected_labels, expected_confidence = naive.classify(scores)
    np.testing.assert_array_equal(labels, expected_labels, strict=True)
    assert confidence.dtype == np.float32
    np.testing.assert_allclose(confidence, expected_confidence, rtol=2e-6, strict=True)


def test_softmax_by_hand(ops, dtype):
    scores = np.log(np.array([1, 2, 5], dtype)).reshape(1, 1, 1, 3)
    p = ops.softmax(scores)
    assert p.dtype == dtype
    np.testing.assert_allclose(p.ravel(), [1 / 8, 2 / 8, 5 / 8], rtol=1e-6)


def test_softmax_is_scipys(ops, rng):
    scores = 20 * rng.standard_normal((2, 3, 4, 7))
    np.testing.assert_allclose(ops.softmax(scores), scipy.special.softmax(scores, -1), rtol=1e-12)


@pytest.mark.parametrize("shift", [0, 1e4, -1e4, 1e30])
def test_large_scores_do_not_overflow(shift, ops, dtype):
    scores = (np.array([0, 1e4, 1e4, -np.inf]) + shift).astype(dtype).reshape(1, 1, 1, 4)
    p = ops.softmax(scores)
    assert np.isfinite(p).all()
    if abs(shift) < 1e30:
        assert p.ravel().tolist() == [0, 0.5, 0.5, 0]
    loss, _, gscores = ops.softmax_cross_entropy(scores, np.zeros((1, 1, 1), np.int32), 255)
    assert math.isfinite(loss) and np.isfinite(gscores).all()
    if abs(shift) < 1e30:
        assert loss == pytest.approx(1e4 + math.log(2))
    _, confidence = ops.classify(scores)
    assert np.isfinite(confidence).all()


@labels_as
def test_loss_by_hand(label_type, ops, dtype):
    # p is 1/4, 3/4 everywhere; the labels are 0, 1 and ignored.
    scores = np.array([[0, math.log(3)]] * 3, dtype).reshape(1, 1, 3, 2)
    labels = np.array([[[0, 1, 11]]], label_type)
    loss, count, gscores = ops.softmax_cross_entropy(scores, labels, 11)
    assert type(loss) is float and count == 2
    assert loss == pytest.approx(math.log(4) + math.log(4 / 3), rel=1e-6)
    assert gscores.dtype == dtype
    np.testing.assert_allclose(gscores[0, 0], [[-.75, .75], [.25, -.25], [0, 0]], rtol=1e-6)


def test_negative_labels_are_ignored(ops, dtype):
    scores = np.zeros((1, 1, 2, 3), dtype)
    loss, count, gscores = ops.softmax_cross_entropy(scores, np.array([[[-1, -7]]], np.int32), 255)
    assert (loss, count) == (0, 0)
    assert not gscores.any()


def test_an_ignored_label_may_be_a_class(ops, dtype):
    scores = np.zeros((1, 1, 2, 4), dtype)
    loss, count, gscores = ops.softmax_cross_entropy(scores, np.array([[[2, 1]]], np.uint8), 2)
    assert count == 1
    assert loss == pytest.approx(math.log(4))
    assert not gscores[0, 0, 0].any() and gscores[0, 0, 1].any()


def test_ignored_pixels_may_hold_anything(ops, dtype):
    scores = np.zeros((1, 1, 2, 2), dtype)
    scores[0, 0, 0] = np.nan
    loss, count, gscores = ops.softmax_cross_entropy(scores, np.array([[[255, 0]]], np.uint8), 255)
    assert loss == pytest.approx(math.log(2)) and count == 1
    assert gscores[0, 0, 0].tolist() == [0, 0]


@labels_as
@pytest.mark.parametrize("label", [3, 100, 254])
def test_label_beyond_the_classes_is_an_error(label, label_type, ops):
    labels = np.zeros((1, 6, 7), label_type)
    labels[0, 5, 6] = label
    with pytest.raises(ValueError, match=f"label {label}.*3 classes"):
        ops.softmax_cross_entropy(np.zeros((1, 6, 7, 3)), labels, 255)


def test_gradient_against_finite_differences(ops, rng):
    scores = 2 * rng.standard_normal((2, 2, 1, 3))
    labels = np.array([0, 2, 255, 1], np.int32).reshape(2, 2, 1)
    _, _, gscores = ops.softmax_cross_entropy(scores, labels, 255)
    h = 1e-5
    for index in np.ndindex(scores.shape):
        ends = []
        for sign in (1, -1):
            moved = scores.copy()
            moved[index] += sign * h
            ends.append(ops.softmax_cross_entropy(moved, labels, 255)[0])
        assert gscores[index] == pytest.approx((ends[0] - ends[1]) / (2 * h), abs=1e-8), index


def test_many_pixels(rng, dtype):
    """Against SciPy in float64, on the CPU alone: too slow for plain loops."""
    scores = (3 * rng.standard_normal((1, 120, 160, 21))).astype(dtype)
    labels = rng.integers(0, 21, (1, 120, 160)).astype(np.uint8)
    loss, count, gscores = cpu.softmax_cross_entropy(scores, labels, 255)
    wide = scores.astype(np.float64)
    expected = -np.take_along_axis(scipy.special.log_softmax(wide, -1),
                                   labels[..., None].astype(int), -1)
    assert count == labels.size
    assert loss == pytest.approx(expected.sum(), rel=float(4 * np.finfo(dtype).eps) + 1e-13)
    expected_gradient = scipy.special.softmax(wide, -1) - np.eye(21)[labels]
    np.testing.assert_allclose(gscores, expected_gradient, rtol=0, atol=16 * np.finfo(dtype).eps)


@pytest.mark.parametrize("classes", [3, 21])
def test_a_nan_among_the_scores_shows_in_the_confidence(classes, dtype):
    scores = np.zeros((1, 2, 5, classes), dtype)
    scores[..., 2] = 1
    scores[0, 1, 3, 1] = np.nan
    labels, confidence = cpu.classify(scores)
    expected = np.full((1, 2, 5), 2)
    expected[0, 1, 3] = 0
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(np.isnan(confidence), expected == 0)


def test_classify_by_hand(ops, dtype):
    scores = np.array([[0, math.log(2), 0], [5, 5, -9], [1, 2, 2]], dtype).reshape(1, 3, 1, 3)
    labels, confidence = ops.classify(scores)
    assert labels.dtype == np.uint8 and labels.shape == (1, 3, 1)
    assert labels.ravel().tolist() == [1, 0, 1]     # the first on ties
    assert confidence.dtype == np.float32
    assert confidence.ravel() == pytest.approx([
        0.5, 1 / (2 + math.exp(-14)), 1 / (2 + math.exp(-1))], rel=1e-6)


@pytest.mark.parametrize("classes, name", [(1, "uint8"), (256, "uint8"), (257, "uint16"),
                                           (1000, "uint16")])
def test_labels_take_the_smallest_type(classes, name, ops, dtype):
    scores = np.zeros((1, 1, 1, classes), dtype)
    scores[..., -1] = 1
    labels, _ = ops.classify(scores)
    assert labels.dtype == name
    assert labels.item() == classes - 1


@pytest.mark.parametrize("scores, labels", [
    ((1, 2, 3, 4), (1, 3, 2)), ((1, 2, 3, 4), (2, 3)), ((1, 2, 3, 4), (1, 2, 3, 4))])
def test_shapes_that_do_not_fit(scores, labels):
    with pytest.raises(ValueError, match=f"shape of labels.*{re.escape(str(labels))}"):
        cpu.softmax_cross_entropy(np.zeros(scores), np.zeros(labels, np.int32), 255)


@pytest.mark.parametrize("label_type", [np.float32, np.float64])
def test_labels_must_be_integers(label_type):
    with pytest.raises((TypeError, ValueError), match=np.dtype(label_type).name):
        cpu.softmax_cross_entropy(np.zeros((1, 2, 3, 4)), np.zeros((1, 2, 3), label_type), 255)
