"""From a photo to labels and confidences."""
import numpy as np
import pytest
from PIL import Image

from tinyfcn.data.images import ImageError
from tinyfcn.inference import (
    Segmentation, class_name, class_statistics, probabilities, segment)


class ColourNet:
    """Scores red, green and blue of each pixel: the class of a pixel is its strongest colour."""

    preprocessing = {"channel_order": "RGB", "scale": 1.0, "mean": [0, 0, 0], "std": [10] * 3}

    def __init__(self, dtype=np.float32):
        self.params = {"conv/weights": np.zeros(1, dtype)}
        self.seen = None

    def forward(self, x):
        self.seen = x
        return x.copy()


PIXELS = np.array([[[90, 10, 20], [0, 50, 40], [1, 2, 3]],
                   [[7, 7, 7], [0, 0, 255], [30, 31, 30]]], np.uint8)
LABELS = [[0, 1, 2], [0, 2, 1]]


def test_array():
    net = ColourNet()
    result = segment(net, PIXELS)
    assert isinstance(result, Segmentation)
    assert result.labels.dtype == np.uint8 and result.labels.tolist() == LABELS
    assert result.confidence.shape == (2, 3)
    # softmax(9, 1, 2) and softmax(0.7, 0.7, 0.7)
    np.testing.assert_allclose(result.confidence[0, 0],
                               1 / (1 + np.exp(-8) + np.exp(-7)), rtol=1e-5)
    np.testing.assert_allclose(result.confidence[1, 0], 1 / 3, rtol=1e-5)
    assert net.seen.shape == (1, 2, 3, 3) and net.seen.dtype == np.float32
    np.testing.assert_allclose(net.seen[0], PIXELS / 10, rtol=1e-6)


def test_file(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(PIXELS).save(path)
    for name in (path, str(path)):
        assert segment(ColourNet(), name).labels.tolist() == LABELS


def test_input_has_the_nets_dtype():
    net = ColourNet(np.float64)
    segment(net, PIXELS)
    assert net.seen.dtype == np.float64


def test_views_are_taken():
    assert segment(ColourNet(), PIXELS[:, ::-1]).labels.tolist() == [row[::-1] for row in LABELS]


def test_bad_file(tmp_path):
    path = tmp_path / "photo.png"
    path.write_text("text")
    with pytest.raises(ImageError, match="is not a readable"):
        segment(ColourNet(), path)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint16, bool])
def test_wrong_dtype(dtype):
    with pytest.raises(TypeError, match=f"uint8, 0..255; these are {np.dtype(dtype)}"):
        segment(ColourNet(), PIXELS.astype(dtype))


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (1, 4, 4, 3), (3, 4, 4), (0, 4, 3)])
def test_wrong_shape(shape):
    with pytest.raises(ValueError, match=r"\(h, w, 3\) with h, w >= 1; this has the shape"):
        segment(ColourNet(), np.zeros(shape, np.uint8))


def test_net_that_does_not_score_pixels():
    net = ColourNet()
    net.forward = lambda x: x.mean(axis=(1, 2), keepdims=True)
    with pytest.raises(ValueError, match="does not score every pixel"):
        segment(net, PIXELS)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_finite(value):
    net = ColourNet()

    def forward(x):
        x = x.copy()
        x[0, 1, 1, 1] = value
        return x

    net.forward = forward
    with pytest.raises(ValueError, match="not finite"):
        segment(net, PIXELS)


def test_statistics():
    labels = np.array([[2, 2, 0, 2], [0, 5, 2, 2]], np.uint8)
    confidence = np.array([[0.5, 0.7, 0.4, 0.6], [0.6, 0.9, 0.7, 1.0]], np.float32)
    statistics = class_statistics(Segmentation(labels, confidence), ["sky", "road", "tree"])
    assert [(s["index"], s["name"], s["pixels"], s["share"]) for s in statistics] == [
        (2, "tree", 5, 0.625), (0, "sky", 2, 0.25), (5, "class 5", 1, 0.125)]
    np.testing.assert_allclose([s["mean_confidence"] for s in statistics], [0.7, 0.5, 0.9],
                               rtol=1e-6)


def test_equal_shares_are_in_the_order_of_the_classes():
    result = Segmentation(np.array([[3, 1]], np.uint8), np.ones((1, 2), np.float32))
    assert [s["index"] for s in class_statistics(result)] == [1, 3]


def test_class_name():
    assert class_name(1, ["a", "b"]) == "b"
    assert class_name(2, ["a", "b"]) == class_name(2) == "class 2"


# --- several views of a photo -----------------------------------------------------------------

class Recorder:
    """A net of three classes whose scores `score(x)` gives; it remembers what it saw."""

    preprocessing = ColourNet.preprocessing
    params = {"conv/weights": np.zeros(1, np.float32)}

    def __init__(self, score):
        self.score, self.seen = score, []

    def forward(self, x):
        self.seen.append(x.copy())
        return np.ascontiguousarray(self.score(x), np.float32)


def by_column(x):
    """Scores that grow with the column, where the net sees it, for class 1."""
    scores = np.zeros((*x.shape[:3], 3))
    scores[..., 1] = np.arange(x.shape[2])
    return scores


