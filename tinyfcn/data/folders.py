"""A data set in folders: photos with a label map each.

    DIR/images/SPLIT/NAME.jpg     (or any other image file)
    DIR/labels/SPLIT/NAME.png     8-bit, a class index per pixel
    DIR/classes.json              {"names": [...], "colours": [[r, g, b], ...], "ignore": 11}
"""

import json
import pathlib
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image

from .images import (
    EXTENSIONS, MAX_PIXELS, ImageError, check_file, opening, printable, read_photo)


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
    return read_classes_file(pathlib.Path(root) / "classes.json")


def read_classes_file(path):
    """The classes that a file like classes.json names.

    Raises
    ------
    DataError
        If it is missing or makes no sense.
    """
    path = pathlib.Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _error(path, error.strerror) from None
    except (ValueError, RecursionError) as error:
        raise _error(path, f"not JSON ({error})") from None
    if not isinstance(content, dict):
        raise _error(path, "not an object with names, colours and ignore")
    names, colours = content.get("names"), content.get("colours")
    ignore_label = content.get("ignore", 255)
    if not (isinstance(names, list) and 1 <= len(names) <= 256 and all(map(_is_name, names))):
        raise _error(path, "names must be a list of 1 to 256 names")
    if not (isinstance(colours, list) and len(colours) >= len(names)
            and all(map(_is_colour, colours))):
        raise _error(path, "colours must be a list with [r, g, b], 0..255, for each name")
    if not _is_byte(ignore_label):
        raise _error(path, f"ignore must be a label, 0..255, not {ignore_label!r}")
    # Colours beyond those of the classes are the ignored label's.
    return Classes(names, colours[: len(names)], ignore_label)


def _is_name(value):
    return isinstance(value, str) and 0 < len(value) <= 200


def _is_colour(value):
    return isinstance(value, list) and len(value) == 3 and all(map(_is_byte, value))


def _is_byte(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255


def find_pairs(root, split):
    """The photos of a split with their label maps, sorted by name; hidden files are left out.

    Raises
    ------
    DataError
        If there are none, or a photo has no labels; all those are named.
    """
    root = pathlib.Path(root)
    return match_pairs(root / "images" / split, root / "labels" / split)


def match_pairs(images, labels):
    """The photos in folder `images` with the label maps of their names in folder `labels`.

    Sorted by name; hidden files are left out.

    Raises
    ------
    DataError
        If there are none, or a photo has no labels; all those are named.
    """
    images, labels = pathlib.Path(images), pathlib.Path(labels)
    try:
        photos = sorted(
            path for path in images.iterdir()
            if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")
        )
    except OSError as error:
        raise _error(images, error.strerror) from None
    if not photos:
        raise _error(images, "no images in it")
    pairs = [Pair(photo.stem, photo, labels / f"{photo.stem}.png") for photo in photos]
    missing = [pair.labels.name for pair in pairs if not pair.labels.is_file()]
    if missing:
        count = f"{len(missing)} of {len(pairs)} photos"
        raise _error(labels, f"no label maps for {count}: {', '.join(missing)}")
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
        check_file(path)
    except ImageError as error:
        raise DataError(str(error)) from None
    try:
        with opening, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(path, formats=["PNG"])
        with image:
            mode, (width, height) = image.mode, image.size
            readable = mode in ("L", "P") and width * height <= MAX_PIXELS
            labels = np.array(image) if readable else None
    except MemoryError:
        raise _error(path, "not enough memory to decode it") from None
    except Exception as error:  # damaged bytes make the decoder raise errors of almost any type
        reason = " ".join(str(error).split()).replace(f" {str(path)!r}", "")
        raise _error(path, f"not a label map: {reason or type(error).__name__}") from None
    if mode not in ("L", "P"):
        raise _error(path, f"label maps are 8-bit grey or indexed PNG files; this one's mode "
                           f"is {mode}")
    if labels is None:
        raise _error(path, f"has {width:,} x {height:,} pixels; at most {MAX_PIXELS:,} are read")
    unknown = np.setdiff1d(labels[labels >= classes], [ignore_label])
    if unknown.size:
        raise _error(path, f"holds the label {unknown[0]}: neither one of the {classes} classes "
                           f"nor {ignore_label}, which is ignored")
    return labels


def read_pair(pair, classes, ignore_label):
    """The photo (h, w, 3) and labels (h, w) of a pair, of one size.

    Raises
    ------
    DataError, ImageError
        If one of them can't be read, or their sizes differ.
    """
    photo = read_photo(pair.image)
    labels = read_labels(pair.labels, classes, ignore_label)
    if photo.shape[:2] != labels.shape:
        raise _error(pair.labels, f"{labels.shape[1]}x{labels.shape[0]} pixels, but its photo has "
                                  f"{photo.shape[1]}x{photo.shape[0]}")
    return photo, labels


def _error(path, reason):
    return DataError(f"{printable(path)}: {printable(reason)}")
