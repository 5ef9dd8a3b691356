"""A data set laid out as PASCAL VOC's.

    DIR/JPEGImages/NAME.jpg                       (or any other image file)
    DIR/SegmentationClass/NAME.png                or SegmentationClassPNG, as labelme once wrote
    DIR/ImageSets/Segmentation/SPLIT.txt          the NAMEs of a split, a line each
    DIR/labels.txt, class_names.txt or classes.json

Without ImageSets all label maps are of the split "train".
"""

import re

from .classes import count_classes, name_classes
from .errors import data_error
from .images import EXTENSIONS
from .pairs import Pair

NAME = "PASCAL VOC"

ONLY_SPLIT = "train"
MAX_LIST_BYTES = 64 << 20

# What PASCAL VOC's own folders do not say.
_OWN_NAMES = re.compile(r"20\d\d_\d{6}")
_OWN_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor")


def is_at(root):
    """Whether the folder `root` holds a data set of this layout."""
    return (root / "JPEGImages").is_dir() and _labels(root).is_dir()


def find_splits(root):
    """The names of its splits, sorted."""
    lists = _lists(root)
    if not lists.is_dir():
        return [ONLY_SPLIT]
    return sorted(path.stem for path in lists.glob("*.txt") if not path.name.startswith("."))


def find_classes(root):
    """The classes of a data set that does not describe them.

    They are PASCAL VOC's own where its photos bear the names of that data set's, such as
    2007_000032; else they are counted, which raises as `count_classes`.
    """
    label_maps = _label_maps(root)
    if label_maps and all(_OWN_NAMES.fullmatch(path.stem) for path in label_maps):
        return name_classes(_OWN_CLASSES)
    return count_classes(root, label_maps)


def find_pairs(root, split):
    """The photos that the list of a split names, in its order, with their label maps.

    A file that is missing shows when it is read. A line that is no name of a photo, or comes
    twice, is a pair with a fault.

    Raises
    ------
    DataError
        If the list can't be read or is empty.
    """
    images, labels, lists = root / "JPEGImages", _labels(root), _lists(root)
    photos = {path.stem: path for path in sorted(images.iterdir(), reverse=True)
              if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")}
    if lists.is_dir():
        where = lists / f"{split}.txt"
        entries = _read_list(where)
    elif split == ONLY_SPLIT:
        where = labels
        entries = [(path.stem, None) for path in _label_maps(root)]
    else:
        raise data_error(lists, f"is missing, so there is no split {split}, only {ONLY_SPLIT}")
    if not entries:
        raise data_error(where, "names no photos" if lists.is_dir() else "no label maps in it")
    return [Pair(name, where, where, fault=fault) if fault else
            Pair(name, photos.get(name, images / f"{name}.jpg"), labels / f"{name}.png")
            for name, fault in entries]


def _read_list(path):
    """The names in a file, a line each, and for each what is wrong with it, or None."""
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_LIST_BYTES + 1)
        if len(content) > MAX_LIST_BYTES:
            raise data_error(path, "too long for a list of photos")
        lines = content.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise data_error(path, error.strerror) from None
    except UnicodeDecodeError:
        raise data_error(path, "not a text in UTF-8") from None
    entries, seen = [], {}
    for number, line in enumerate(lines, 1):
        name = line.strip()
        if not name:
            continue
        first = seen.setdefault(name, number)
        fault = None
        if name in (".", "..") or len(name) > 200 or re.search(r"[/\\\0]", name):
            fault = f"line {number}: {name[:60]!r} is no name of a photo"
        elif first != number:
            fault = f"line {number}: {name} is already in line {first}"
        entries.append((name, fault))
    return entries


def _labels(root):
    older = root / "SegmentationClassPNG"
    return older if older.is_dir() else root / "SegmentationClass"


def _lists(root):
    return root / "ImageSets" / "Segmentation"


def _label_maps(root):
    return sorted(path for path in _labels(root).glob("*.png") if not path.name.startswith("."))
