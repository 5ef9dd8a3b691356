"""Photos through a classifier, whole and as a map."""
import gzip

import numpy as np
import pytest
from PIL import Image

import tinyfcn
from tinyfcn import models
from tinyfcn.classification import Classifier
from tinyfcn.graph import Graph
from tinyfcn.layers import Convolution, Linear


def brightness_net(size=7, channels=3):
    """Says how bright an image is: class 0 dark, class 1 bright. One number for 7x7 pixels."""
    net = Graph("vgg16", {"input_size": size, "in_channels": channels, "classes": 2})
    net.preprocessing = {
        "channel_order": "RGB" if channels == 3 else "grey", "scale": 1.0,
        "mean": [0.0] * channels, "std": [1.0] * channels}
    net.add("conv1", Convolution(channels, 2, 1))
    net.add("fc6", Linear(size * size * 2, 2))
    net.params["conv1/weights"][..., 1] = 1 / 128 / channels
    net.params["conv1/bias"][0] = 1
    weights = net.params["fc6/weights"].reshape(size * size, 2, 2)
    weights[:, 1, 1] = weights[:, 0, 0] = 5 / size**2
    return net


def logistic(brightness):
    return 1 / (1 + np.exp(5 - 5 * np.asarray(brightness) / 128))


def test_a_photo_of_the_nets_size_is_taken_as_it_is():
    photo = np.random.default_rng(0).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    probabilities = Classifier(brightness_net()).classify(photo)
    assert probabilities.shape == (2,) and probabilities.sum() == pytest.approx(1)
    assert probabilities[1] == pytest.approx(logistic(photo.mean()), abs=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (3, 9), (8, 8), (100, 30), (20, 300)])
def test_of_other_photos_the_scaled_centre_is_taken(size):
    """Bright in the middle, dark outside it."""
    photo = np.zeros((*size, 3), np.uint8)
    top, left = ((n - min(size)) // 2 for n in size)
    photo[top:top + min(size), left:left + min(size)] = 200
    probabilities = Classifier(brightness_net()).classify(photo)
    assert probabilities[1] == pytest.approx(logistic(200), abs=0.03)


def test_grey_nets_take_the_whole_of_a_square():
    photo = np.full((14, 14, 3), 40, np.uint8)
    photo[0] = 255
    grey = Classifier(brightness_net(channels=1)).classify(photo)
    assert grey[1] == pytest.approx(logistic((13 * 40 + 255) / 14), abs=0.02)


def test_colours_become_grey_by_their_luminance():
    for colour, luminance in ((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29):
        photo = np.full((7, 7, 3), colour, np.uint8)
        grey = Classifier(brightness_net(channels=1)).classify(photo)
        assert grey[1] == pytest.approx(logistic(luminance), abs=1e-5)


def test_the_map_is_of_the_photos_size_and_lies_where_its_pixels_are():
    photo = np.zeros((40, 60, 3), np.uint8)
    photo[10:30, 25:50] = 255
    heat = Classifier(brightness_net()).heat_map(photo, 1)
    assert heat.shape == (40, 60)
    # A place is centred on its window of 7 x 7 pixels.
    assert heat[20, 37] == pytest.approx(logistic(255), abs=1e-5)
    assert heat[3, 3] == pytest.approx(logistic(0), abs=1e-5)
    assert heat[36, 20] == pytest.approx(logistic(0), abs=1e-5)
    for y, x in ((20, 25), (12, 40), (9, 24)):
        window = photo[y - 3:y + 4, x - 3:x + 4]
        assert heat[y, x] == pytest.approx(logistic(window.mean()), abs=1e-4)
    # Near the border the nearest window stands for all.
    assert heat[0, 0] == heat[3, 3] and heat[39, 59] == heat[36, 56]


def test_a_strided_map_is_interpolated(monkeypatch):
    net = brightness_net(8)
    net.layers["conv1"].geometry["stride"] = (2, 2)
    weights = np.full((2 * 16, 2), 0, np.float32)
    weights.reshape(16, 2, 2)[:, 1, 1] = weights.reshape(16, 2, 2)[:, 0, 0] = 5 / 16
    net.layers["fc6"].params["weights"] = weights
    photo = np.zeros((8, 30, 3), np.uint8)
    photo[:, 15:] = 255
    classifier = Classifier(net)
    # The first window holds the pixels 0, 2, 4 and 6, so it is centred on 3.
    assert (classifier.first, classifier.stride) == (3, 2)
    heat = classifier.heat_map(photo, 1)
    assert heat.shape == (8, 30)
    assert heat[0, 4] == pytest.approx((heat[0, 3] + heat[0, 5]) / 2, abs=1e-6)
    assert (np.diff(heat[0]) >= -1e-6).all() and heat[0, 9] < 0.1 < 0.9 < heat[0, 20]


@pytest.mark.parametrize("name, first, stride", [
    ("lenet", 13.5, 4), ("vgg16", 111.5, 32), ("vgg11", 111.5, 32), ("caffenet", 113, 32)])
def test_the_first_place_is_the_middle_of_the_nets_own_image(name, first, stride):
    options = {} if name == "lenet" else {"width": 1 / 64, "fc_channels": 2, "classes": 2}
    classifier = Classifier(models.BY_NAME[name](**options))
    assert (classifier.first, classifier.stride) == (first, stride)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (6, 90)])
