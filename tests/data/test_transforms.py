"""Preprocessing."""
import numpy as np
import pytest

from tinyfcn.data.transforms import preprocess

CAFFE = {"channel_order": "BGR", "scale": 1.0, "mean": [103.939, 116.779, 123.68],
         "std": [1, 1, 1]}
TORCH = {"channel_order": "RGB", "scale": 1 / 255, "mean": [0.485, 0.456, 0.406],
         "std": [0.229, 0.224, 0.225]}


def test_caffe_by_hand():
    x = preprocess(np.array([[[255, 0, 10]]], np.uint8), CAFFE)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x[0, 0], [10 - 103.939, -116.779, 255 - 123.68], rtol=1e-6)


def test_torch_by_hand():
    x = preprocess(np.array([[[255, 0, 51]]], np.uint8), TORCH)
    np.testing.assert_allclose(
        x[0, 0], [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225], rtol=1e-5)


@pytest.mark.parametrize("preprocessing", [CAFFE, TORCH])
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-5), (np.float64, 1e-13)])
def test_each_pixel_by_itself(preprocessing, dtype, tolerance):
    photo = np.random.default_rng(3).integers(0, 256, (13, 7, 3), dtype=np.uint8)
    x = preprocess(photo, preprocessing, dtype)
    assert x.dtype == dtype and x.flags.c_contiguous
    for row in range(13):
        for column in range(7):
            for channel in range(3):
                source = "RGB".index(preprocessing["channel_order"][channel])
                value = float(photo[row, column, source]) * preprocessing["scale"]
                expected = ((value - preprocessing["mean"][channel])
                            / preprocessing["std"][channel])
                assert abs(x[row, column, channel] - expected) <= tolerance * (1 + abs(expected))


def test_photo_is_not_modified():
    photo = np.full((2, 2, 3), 9, np.uint8)
    preprocess(photo, TORCH)
    assert (photo == 9).all()
    floats = np.full((2, 2, 3), 9, np.float32)
    x = preprocess(floats, TORCH)
    assert (floats == 9).all() and not np.shares_memory(x, floats)


def test_wrong_shape():
    with pytest.raises(ValueError, match=r"\(h, w, 3\); this has the shape \(2, 2\)"):
        preprocess(np.zeros((2, 2), np.uint8), CAFFE)


def test_wrong_channel_order():
    with pytest.raises(ValueError, match="RGB, BGR or grey, not 'GBR'"):
        preprocess(np.zeros((2, 2, 3), np.uint8), {**CAFFE, "channel_order": "GBR"})


def test_grey_is_the_luminance_in_whole_numbers():
    from PIL import Image

    photo = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    grey = {"channel_order": "grey", "scale": 0.5, "mean": [3.0], "std": [4.0]}
    x = preprocess(photo, grey, np.float64)
    assert x.shape == (9, 8, 1)
    expected = (np.asarray(Image.fromarray(photo).convert("L")) * 0.5 - 3) / 4
    assert np.abs(x[:, :, 0] - expected).max() <= 0.125  # Pillow rounds otherwise by one at most
    flat = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    np.testing.assert_array_equal(preprocess(flat, grey)[:, :, 0], (flat[:, :, 0] * 0.5 - 3) / 4)
