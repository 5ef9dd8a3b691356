"""Data sets as they lie in folders, whichever layout they have."""

import os
import pathlib
import types
from typing import NamedTuple

from . import folders, labelme, voc
from .classes import Classes, read_description
from .errors import data_error

# In the order they are looked for; each is a module with the same functions.
LAYOUTS = (voc, folders, labelme)


class DataSet(NamedTuple):
    """A data set in a folder.

    Attributes
    ----------
    root : pathlib.Path
    layout : module
        One of `LAYOUTS`.
    classes : Classes
    """

    root: pathlib.Path
    layout: types.ModuleType
    classes: Classes

    def splits(self):
        """The names of its splits, sorted."""
        return self.layout.find_splits(self.root)

    def pairs(self, split):
        """The pairs of a split.

        One whose files are missing or make no sense shows when it is read.

        Raises
        ------
        DataError
            If there are none.
        """
        return [pair._replace(classes=self.classes)
                for pair in self.layout.find_pairs(self.root, split)]

    def strays(self, split):
        """The label maps of a split that no photo belongs to, sorted."""
        return folders.find_strays(self.root, split) if self.layout is folders else []


def find(root):
    """The data set in folder `root`.

    Raises
    ------
    DataError
        If there is none, or its classes can't be known.
    """
    root = pathlib.Path(root)
    try:
        os.listdir(root)
        layout = next((each for each in LAYOUTS if each.is_at(root)), None)
    except OSError as error:
        raise data_error(error.filename or root, error.strerror) from None
    if layout is None:
        raise data_error(root, "holds no data set: neither images/ and labels/, nor JPEGImages/ "
                               "and SegmentationClass/, nor labelme's JSON files")
    return DataSet(root, layout, read_description(root) or layout.find_classes(root))
