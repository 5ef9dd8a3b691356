"""From a photo to labels and confidences."""
import numpy as np
import pytest
from PIL import Image

from tinyfcn.data.images import ImageError
from tinyfcn.inference import Segmentation, class_name, class_statistics, segment


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
