"""From a photo to the class of every pixel."""

import math
import os
from typing import NamedTuple

import numpy as np
from PIL import Image

from tinyfcn import kernels
from tinyfcn.arrays import CPU, to_device, to_host
from tinyfcn.data.images import read_photo
from tinyfcn.data.transforms import preprocess


class Segmentation(NamedTuple):
    """What a net says of a photo, pixel by pixel.

    Attributes
    ----------
    labels : (h, w) uint8, or uint16 for more than 256 classes
        The class with the highest score.
    confidence : (h, w) float
        Its soft-max probability.
    """

    labels: np.ndarray
    confidence: np.ndarray


def segment(net, photo, flip=False, scales=(1,)):
    """Segment one photo with a net.

    With `flip` or `scales` the net sees the photo several times and the soft-max probabilities are
    averaged: see :func:`probabilities`.

    Parameters
    ----------
    net
        Has `forward(x)` from (1, h, w, 3) to scores (1, h, w, classes), `params`,
        `preprocessing` and, unless it is the CPU, `device`; a `Graph` also has `classify(x)`.
    photo : str, os.PathLike or (h, w, 3) uint8
        An image file, or its pixels: red, green, blue.
    flip : bool
        See the photo mirrored, too.
    scales : sequence of float
        The sizes in which the net sees the photo, as factors of its own.

    Returns
    -------
    Segmentation

    Raises
    ------
    tinyfcn.data.images.ImageError
        The file cannot be read.
    TypeError
        An array that is not uint8.
    ValueError
        An array of another shape; scores that are not one row per pixel, or not finite; no
        scales, or one that is not above 0.
    """
    photo = _pixels(photo)
    scales = _checked(scales)
    if not flip and scales == [1]:
        labels, confidence = _classes(net, photo)
    else:
        averages = probabilities(net, photo, flip, scales)
        with np.errstate(divide="ignore"):
            # Logarithms of probabilities are scores: their soft-max gives them back.
            labels, confidence = _classify(np.log(averages, out=averages)[None])
    # A soft-max over scores of which one is NaN or infinite is never finite itself.
    if not np.isfinite(confidence).all():
        raise ValueError("the net's scores for this photo are not finite")
    return Segmentation(labels, confidence)


def probabilities(net, photo, flip=False, scales=(1,)):
    """The probability of each class at each pixel, averaged over views of the photo.

        p = mean over scales s and mirrorings m of  resize(m(softmax(net(m(resize(photo, s))))))

    Photos and probabilities are resized linearly, as by a triangle filter that covers all pixels
    where they become smaller. The views are seen one after the other: what is held at a time is
    what the net needs for the largest, and its probabilities and their sum, once in its size and
    once in the photo's. Twice the scale takes four times the memory.

    Parameters
    ----------
    net, photo, flip, scales
        As :func:`segment` takes them.

    Returns
    -------
    (h, w, classes) of the net's dtype
        They sum to 1. NaN where the net's scores are not finite.

    Raises
    ------
    ImageError, TypeError, ValueError
        As :func:`segment` does.
    """
    photo = _pixels(photo)
    scales = _checked(scales)
    h, w, _ = photo.shape
    total = None
    for scale in scales:
        size = max(1, round(scale * h)), max(1, round(scale * w))
        view = photo if size == (h, w) else _resized(photo, size)
        seen = _softmax(_scores(net, view))
        if flip:
            seen += _softmax(_scores(net, view[:, ::-1]))[:, ::-1]
        if total is None:
            total = np.zeros((h, w, seen.shape[2]), seen.dtype)
        if size == (h, w):
            total += seen
        else:
            for index in range(seen.shape[2]):  # one map at a time, to need little memory
                total[:, :, index] += _resized(seen[:, :, index], (h, w))
        del seen
    total /= len(scales) * (2 if flip else 1)
    return total


def _pixels(photo):
    if isinstance(photo, (str, bytes, os.PathLike)):
        photo = read_photo(photo)
    photo = np.asarray(photo)
    if photo.dtype != np.uint8:
        raise TypeError(f"a photo's pixels are uint8, 0..255; these are {photo.dtype}")
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.size == 0:
        raise ValueError(f"a photo is (h, w, 3) with h, w >= 1; this has the shape {photo.shape}")
    return photo


def _checked(scales):
    scales = [float(scale) for scale in scales]
    if not scales or not all(0 < scale < math.inf for scale in scales):
        raise ValueError(f"scales are one or more factors above 0; these are {scales}")
    return scales


def _input(net, photo):
    dtype = next((array.dtype for array in net.params.values()), np.float32)
    return to_device(preprocess(photo, net.preprocessing, dtype)[None], getattr(net, "device", CPU))


def _scores(net, photo):
    scores = net.forward(_input(net, photo))
    if scores.ndim != 4 or scores.shape[:3] != (1, *photo.shape[:2]):
        raise ValueError(f"the net does not score every pixel: its scores have the shape "
                         f"{scores.shape} for a photo of {photo.shape[:2]}")
    return scores


def _classes(net, photo):
    """Labels and confidence of one view; a prepared net finds them without writing all scores."""
    if not hasattr(net, "classify"):
        return _classify(_scores(net, photo))
    labels, confidence = map(to_host, net.classify(_input(net, photo)))
    if labels.shape != (1, *photo.shape[:2]):
        raise ValueError(f"the net does not score every pixel: its labels have the shape "
                         f"{labels.shape} for a photo of {photo.shape[:2]}")
    return labels[0], confidence[0]


def _classify(scores):
    labels, confidence = map(to_host, kernels.backend(scores).classify(scores))
    return labels[0], confidence[0]


def _softmax(scores):
    return to_host(kernels.backend(scores).softmax(scores))[0]


def _resized(pixels, size):
    """A photo of uint8 or a map of floats in another size (h, w)."""
    image = Image.fromarray(np.ascontiguousarray(pixels if pixels.dtype == np.uint8
                                                 else pixels.astype(np.float32)))
    return np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR))


def class_statistics(segmentation, class_names=None):
    """How much of a photo each class takes, and how sure the net is of it.

    Parameters
    ----------
    segmentation : Segmentation
    class_names : list of str, optional
        By class index. A class without a name is called "class 7".

    Returns
    -------
    list of dict
        One per class that is present, the largest first: "index", "name", "pixels",
        "share" (of all pixels, 0..1) and "mean_confidence" (0..1).
    """
    labels = segmentation.labels.ravel()
    pixels = np.bincount(labels)
    confidence = np.bincount(labels, weights=segmentation.confidence.ravel())
    present = [int(index) for index in np.argsort(-pixels, kind="stable") if pixels[index]]
    return [{"index": index,
             "name": class_name(index, class_names),
             "pixels": int(pixels[index]),
             "share": float(pixels[index] / labels.size),
             "mean_confidence": float(confidence[index] / pixels[index])}
            for index in present]


def class_name(index, class_names=None):
    """The name of a class, or "class 7" where the list has none for it."""
    if class_names is not None and index < len(class_names):
        return str(class_names[index])
    return f"class {index}"
