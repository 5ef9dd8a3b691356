"""A data set of photos annotated in labelme: a JSON file of shapes for each.

    DIR/NAME.json           all of them are of the split "train"
    DIR/SPLIT/NAME.json     or in folders, a split each
    DIR/labels.txt          the names of the classes; without it, those that the shapes bear

A photo is inside its JSON file or where that says, anywhere in DIR.
"""

from .annotations import read_annotation
from .classes import BACKGROUND, CLASSES, IGNORE, name_classes
from .errors import DataError, data_error
from .pairs import Pair

NAME = "labelme"

ONLY_SPLIT = "train"


def is_at(root):
    """Whether the folder `root` holds a data set of this layout."""
    return bool(find_splits(root))


def find_splits(root):
    """The names of its splits, sorted."""
    if _files(root):
        return [ONLY_SPLIT]
    return sorted(path.name for path in root.iterdir()
                  if path.is_dir() and not path.name.startswith(".") and _files(path))


def find_classes(root):
    """The classes of a data set that does not describe them: its shapes' labels, sorted.

    The first is ``_background_``, of what lies in no shape. Files that can't be read are passed
    over.

    Raises
    ------
    DataError
        If there are no labels, or more than label maps can tell apart.
    """
    labels = set()
    for split in find_splits(root):
        for path in _files(_folder(root, split)):
            try:
                labels.update(shape.label for shape in read_annotation(path).shapes)
            except DataError:
                continue
    labels -= {BACKGROUND, IGNORE}
    if not labels:
        raise data_error(root, "no file of labelme's in it has shapes of any class")
    try:
        return name_classes([BACKGROUND, *sorted(labels)])
    except ValueError as error:
        raise data_error(root, f"labelme's files in it: {error}") from None


def find_pairs(root, split):
    """The annotated photos of a split, sorted by name.

    Raises
    ------
    DataError
        If there are none.
    """
    files = _files(_folder(root, split)) if split in find_splits(root) else []
    if not files:
        raise data_error(root / split, "no JSON files of labelme's in it")
    return [Pair(path.stem, path, path, root=root) for path in files]


def _folder(root, split):
    return root if _files(root) else root / split


def _files(folder):
    return sorted(path for path in folder.glob("*.json")
                  if path.name != CLASSES and not path.name.startswith("."))
