"""Looking through a data set, and counting its classes."""
import threading

import numpy as np
import pytest
from PIL import Image

from tinyfcn.data import layouts
from tinyfcn.data.examination import examine
from tinyfcn.data.loader import PairReader
from tinyfcn.data.pairs import Pair
from tinyfcn.data.statistics import ClassStatistics


def save(path, array):
    Image.fromarray(np.asarray(array, np.uint8)).save(path)
    return path


def pairs(folder, *label_maps):
    """Pairs of these labels; None leaves the file out."""
    found = []
    for index, labels in enumerate(label_maps):
        path = folder / f"labels{index}.png"
        if labels is not None:
            save(path, labels)
        shape = (2, 3, 3) if labels is None else (*np.shape(labels), 3)
        found.append(Pair(str(index), save(folder / f"photo{index}.png", np.zeros(shape)), path))
    return found


def test_what_each_pair_is_like(tmp_path):
    source = PairReader(pairs(tmp_path, [[0, 1, 9], [1, 1, 9]], None, [[3]], [[0], [0]]), 2, 9)
    done = []
    first, second, third, fourth = examine(source, done.append)
    assert first.fault is fourth.fault is None
    assert first.size == (2, 3) and fourth.size == (2, 1)
    assert {v: first.histogram[v] for v in np.flatnonzero(first.histogram)} == {0: 1, 1: 3, 9: 2}
    assert second.fault == f"{tmp_path / 'labels1.png'}: No such file or directory"
    assert third.fault.startswith(f"{tmp_path / 'labels2.png'}: holds the label 3: ")
    assert second.size is third.histogram is None
    assert done == [1, 2, 3, 4]


def test_what_is_kept_is_read_once(tmp_path, monkeypatch):
    found = pairs(tmp_path, [[0]], [[1]])
    source = PairReader(found, 2, 9)
    assert len(list(examine(source))) == 2
    for pair in found:
        pair.image.unlink()
    assert [labels.tolist() for _, labels in source] == [[[0]], [[1]]]


def test_stopping_ends_the_threads(tmp_path):
    source = PairReader(pairs(tmp_path, *[[[0]]] * 9), 2, 9)
    found = examine(source)
    next(found)
    found.close()
    assert not [each for each in threading.enumerate() if "examination" in each.name]


def test_nothing_to_look_at():
    assert list(examine(PairReader([], 2, 9))) == []


def counted(classes, ignore_label, *label_maps):
    statistics = ClassStatistics(classes, ignore_label)
    for labels in label_maps:
        statistics.add(np.bincount(np.ravel(labels), minlength=256))
    return statistics


def test_counts_by_hand():
    """Class 0 in both images, 1 in the first, 2 in none; 7 is ignored."""
    found = counted(3, 7, [0, 0, 0, 1, 7], [0, 0, 0, 0, 0, 0, 0, 0, 7, 7])
    assert found.images == 2 and found.total == 15
    assert found.pixels.tolist() == [11, 1, 0] and found.shown_in.tolist() == [2, 1, 0]
    assert (found.ignored, found.ignored_in) == (3, 2)
    assert found.shares() == pytest.approx([11 / 15, 1 / 15, 0])
    # Frequencies: 11 of 15 pixels, 1 of the 5 of the first image; the median lies between them.
    median = (11 / 15 + 1 / 5) / 2
    assert found.weights()[:2] == pytest.approx([median / (11 / 15), median / (1 / 5)])
    assert np.isnan(found.weights()[2])


def test_ignored_label_may_be_one_of_the_classes():
    found = counted(3, 1, [0, 1, 1, 2])
    assert found.pixels.tolist() == [1, 0, 1] and found.shown_in.tolist() == [1, 0, 1]
    assert found.ignored == 2 and np.isnan(found.weights()[1])


@pytest.mark.parametrize("label_maps", [(), ([7, 7],)])
def test_no_class_at_all(label_maps):
    found = counted(2, 7, *label_maps)
    assert found.shares().tolist() == [0, 0] and np.isnan(found.weights()).all()


# As published with this version of the data set; computed with another program.
CAMVID_SHARES = [16.8451, 23.2587, 0.9829, 31.6582, 4.4863, 9.7241, 1.1730, 1.1268, 5.8657,
                 0.6392, 0.2917]
CAMVID_WEIGHTS = [0.2793, 0.2017, 4.7865, 0.1490, 1.0000, 0.4217, 3.8467, 1.9736, 0.7889, 6.3747,
                  8.8587]


def test_real_label_maps(test_data):
    data = layouts.find(test_data("camvid"))
    statistics = ClassStatistics(11, 11)
    for pair in data.pairs("train"):
        with Image.open(pair.labels) as image:
            statistics.add(np.bincount(np.asarray(image).ravel(), minlength=256))
    assert 100 * statistics.shares() == pytest.approx(CAMVID_SHARES, abs=1e-4)
    assert statistics.weights() == pytest.approx(CAMVID_WEIGHTS, abs=1e-4)
    assert (statistics.total, statistics.total - statistics.ignored) == (63_417_600, 60_913_605)
