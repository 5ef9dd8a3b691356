"""The four measures: worked out by hand, and by plain loops."""
import math

import numpy as np
import pytest

from tinyfcn.metrics import confusion_matrix, scores

NAN = math.nan


def loops(truth, predicted, classes, ignore_label=None):
    """The measures as the paper defines them, pixel by pixel in plain Python."""
    n = [[0] * classes for _ in range(classes)]
    for t, p in zip(truth, predicted):
        if 0 <= t < classes and t != ignore_label:
            n[t][p] += 1
    t = [sum(row) for row in n]
    iu, accuracy = [], []
    for i in range(classes):
        union = t[i] + sum(n[j][i] for j in range(classes)) - n[i][i]
        iu.append(n[i][i] / union if union else None)
        accuracy.append(n[i][i] / t[i] if t[i] else None)
    known_iu = [x for x in iu if x is not None]
    known_accuracy = [x for x in accuracy if x is not None]
    return {
        "pixel_accuracy": sum(n[i][i] for i in range(classes)) / sum(t),
        "mean_accuracy": sum(known_accuracy) / len(known_accuracy),
        "mean_iu": sum(known_iu) / len(known_iu),
        "frequency_weighted_iu": sum(t[i] * iu[i] for i in range(classes) if t[i]) / sum(t),
        "iu": [NAN if x is None else x for x in iu],
        "accuracy": [NAN if x is None else x for x in accuracy],
        "share": [x / sum(t) for x in t],
    }


def test_counting():
    truth = np.array([[0, 0, 1], [2, 1, 0]], np.uint8)
    predicted = np.array([[0, 1, 1], [2, 0, 0]], np.uint8)
    matrix = confusion_matrix(truth, predicted, 3)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 1]]


def test_ignored_pixels_are_not_counted_whatever_is_predicted_there():
    truth = np.array([0, 255, 2, -1, 1])
    predicted = np.array([0, 1, 77, -5, 1])
    assert confusion_matrix(truth, predicted, 2).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("ignore_label, expected", [
    (None, [[1, 1], [1, 1]]), (255, [[1, 1], [1, 1]]), (-1, [[1, 1], [1, 1]]),
    (1, [[1, 1], [0, 0]]), (0, [[0, 0], [1, 1]])])
def test_the_ignored_label_may_be_one_of_the_classes(ignore_label, expected):
    truth = np.array([0, 0, 1, 1, 255], np.uint8)
    predicted = np.array([0, 1, 0, 1, 1], np.uint8)
    assert confusion_matrix(truth, predicted, 2, ignore_label).tolist() == expected


def test_nothing_to_count():
    assert confusion_matrix([255, 255], [0, 1], 2).tolist() == [[0, 0], [0, 0]]
    assert confusion_matrix(np.zeros((0, 5), int), np.zeros((0, 5), int), 1).tolist() == [[0]]
    result = scores(np.zeros((2, 2), np.int64))
    for name in ("pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu"):
        assert math.isnan(result[name]), name


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"truth \(2, 3\) and prediction \(3, 2\) differ"):
        confusion_matrix(np.zeros((2, 3), int), np.zeros((3, 2), int), 2)


@pytest.mark.parametrize("strange", [3, -1, 200])
def test_prediction_of_no_class(strange):
    with pytest.raises(ValueError, match=f"class {strange} is predicted, of 3 classes"):
        confusion_matrix(np.array([0, 1]), np.array([0, strange]), 3)


def test_labels_of_small_types_do_not_wrap_around():
    truth, predicted = np.full(4, 200, np.uint8), np.full(4, 201, np.uint8)
    assert confusion_matrix(truth, predicted, 256)[200, 201] == 4


def check(matrix, **expected):
    result = scores(matrix)
    for name, value in expected.items():
        np.testing.assert_allclose(result[name], value, rtol=1e-12, err_msg=name)


def test_class_that_is_absent_from_both_is_left_out():
    check([[3, 1, 0],
           [2, 4, 0],
           [0, 0, 0]],
          pixel_accuracy=7 / 10,
          mean_accuracy=(3 / 4 + 4 / 6) / 2,
          mean_iu=(3 / 6 + 4 / 7) / 2,
          frequency_weighted_iu=0.4 * 3 / 6 + 0.6 * 4 / 7,
          iu=[3 / 6, 4 / 7, NAN],
          accuracy=[3 / 4, 4 / 6, NAN],
          share=[0.4, 0.6, 0])


def test_class_that_is_only_predicted_has_iu_zero_which_counts():
    check([[3, 0, 1],
           [0, 4, 0],
           [0, 0, 0]],
          pixel_accuracy=7 / 8,
          mean_accuracy=(3 / 4 + 1) / 2,
          mean_iu=(3 / 4 + 1 + 0) / 3,
          frequency_weighted_iu=(3 / 4 + 1) / 2,
          iu=[3 / 4, 1, 0],
          accuracy=[3 / 4, 1, NAN])


def test_class_that_is_never_found():
    check([[4, 0],
           [2, 0]],
          pixel_accuracy=4 / 6, mean_accuracy=1 / 2, mean_iu=(4 / 6 + 0) / 2,
          frequency_weighted_iu=4 / 6 * 4 / 6, iu=[4 / 6, 0], accuracy=[1, 0])


@pytest.mark.parametrize("seed", range(20))
def test_against_plain_loops(seed):
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(1, 7))
    truth = rng.choice([*rng.integers(0, classes, 3), 255, 11], 60)
    truth[0] = 0
    predicted = rng.choice(rng.integers(0, classes, 3), 60)
    expected = loops(truth.tolist(), predicted.tolist(), classes)
    check(confusion_matrix(truth.reshape(6, 10), predicted.reshape(6, 10), classes), **expected)


@pytest.mark.parametrize("seed", range(10))
def test_a_data_set_against_plain_loops(seed):
    """Images of several sizes, some without a class, some all void; one class is nowhere true."""
    rng = np.random.default_rng(100 + seed)
    classes, ignore_label = 5, int(rng.choice([255, 3]))
    all_truth, all_predicted, total = [0], [4], np.zeros((classes, classes), np.int64)
    total += confusion_matrix([0], [4], classes, ignore_label)
    for _ in range(8):
        shape = rng.integers(1, 9, 2)
        truth = rng.choice([*rng.integers(0, 4, 2), 255], shape).astype(np.uint8)
        predicted = rng.integers(0, classes, shape).astype(np.uint8)
        total += confusion_matrix(truth, predicted, classes, ignore_label)
        all_truth += truth.ravel().tolist()
        all_predicted += predicted.ravel().tolist()
    check(total, **loops(all_truth, all_predicted, classes, ignore_label))
    assert scores(total)["iu"][4] == 0


def test_counts_of_a_large_data_set():
    pixels = 10**14
    check([[3 * pixels, pixels], [pixels, 4 * pixels]], pixel_accuracy=7 / 9,
          mean_iu=(3 / 5 + 4 / 6) / 2)


def test_one_class_alone():
    check([[5]], pixel_accuracy=1, mean_accuracy=1, mean_iu=1, frequency_weighted_iu=1)


def test_all_wrong():
    check([[0, 3], [2, 0]], pixel_accuracy=0, mean_accuracy=0, mean_iu=0,
          frequency_weighted_iu=0, iu=[0, 0])


def test_measures_are_of_the_whole_set_not_means_over_images():
    first = confusion_matrix([0, 0, 0, 0], [0, 0, 0, 1], 2)
    second = confusion_matrix([1], [1], 2)
    check(first + second, mean_iu=(3 / 4 + 1 / 2) / 2)
