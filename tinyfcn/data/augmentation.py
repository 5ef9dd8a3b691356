"""Random views of a photo and its labels, for training."""

import numpy as np
from PIL import Image


def random_view(photo, labels, size, rng, ignore_label, scales=(0.75, 1.6), colour=0.2):
    """Scale, crop, flip and tint a photo, and its labels with it.

    Parameters
    ----------
    photo : array (h, w, 3) of uint8
    labels : array (h, w) of uint8
    size : (crop_h, crop_w)
    rng : numpy.random.Generator
        Alone decides what comes out.
    ignore_label : int
        Label of what lies outside the photo, where it is smaller than the crop.
    scales : (smallest, largest)
        Of the factor the photo is resized by.
    colour : float
        Largest relative change of contrast, brightness and each channel.

    Returns
    -------
    photo : array (crop_h, crop_w, 3) of uint8
    labels : array (crop_h, crop_w) of uint8
    """
    height, width = labels.shape
    scale = np.exp(rng.uniform(*np.log(scales)))
    source = np.array(size) / scale  # the crop's height and width in the photo's pixels
    top, left = (rng.uniform(min(0, free), max(0, free)) for free in (height, width) - source)
    box = left, top, left + source[1], top + source[0]
    flip = rng.random() < 0.5
    contrast, *gains = rng.uniform(1 - colour, 1 + colour, 4)
    shift = rng.uniform(-colour, colour) * 128

    pixels = _view(Image.fromarray(photo), size, box, Image.Resampling.BILINEAR, (0, 0, 0))
    marks = _view(Image.fromarray(labels), size, box, Image.Resampling.NEAREST, ignore_label)
    pixels = np.asarray(pixels, np.float32)
    pixels = ((pixels - 128) * contrast + 128 + shift) * np.array(gains, np.float32)
    pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    marks = np.asarray(marks)
    if flip:
        pixels, marks = pixels[:, ::-1], marks[:, ::-1]
    return np.ascontiguousarray(pixels), np.ascontiguousarray(marks)


def _view(image, size, box, resample, fill):
    """The part of the image in `box`, resized; what lies outside the image is `fill`."""
    left, top, right, bottom = box
    step_x, step_y = (right - left) / size[1], (bottom - top) / size[0]
    return image.transform(
        (size[1], size[0]),
        Image.Transform.AFFINE,
        (step_x, 0, left, 0, step_y, top),
        resample=resample,
        fillcolor=fill,
    )