def test_a_photo_smaller_than_the_nets_images_is_enlarged(size):
    heat = Classifier(brightness_net()).heat_map(np.full((*size, 3), 255, np.uint8), 1)
    assert heat.shape == size
    np.testing.assert_allclose(heat, logistic(255), atol=1e-5)


def test_what_no_photo_is():
    classifier = Classifier(brightness_net())
    for use in classifier.classify, lambda photo: classifier.heat_map(photo, 0):
        with pytest.raises(TypeError, match="uint8"):
            use(np.zeros((7, 7, 3)))
        with pytest.raises(ValueError, match=r"\(h, w, 3\)"):
            use(np.zeros((7, 7), np.uint8))
    net = brightness_net()
    net.arguments["in_channels"] = 4
    with pytest.raises(ValueError, match="takes 4 channels; a photo has 3"):
        Classifier(net)
    net = brightness_net()
    net.params["fc6/bias"][0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        Classifier(net).classify(np.zeros((7, 7, 3), np.uint8))


def test_a_file_is_read(tmp_path):
    Image.new("RGB", (7, 7), (128, 128, 128)).save(tmp_path / "a.png")
    assert Classifier(brightness_net()).classify(tmp_path / "a.png")[1] == pytest.approx(0.5)


# Digits on a canvas of four times LeNet's size, with their places.
PLACES = ((8, 8), (12, 72), (44, 40), (76, 12), (72, 76))
DIGITS = (7, 2, 1, 4, 3)


def test_each_digit_is_seen_where_it_is(test_data):
    with gzip.open(test_data("mnist", "t10k-images-idx3-ubyte.gz")) as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(test_data("mnist", "t10k-labels-idx1-ubyte.gz")) as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    canvas = np.zeros((112, 112), np.uint8)
    for digit, (y, x) in zip(DIGITS, PLACES):
        canvas[y:y + 28, x:x + 28] = pixels[np.flatnonzero(labels == digit)[0]]
    net = tinyfcn.load_model(test_data("lenet", "nandahkrishna", "lenet_iter_10000.caffemodel"))
    classifier = Classifier(net)
    photo = np.repeat(canvas[:, :, None], 3, axis=2)
    maps = np.stack([classifier.heat_map(photo, digit) for digit in range(10)])
    assert maps.shape == (10, 112, 112)
    np.testing.assert_allclose(maps.sum(axis=0), 1, atol=1e-5)
    for digit, (y, x) in zip(DIGITS, PLACES):
        centre = maps[:, y + 13:y + 15, x + 13:x + 15].mean(axis=(1, 2))
        assert centre.argmax() == digit and centre[digit] > 0.8
