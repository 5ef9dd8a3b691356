"""Random views of a photo and its labels, for training."""

import numpy as np
from PIL import Image

from .transforms import LUMINANCE


def random_view(photo, labels, size, rng, ignore_label, scales=(0.75, 1.6), colour=0.2,
                saturation=0.0, hue=0.0):
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
    saturation : float
        Largest relative change of each pixel's distance from its grey.
    hue : float
        Largest turn of the hues, in degrees.

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
    # Each channel's new value for each of the 256 there are: 20 times fewer than pixels.
    values = (np.arange(256.0) - 128) * contrast + 128 + shift
    table = np.clip(np.outer(np.float32(gains), values), 0, 255).astype(np.uint8)
    pixels = pixels.point(table.ravel().tolist())
    if saturation or hue:
        factor = rng.uniform(1 - saturation, 1 + saturation)
        turn = np.radians(rng.uniform(-hue, hue))
        matrix = np.zeros((3, 4))
        matrix[:, :3] = _colour_matrix(factor, turn)
        pixels = pixels.convert("RGB", matrix.ravel().tolist())
    if flip:
        pixels, marks = (each.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                         for each in (pixels, marks))
    return np.array(pixels), np.array(marks)


def _colour_matrix(saturation, turn):
    """The (3, 3) matrix that scales the distance of an RGB colour from its grey and turns its hue.

    It works in YIQ, the colour space of NTSC television, where the luminance Y is an axis and hue
    an angle in the plane of I and Q: greys stay what they are, and every colour keeps its
    luminance.
    """
    to_yiq = np.array([LUMINANCE, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)])
    cos, sin = saturation * np.cos(turn), saturation * np.sin(turn)
    change = np.array([(1, 0, 0), (0, cos, -sin), (0, sin, cos)])
    return np.linalg.inv(to_yiq) @ change @ to_yiq


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
