"""A data set in folders: photos with a label map each.

    DIR/images/SPLIT/NAME.jpg     (or any other image file)
    DIR/labels/SPLIT/NAME.png     8-bit, a class index per pixel
    DIR/classes.json              {"names": [...], "colours": [[r, g, b], ...], "ignore": 11}
"""

import json
import pathlib
from typing import NamedTuple

import numpy as np
from PIL import Image

from .images import EXTENSIONS, read_photo


class DataError(ValueError):
    """A data set that cannot be used; the message is one line that names the file."""


class Classes(NamedTuple):
    """What the labels of a data set mean."""

    names: list
    colours: list
    ignore_label: int


class Pair(NamedTuple):
    """The files of one photo and its label map."""

    name: str
    image: pathlib.Path
    labels: pathlib.Path


def read_classes(root):
    """The classes of the data set in folder `root`.

    Raises
    ------
    DataError
        If classes.json is missing or makes no sense.
    """
    path = pathlib.Path(root) / "classes.json"
    try:
        text = json.loads(path.read_text(encoding="utf-8"))
        classes = Classes(text["names"], text["colours"], text.get("ignore", 255))
        names = [str(name) for name in classes.names]
        colours = np.array(classes.colours, np.uint8)[: len(names)]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise DataError(f"{path}: not a description of classes ({error})") from None
    if not names or colours.shape != (len(names), 3) or not isinstance(classes.ignore_label, int):
        raise DataError(f"{path}: needs names, a colour for each and a whole number to ignore")
    return Classes(names, colours.tolist(), classes.ignore_label)


def find_pairs(root, split):
    """The photos of a split with their label maps, sorted by name.

    Raises
    ------
    DataError
        If there are none, or a photo has no labels; all those are named.
    """
    images = pathlib.Path(root) / "images" / split
    labels = pathlib.Path(root) / "labels" / split
    if not images.is_dir():
        raise DataError(f"{images}: no such folder")
    photos = sorted(p for p in images.iterdir() if p.suffix.lower() in EXTENSIONS)
    if not photos:
        raise DataError(f"{images}: no images in it")
    pairs = [Pair(photo.stem, photo, labels / f"{photo.stem}.png") for photo in photos]
    missing = [str(pair.labels) for pair in pairs if not pair.labels.is_file()]
    if missing:
        raise DataError(f"{labels}: no labels for {len(missing)} photos: {', '.join(missing)}")
    return pairs


def read_labels(path, classes, ignore_label):
    """A label map (h, w) of uint8.

    Raises
    ------
    DataError
        If the file can't be read, is not 8-bit grey or indexed, or holds a label that is neither
        below `classes` nor `ignore_label`.
    """
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if image.mode not in ("L", "P"):
                raise DataError(f"{path}: labels must be 8-bit grey or indexed, not {image.mode}")
            labels = np.array(image)
    except DataError:
        raise
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path}: not a label map ({error})") from None
    unknown = np.setdiff1d(labels[labels >= classes], [ignore_label])
    if unknown.size:
        raise DataError(
            f"{path}: label {unknown[0]} with {classes} classes and ignore label {ignore_label}"
        )
    return labels


def read_pair(pair, classes, ignore_label):
    """The photo (h, w, 3) and labels (h, w) of a pair, of one size."""
    photo = read_photo(pair.image)
    labels = read_labels(pair.labels, classes, ignore_label)
    if photo.shape[:2] != labels.shape:
        raise DataError(
            f"{pair.labels}: {labels.shape[1]}x{labels.shape[0]}, but its photo is "
            f"{photo.shape[1]}x{photo.shape[0]}"
        )
    return photo, labels
