"""The loss and the weights of the classes, against numbers worked out by hand."""
import math

import numpy as np
import pytest

from tinyfcn.losses import median_frequency_weights, moderate_weights, softmax_loss

LOG2 = math.log(2)


def zeros(pixels, classes=2):
    """Scores by which all classes are as likely."""
    return np.zeros((1, 1, pixels, classes), np.float32)


def test_mean_over_the_labelled_pixels():
    loss, gscores = softmax_loss(zeros(4), np.array([[[0, 1, 255, 1]]], np.uint8), 255)
    assert isinstance(loss, float) and loss == pytest.approx(LOG2, rel=1e-6)
    assert gscores.dtype == np.float32
    sixth = 0.5 / 3
    np.testing.assert_allclose(
        gscores[0, 0], [[-sixth, sixth], [sixth, -sixth], [0, 0], [sixth, -sixth]], rtol=1e-6)


def test_sum_over_the_labelled_pixels():
    labels = np.array([[[0, 1, 255, 1]]], np.uint8)
    loss, gscores = softmax_loss(zeros(4), labels, 255, average=False)
    assert loss == pytest.approx(3 * LOG2, rel=1e-6)
    np.testing.assert_allclose(
        gscores[0, 0], [[-0.5, 0.5], [0.5, -0.5], [0, 0], [0.5, -0.5]], rtol=1e-6)


def test_scores_that_differ():
    scores = np.log(np.array([[[[1, 2, 5]]]], np.float64))
    loss, gscores = softmax_loss(scores, np.array([[[1]]]), 255)
    assert loss == pytest.approx(-math.log(2 / 8), rel=1e-12)
    np.testing.assert_allclose(gscores[0, 0, 0], [1 / 8, 2 / 8 - 1, 5 / 8], rtol=1e-12)


def test_weights_of_classes_divide_by_what_the_pixels_weigh():
    labels = np.array([[[0, 1]]], np.uint8)
    scores = np.log(np.array([[[[1, 3], [1, 3]]]], np.float64))
    loss, gscores = softmax_loss(scores, labels, 255, class_weights=[3, 0.5])
    assert loss == pytest.approx((3 * math.log(4) + 0.5 * math.log(4 / 3)) / 3.5, rel=1e-12)
    np.testing.assert_allclose(
        gscores[0, 0], np.array([[-0.75 * 3, 0.75 * 3], [0.25 * 0.5, -0.25 * 0.5]]) / 3.5,
        rtol=1e-12)


@pytest.mark.parametrize("labels", [[255, 255, 255], [-1, -1, 255]])
def test_no_labelled_pixel(labels):
    loss, gscores = softmax_loss(zeros(3), np.array([[labels]]), 255)
    assert loss == 0
    assert not gscores.any() and gscores.shape == (1, 1, 3, 2)


def test_label_that_is_no_class():
    with pytest.raises(ValueError, match="label 2 with 2 classes"):
        softmax_loss(zeros(1), np.array([[[2]]], np.uint8), 255)


def test_scores_are_as_they_were():
    scores = np.arange(6, dtype=np.float32).reshape(1, 1, 3, 2)
    softmax_loss(scores, np.array([[[0, 1, 0]]], np.uint8), 255)
    assert scores.ravel().tolist() == [0, 1, 2, 3, 4, 5]


def test_median_frequency_weights():
    # Class 0: 6 of the 16 pixels of the images that show it, class 1: 2 of 16, class 2: 1 of 8.
    maps = [np.array([[0, 0, 0, 0], [1, 1, 2, 9]], np.uint8),
            np.array([[0, 0, 9, 9], [9, 9, 9, 9]], np.uint8),
            np.full((2, 4), 9, np.uint8)]
    maps[1][1, 0] = 1
    # Class 1 now: 3 of 16. Median of 6/16, 3/16 and 2/16.
    weights = median_frequency_weights(iter(maps), 4)
    np.testing.assert_allclose(weights, [3 / 6, 1, 3 / 2, 1], rtol=1e-12)


def test_median_frequency_weights_without_a_labelled_pixel():
    assert median_frequency_weights([np.full((2, 2), 255, np.uint8)], 2).tolist() == [1, 1]
    assert median_frequency_weights([], 2).tolist() == [1, 1]


def test_moderate_weights():
    weights = moderate_weights(np.array([0, 0.0001, 0.09, 0.25, 1, 4, 9, 1000]))
    np.testing.assert_allclose(weights, [0.3, 0.3, 0.3, 0.5, 1, 2, 3, 3], rtol=1e-12)