def softmax(scores):
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def triangle(count, out_count):
    """The matrix that resizes a row linearly, written out from its definition.

    Pixel centres lie at i + 0.5; where the row gets shorter the triangle is as wide as to reach
    the neighbouring outputs' centres.
    """
    factor = count / out_count
    reach = max(1.0, factor)
    matrix = np.zeros((out_count, count))
    for out in range(out_count):
        centre = (out + 0.5) * factor
        for source in range(count):
            matrix[out, source] = max(0.0, 1 - abs(source + 0.5 - centre) / reach)
    return matrix / matrix.sum(axis=1, keepdims=True)


def photo_of(h, w, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), np.uint8)


def test_flip_averages_the_probabilities_of_both_views():
    photo, net = photo_of(3, 4), Recorder(by_column)
    found = probabilities(net, photo, flip=True)
    assert len(net.seen) == 2
    np.testing.assert_array_equal(net.seen[1], net.seen[0][:, :, ::-1])
    straight = softmax(by_column(net.seen[0]))[0]
    np.testing.assert_allclose(found, (straight + straight[:, ::-1]) / 2, rtol=1e-5)
    assert found.shape == (3, 4, 3) and found.dtype == np.float32


def test_flip_of_a_net_that_treats_both_sides_alike_changes_nothing():
    photo = photo_of(5, 7)
    plain, flipped = segment(ColourNet(), photo), segment(ColourNet(), photo, flip=True)
    np.testing.assert_array_equal(plain.labels, flipped.labels)
    np.testing.assert_allclose(plain.confidence, flipped.confidence, rtol=1e-5)
    assert flipped.labels.dtype == np.uint8 and flipped.confidence.dtype == np.float32


def test_what_the_views_are():
    photo, net = photo_of(10, 7), Recorder(by_column)
    probabilities(net, photo, flip=True, scales=(0.5, 1, 1.25, 2))
    assert [x.shape[1:3] for x in net.seen] == [
        size for size in ((5, 4), (10, 7), (12, 9), (20, 14)) for _ in range(2)]
    for x in net.seen[::2]:
        down, across = triangle(10, x.shape[1]), triangle(7, x.shape[2])
        expected = np.einsum("oh,hwc,pw->opc", down, photo / 10, across)
        np.testing.assert_allclose(x[0], expected, atol=0.11)       # pixels are rounded: 1 of 255


@pytest.mark.parametrize("scale", [0.5, 1.5, 2.75])
def test_probabilities_are_brought_back_to_the_size_of_the_photo(scale):
    photo, net = photo_of(6, 9), Recorder(by_column)
    found = probabilities(net, photo, scales=[scale])
    h, w = net.seen[0].shape[1:3]
    expected = np.einsum("oh,hwc,pw->opc", triangle(h, 6), softmax(by_column(net.seen[0]))[0],
                         triangle(w, 9))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=2), 1, rtol=1e-5)


def test_all_views_weigh_the_same():
    photo = photo_of(6, 9)
    single = [probabilities(Recorder(by_column), photo, scales=[scale]) for scale in (0.5, 1, 2)]
    together = probabilities(Recorder(by_column), photo, scales=(0.5, 1, 2))
    np.testing.assert_allclose(together, np.mean(single, axis=0), atol=1e-6)
    result = segment(Recorder(by_column), photo, scales=(0.5, 1, 2))
    np.testing.assert_array_equal(result.labels, together.argmax(axis=2))
    np.testing.assert_allclose(result.confidence, together.max(axis=2), rtol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 3)])
def test_smallest_photos_have_views_of_a_pixel_at_least(size):
    net = Recorder(by_column)
    result = segment(net, photo_of(*size), flip=True, scales=(0.01, 0.5, 1, 3))
    assert result.labels.shape == size and np.isfinite(result.confidence).all()
    assert net.seen[0].shape == (1, 1, 1, 3)


def test_classes_without_any_probability():
    def sure(x):
        scores = np.full((*x.shape[:3], 3), -1e4)
        scores[..., 2] = 0
        return scores

    result = segment(Recorder(sure), photo_of(4, 4), flip=True)
    assert (result.labels == 2).all() and (result.confidence == 1).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_of_one_view_that_are_not_finite(value):
    def score(x):
        scores = np.zeros((*x.shape[:3], 3))
        if x.shape[2] == 8:
            scores[0, 1, 1, 1] = value
        return scores

    with pytest.raises(ValueError, match="scores for this photo are not finite"):
        segment(Recorder(score), photo_of(4, 4), scales=(1, 2))


@pytest.mark.parametrize("scales", [(), (0,), (1, -1), (float("nan"),), (float("inf"), 1)])
def test_scales_that_are_none(scales):
    with pytest.raises(ValueError, match="scales are one or more factors above 0; these are"):
        segment(ColourNet(), PIXELS, scales=scales)


def test_views_of_a_real_net():
    from tinyfcn.models import FCN8s, prepare

    net = FCN8s(classes=3, width=1 / 16, fc_channels=8, init="scratch")
    rng = np.random.default_rng(4)
    for name in ("score_fr", "score_pool4", "score_pool3"):     # they start at zero
        weights = net.params[f"{name}/weights"]
        weights[...] = rng.normal(0, 0.02, weights.shape)
    photo = photo_of(37, 53)
    expected = probabilities(net, photo, flip=True, scales=(1, 1.5))
    found = probabilities(prepare(net), photo, flip=True, scales=(1, 1.5))
    assert found.shape == (37, 53, 3) and found.std() > 0.01
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_float64_nets():
    net = ColourNet(np.float64)
    assert probabilities(net, PIXELS, flip=True, scales=(1, 2)).dtype == np.float64
