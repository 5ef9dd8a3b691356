"""A data set in folders: photos with a label map each.

    DIR/images/SPLIT/NAME.jpg     (or any other image file)
    DIR/labels/SPLIT/NAME.png     a class per pixel: indexed, grey or coloured
    DIR/classes.json              {"names": [...], "colours": [[r, g, b], ...], "ignore": 11}
"""

import pathlib

from .classes import count_classes
from .errors import data_error
from .images import EXTENSIONS
from .pairs import Pair

NAME = "images/ and labels/"


def is_at(root):
    """Whether the folder `root` holds a data set of this layout."""
    return (root / "images").is_dir() and (root / "labels").is_dir()


def find_splits(root):
    """The names of its splits, sorted."""
    return sorted(path.name for path in (root / "images").iterdir()
                  if path.is_dir() and not path.name.startswith("."))


def find_classes(root):
    """The classes of a data set that does not describe them; raises as `count_classes`."""
    return count_classes(root, [path for split in find_splits(root)
                                for path in _label_maps(root / "labels" / split)])


def find_pairs(root, split):
    """The photos of a split with their label maps; see `match_pairs`."""
    root = pathlib.Path(root)
    return match_pairs(root / "images" / split, root / "labels" / split)


def match_pairs(images, labels):
    """The photos in folder `images` with the label maps of their names in folder `labels`.

    Sorted by name; hidden files are left out. A label map that is missing shows when it is read.

    Raises
    ------
    DataError
        If there are no photos.
    """
    images, labels = pathlib.Path(images), pathlib.Path(labels)
    try:
        photos = sorted(
            path for path in images.iterdir()
            if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")
        )
    except OSError as error:
        raise data_error(images, error.strerror) from None
    if not photos:
        raise data_error(images, "no images in it")
    pairs, owners = [], {}
    for photo in photos:
        owner = owners.setdefault(photo.stem, photo)
        fault = None if owner is photo else f"the label map of {owner.name} and {photo.name}"
        pairs.append(Pair(photo.stem, photo, labels / f"{photo.stem}.png", fault=fault))
    return pairs


def find_strays(root, split):
    """The label maps of a split that have no photo, sorted."""
    names = {pair.name for pair in find_pairs(root, split)}
    return [path for path in _label_maps(root / "labels" / split) if path.stem not in names]


def _label_maps(folder):
    return sorted(path for path in folder.glob("*.png") if not path.name.startswith("."))
