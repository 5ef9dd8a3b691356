"""A photo and its label map, read together."""

import pathlib
from typing import NamedTuple

from .annotations import read_annotated
from .classes import Classes
from .errors import data_error
from .images import read_photo
from .label_maps import read_labels


class Pair(NamedTuple):
    """The files of one photo and its label map.

    Attributes
    ----------
    name : str
    image, labels : pathlib.Path
        Both the same for a JSON file of labelme's, which says itself where its photo is.
    classes : Classes, optional
        What colours and names in the label map mean; numbers mean themselves.
    root : pathlib.Path, optional
        The data set's folder: photos that JSON files name lie in it.
    fault : str, optional
        Why the two can't be read, where that is known beforehand.
    """

    name: str
    image: pathlib.Path
    labels: pathlib.Path
    classes: Classes | None = None
    root: pathlib.Path | None = None
    fault: str | None = None


def read_pair(pair, classes, ignore_label):
    """The photo (h, w, 3) and labels (h, w) of a pair, of one size.

    Parameters
    ----------
    pair : Pair
    classes : int
    ignore_label : int

    Raises
    ------
    DataError, ImageError
        If one of them can't be read, or their sizes differ.
    """
    if pair.fault is not None:
        raise data_error(pair.labels, pair.fault)
    if pair.labels.suffix.lower() == ".json":
        names = pair.classes.names[:classes] if pair.classes else []
        return read_annotated(pair.labels, pair.root, names, ignore_label)
    photo = read_photo(pair.image)
    labels = read_labels(pair.labels, classes, ignore_label, pair.classes)
    if photo.shape[:2] != labels.shape:
        raise data_error(pair.labels, f"{labels.shape[1]}x{labels.shape[0]} pixels, but its photo "
                                      f"has {photo.shape[1]}x{photo.shape[0]}")
    return photo, labels
