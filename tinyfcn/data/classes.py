"""What the labels of a data set mean: names, colours, and which label counts for nothing.

A data set says it in ``classes.json`` ({"names": [...], "colours": [[r, g, b], ...], "ignore":
11}), or names its classes in ``labels.txt`` or ``class_names.txt``, a line each, as labelme does.
Where it says nothing, the values in its label maps are all there is to know.
"""

import concurrent.futures
import json
import pathlib
from typing import NamedTuple

from .errors import DataError, data_error
from .label_maps import read_values
from .palettes import voc_palette

CLASSES = "classes.json"
NAME_LISTS = ("labels.txt", "class_names.txt")

# Names that labelme gives a meaning: pixels to leave out, and those in no shape.
IGNORE = "__ignore__"
BACKGROUND = "_background_"

_USUAL_IGNORE_LABEL = 255
_MAX_LIST_BYTES = 1 << 20


class Classes(NamedTuple):
    """What the labels of a data set mean.

    Attributes
    ----------
    names : list of str
    colours : list of (r, g, b)
    ignore_label : int
    ignored_colours : sequence of (r, g, b)
        What pixels of the ignored label look like in coloured label maps.
    """

    names: list
    colours: list
    ignore_label: int
    ignored_colours: tuple = ()


def read_description(root):
    """The classes as the data set in folder `root` describes them; None where it doesn't.

    Raises
    ------
    DataError
        If its description makes no sense.
    """
    root = pathlib.Path(root)
    if (root / CLASSES).exists():
        return read_classes_file(root / CLASSES)
    for name in NAME_LISTS:
        if (root / name).exists():
            return read_name_list(root / name)
    return None


def read_classes(root):
    """The classes of ``classes.json`` in folder `root`; raises as `read_classes_file`."""
    return read_classes_file(pathlib.Path(root) / CLASSES)


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
        raise data_error(path, error.strerror) from None
    except (ValueError, RecursionError) as error:
        raise data_error(path, f"not JSON ({error})") from None
    if not isinstance(content, dict):
        raise data_error(path, "not an object with names, colours and ignore")
    names, colours = content.get("names"), content.get("colours")
    ignore_label = content.get("ignore", _USUAL_IGNORE_LABEL)
    if not (isinstance(names, list) and 1 <= len(names) <= 256 and all(map(is_name, names))):
        raise data_error(path, "names must be a list of 1 to 256 names")
    if not (isinstance(colours, list) and len(colours) >= len(names)
            and all(map(_is_colour, colours))):
        raise data_error(path, "colours must be a list with [r, g, b], 0..255, for each name")
    if not _is_byte(ignore_label):
        raise data_error(path, f"ignore must be a label, 0..255, not {ignore_label!r}")
    # Colours beyond those of the classes are the ignored label's.
    ignored_colours = tuple(map(tuple, colours[len(names):]))
    return Classes(names, colours[:len(names)], ignore_label, ignored_colours)


def read_name_list(path):
    """The classes that a text file names, a line each.

    Label 0 is the first, unless that is ``__ignore__``, which names the pixels of label 255.

    Raises
    ------
    DataError
        If it can't be read or its lines are no names of classes.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_LIST_BYTES + 1)
        if len(content) > _MAX_LIST_BYTES:
            raise data_error(path, "too long for a list of classes")
        names = content.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise data_error(path, error.strerror) from None
    except UnicodeDecodeError:
        raise data_error(path, "not a text in UTF-8") from None
    names = [name.strip() for name in names if name.strip()]
    if names[:1] == [IGNORE]:
        del names[0]
    try:
        return name_classes(names)
    except ValueError as error:
        raise data_error(path, str(error)) from None


def name_classes(names):
    """Classes of these names, in the colours of PASCAL VOC; 255 is ignored.

    Raises
    ------
    ValueError
        If they are not 1 to 255 different names.
    """
    if not 1 <= len(names) <= _USUAL_IGNORE_LABEL:
        raise ValueError(f"names {len(names)} classes; there must be 1 to {_USUAL_IGNORE_LABEL}")
    for index, name in enumerate(names):
        if not is_name(name):
            raise ValueError(f"{name[:40]!r}... is too long for the name of a class")
        if name == IGNORE or name in names[:index]:
            raise ValueError(f"{name!r} is no name for class {index}: "
                             + ("it must come first" if name == IGNORE else "it is there twice"))
    palette = [tuple(colour) for colour in voc_palette(256).tolist()]
    return Classes(list(names), palette[:len(names)], _USUAL_IGNORE_LABEL,
                   (palette[_USUAL_IGNORE_LABEL],))


def count_classes(root, label_maps):
    """Classes for all values up to the largest in these files, named by their numbers.

    255 is ignored. Files that can't be read are passed over.

    Parameters
    ----------
    root : path
        Of the data set, for the message.
    label_maps : iterable of paths

    Raises
    ------
    DataError
        If a label map is coloured, or all of them together show one class only.
    """
    def largest(path):
        try:
            values = read_values(path)
        except DataError:
            return -1
        if values.ndim == 3:
            raise data_error(path, f"a coloured label map needs a {CLASSES} with the colour of "
                                   "each class")
        labels = values[values != _USUAL_IGNORE_LABEL]
        if labels.size and labels.max() > _USUAL_IGNORE_LABEL:
            raise data_error(path, f"holds the label {labels.max()}; the largest there may be is "
                                   f"{_USUAL_IGNORE_LABEL - 1}")
        return int(labels.max()) if labels.size else -1

    pool = concurrent.futures.ThreadPoolExecutor(4)
    try:
        count = max(pool.map(largest, label_maps), default=-1) + 1
    finally:
        pool.shutdown(cancel_futures=True)
    if count < 2:
        raise data_error(root, f"without a {CLASSES} the classes are the values in the label "
                               f"maps, and these show {'none' if count < 1 else 'only 0'} beside "
                               f"{_USUAL_IGNORE_LABEL}, which is ignored")
    return name_classes([str(index) for index in range(count)])


def is_name(value):
    return isinstance(value, str) and 0 < len(value) <= 200


def _is_colour(value):
    return isinstance(value, list) and len(value) == 3 and all(map(_is_byte, value))


def _is_byte(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255
