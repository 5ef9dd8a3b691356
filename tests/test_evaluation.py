"""A net over pairs of photos and label maps: counted right, in order, and not all at once."""
import threading

import numpy as np
import pytest
from PIL import Image

from tinyfcn import evaluation
from tinyfcn.data.errors import DataError
from tinyfcn.data.pairs import Pair

COUNT = 12


class GreyNet:
    """The class of a pixel is its grey value; `before(h, w)` is called for each photo."""

    arguments = {"classes": 4}
    params = {}
    preprocessing = {"channel_order": "RGB", "scale": 1.0, "mean": [0, 0, 0], "std": [1] * 3}

    def __init__(self, before=None):
        self.before = before

    def forward(self, x):
        if self.before:
            self.before(*x.shape[1:3])
        return -np.abs(x[..., :1] - np.arange(4, dtype=x.dtype))


@pytest.fixture
def pairs(tmp_path):
    """Photos of differing sizes, whose truth is what the net says but for photo 3's."""
    found, rng = [], np.random.default_rng(0)
    for index in range(COUNT):
        values = rng.integers(0, 4, (2, index + 1)).astype(np.uint8)
        image, labels = (tmp_path / f"{index}_{kind}.png" for kind in ("image", "labels"))
        Image.fromarray(values.repeat(3).reshape(2, -1, 3)).save(image)
        truth = values.copy()
        if index == 3:
            truth[:] = 0
        truth[0, 0] = 200
        Image.fromarray(truth).save(labels)
        found.append(Pair(str(index), image, labels))
    return found


def values_of(pair):
    return np.asarray(Image.open(pair.image))[..., 0], np.asarray(Image.open(pair.labels))


def counted(pairs):
    matrix = np.zeros((4, 4), int)
    for pair in pairs:
        for predicted, true in zip(*(values.ravel() for values in values_of(pair))):
            if true < 4:
                matrix[true, predicted] += 1
    return matrix


def test_matrix(pairs):
    matrix = evaluation.evaluate(GreyNet(), pairs, 200)
    assert matrix.dtype == np.int64
    np.testing.assert_array_equal(matrix, counted(pairs))
    assert matrix.sum() == sum(2 * (i + 1) - 1 for i in range(COUNT)) and matrix[0, 1:].sum()


def test_no_pairs():
    assert evaluation.evaluate(GreyNet(), [], 200).tolist() == [[0] * 4] * 4


def test_each_is_told_in_order_what_came_out(pairs):
    seen, progress = [], []
    evaluation.evaluate(GreyNet(), pairs, 200, progress.append, each=seen.append)
    assert [scored.pair for scored in seen] == pairs
    assert progress == list(range(1, COUNT + 1))
    for scored in seen:
        predicted, truth = values_of(scored.pair)
        np.testing.assert_array_equal(scored.photo[..., 0], predicted)
        np.testing.assert_array_equal(scored.predicted, predicted)
        np.testing.assert_array_equal(scored.truth, truth)
        np.testing.assert_array_equal(scored.matrix, counted([scored.pair]))


def test_pairs_that_cannot_be_read_are_left_out_in_order(pairs):
    pairs[0].image.write_bytes(b"text")
    pairs[5].labels.unlink()
    pairs[-1].labels.write_bytes(b"")
    failures, seen = [], []
    matrix = evaluation.evaluate(GreyNet(), pairs, 200, failed=failures.append, each=seen.append)
    assert [str(error).split(":")[0] for error in failures] == [
        str(pairs[0].image), str(pairs[5].labels), str(pairs[-1].labels)]
    good = [pair for index, pair in enumerate(pairs) if index not in (0, 5, COUNT - 1)]
    assert [scored.pair for scored in seen] == good
    np.testing.assert_array_equal(matrix, counted(good))


def test_the_first_error_is_raised_where_nobody_takes_them(pairs):
    pairs[7].labels.unlink()
    pairs[9].labels.unlink()
    with pytest.raises(DataError, match="7_labels.png: No such file"):
        evaluation.evaluate(GreyNet(), pairs, 200)


def test_photos_are_read_while_the_net_runs_but_few_ahead(pairs, monkeypatch):
    reading, read = [], evaluation.read_pair
    next_is_read = threading.Event()

    def note(pair, *rest):
        result = read(pair, *rest)
        reading.append(int(pair.name))
        if pair.name == "1":
            next_is_read.set()
        return result

    monkeypatch.setattr(evaluation, "read_pair", note)
    ahead = []

    def before(h, w):
        if w == 1:      # the first photo: the next one comes although the net is still busy
            assert next_is_read.wait(30)
        ahead.append(len(reading) - w)

    evaluation.evaluate(GreyNet(before), pairs, 200)
    assert sorted(reading) == list(range(COUNT))
    assert len(ahead) == COUNT and max(ahead) <= evaluation.HANDS


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ValueError("not finite")])
def test_nothing_goes_on_after_an_error(pairs, error, monkeypatch):
    started, read = [], evaluation.read_pair

    def note(pair, *rest):
        started.append(pair)
        return read(pair, *rest)

    monkeypatch.setattr(evaluation, "read_pair", note)

    def before(h, w):
        if w == 2:
            raise error

    before_threads = threading.active_count()
    with pytest.raises(type(error) if isinstance(error, Exception) else error):
        evaluation.evaluate(GreyNet(before), pairs, 200)
    assert threading.active_count() == before_threads
    assert len(started) <= 2 + evaluation.HANDS


def test_views(pairs):
    sizes = []
    evaluation.evaluate(GreyNet(lambda h, w: sizes.append((h, w))), pairs[9:10], 200,
                        flip=True, scales=(1, 2))
    assert sizes == [(2, 10), (2, 10), (4, 20), (4, 20)]
