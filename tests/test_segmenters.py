"""What the nets' labels mean where nothing but the weight file says it, and views in words."""
import types

import pytest

from tinyfcn import segmenters
from tinyfcn.data.palettes import voc_palette


def net(classes, names=None, colours=None, ignored=None):
    return types.SimpleNamespace(arguments={"classes": classes}, class_names=names,
                                 colours=colours, ignore_label=ignored)


def test_classes_that_the_file_describes():
    found = segmenters.classes_of(net(2, ["sky", "road"], [(1, 2, 3), (4, 5, 6)], 11))
    assert found.names == ["sky", "road"] and found.ignore_label == 11
    assert [tuple(colour) for colour in found.colours] == [(1, 2, 3), (4, 5, 6)]


def test_classes_without_a_description():
    found = segmenters.classes_of(net(3))
    assert found.names == ["class 0", "class 1", "class 2"] and found.ignore_label == 255
    assert found.colours == voc_palette(3).tolist()


@pytest.mark.parametrize("classes, given, ignored", [
    (255, None, 255), (256, None, -1), (256, 255, 255), (21, 0, 0), (21, -1, -1)])
def test_the_label_that_is_ignored_is_no_class_unless_the_file_says_so(classes, given, ignored):
    assert segmenters.classes_of(net(classes, ignored=given)).ignore_label == ignored


@pytest.mark.parametrize("flip, scales, words", [
    (False, (1.0,), ""), (True, (1.0,), "each photo also mirrored"),
    (False, (0.75, 1.0), "scales 0.75, 1"), (True, (1.5,), "scales 1.5; each also mirrored")])
def test_views_in_words(flip, scales, words):
    options = types.SimpleNamespace(flip=flip, scales=scales)
    assert segmenters.describe_views(options) == words
    assert segmenters.view_options(options) == {"flip": flip, "scales": scales}
