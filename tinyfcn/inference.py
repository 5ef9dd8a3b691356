"""From a photo to the class of every pixel."""

import os
from typing import NamedTuple

import numpy as np

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


def segment(net, photo):
    """Segment one photo with a net.

    Parameters
    ----------
    net
        Has `forward(x)` from (1, h, w, 3) to scores (1, h, w, classes), `params`,
        `preprocessing` and, unless it is the CPU, `device`.
    photo : str, os.PathLike or (h, w, 3) uint8
        An image file, or its pixels: red, green, blue.

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
        An array of another shape; scores that are not one row per pixel, or not finite.
    """
    if isinstance(photo, (str, bytes, os.PathLike)):
        photo = read_photo(photo)
    photo = np.asarray(photo)
    if photo.dtype != np.uint8:
        raise TypeError(f"a photo's pixels are uint8, 0..255; these are {photo.dtype}")
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.size == 0:
        raise ValueError(f"a photo is (h, w, 3) with h, w >= 1; this has the shape {photo.shape}")
    dtype = next((array.dtype for array in net.params.values()), np.float32)
    x = to_device(preprocess(photo, net.preprocessing, dtype)[None], getattr(net, "device", CPU))
    scores = net.forward(x)
    if scores.ndim != 4 or scores.shape[:3] != (1, *photo.shape[:2]):
        raise ValueError(f"the net does not score every pixel: its scores have the shape "
                         f"{scores.shape} for a photo of {photo.shape[:2]}")
    labels, confidence = map(to_host, kernels.backend(scores).classify(scores))
    # A soft-max over scores of which one is NaN or infinite is never finite itself.
    if not np.isfinite(confidence).all():
        raise ValueError("the net's scores for this photo are not finite")
    return Segmentation(labels[0], confidence[0])


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
