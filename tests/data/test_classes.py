"""What the labels mean: classes.json, lists of names, and the values alone."""
import json

import numpy as np
import pytest
from PIL import Image

from tinyfcn.data.classes import (
    Classes, count_classes, name_classes, read_classes, read_description, read_name_list)
from tinyfcn.data.errors import DataError

GOOD = {"names": ["a", "b"], "colours": [[1, 2, 3], [4, 5, 6]], "ignore": 7}


def classes_of(folder, content):
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "classes.json").write_text(text)
    return read_classes(folder)


def test_classes(tmp_path):
    assert classes_of(tmp_path, GOOD) == Classes(["a", "b"], [[1, 2, 3], [4, 5, 6]], 7)


def test_colours_beyond_the_classes_are_the_ignored_labels(tmp_path):
    found = classes_of(tmp_path, {**GOOD, "colours": [*GOOD["colours"], [0, 0, 0], [9, 9, 9]]})
    assert found.colours == [[1, 2, 3], [4, 5, 6]]
    assert found.ignored_colours == ((0, 0, 0), (9, 9, 9))


def test_usual_ignore_label(tmp_path):
    assert classes_of(tmp_path, {k: GOOD[k] for k in ("names", "colours")}).ignore_label == 255


@pytest.mark.parametrize("content, reason", [
    ("", "not JSON"),
    ('{"names": ', "not JSON"),
    ("[" * 100000, "not JSON"),
    ("[1, 2]", "not an object with names, colours and ignore"),
    ({}, "names must be a list of 1 to 256 names"),
    ({**GOOD, "names": []}, "names must be"),
    ({**GOOD, "names": "ab"}, "names must be"),
    ({**GOOD, "names": ["a", 2]}, "names must be"),
    ({**GOOD, "names": ["a", "b" * 201]}, "names must be"),
    ({**GOOD, "colours": [[1, 2, 3]]}, "colours must be"),
    ({**GOOD, "colours": [[1, 2, 3], [4, 5]]}, "colours must be"),
    ({**GOOD, "colours": [[1, 2, 3], [4, 5, 256]]}, "colours must be"),
    ({**GOOD, "colours": [[1, 2, 3], [4, 5, -1]]}, "colours must be"),
    ({**GOOD, "colours": [[1, 2, 3], [4, 5, 1.5]]}, "colours must be"),
    ({**GOOD, "colours": None}, "colours must be"),
    ({**GOOD, "ignore": 256}, "ignore must be a label, 0..255, not 256"),
    ({**GOOD, "ignore": -1}, "ignore must be a label, 0..255, not -1"),
    ({**GOOD, "ignore": None}, "ignore must be a label, 0..255, not None"),
    ({**GOOD, "ignore": True}, "ignore must be a label, 0..255, not True"),
])
def test_classes_that_make_no_sense(tmp_path, content, reason):
    with pytest.raises(DataError) as caught:
        classes_of(tmp_path, content)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'classes.json'}: {reason}") and message.isprintable()


def test_no_description_of_classes(tmp_path):
    with pytest.raises(DataError, match=r"classes\.json: No such file or directory$"):
        read_classes(tmp_path)


# --- lists of names -----------------------------------------------------------------------------

def names_of(folder, content):
    path = folder / "labels.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_name_list(path)


@pytest.mark.parametrize("content", [
    "__ignore__\n_background_\ncat\ntv/monitor", "_background_\ncat\ntv/monitor\n",
    "\ufeff__ignore__\r\n_background_\r\n\r\n  cat\t\r\ntv/monitor\r\n\r\n"])
def test_names_a_line_each(tmp_path, content):
    found = names_of(tmp_path, content)
    assert found.names == ["_background_", "cat", "tv/monitor"] and found.ignore_label == 255
    assert found.colours == [(0, 0, 0), (128, 0, 0), (0, 128, 0)]
    assert found.ignored_colours == ((224, 224, 192),)


@pytest.mark.parametrize("content, reason", [
    ("", "names 0 classes; there must be 1 to 255"),
    ("__ignore__\n", "names 0 classes; there must be 1 to 255"),
    ("\n".join(map(str, range(256))), "names 256 classes; there must be 1 to 255"),
    ("a\nb\na\n", "'a' is no name for class 2: it is there twice"),
    ("a\n__ignore__\n", "'__ignore__' is no name for class 1: it must come first"),
    ("a\n" + 201 * "b", f"'{40 * 'b'}'... is too long for the name of a class"),
    (b"a\n\xff\n", "not a text in UTF-8"),
    (b"a\n" * 600_000, "too long for a list of classes"),
])
def test_lists_that_make_no_sense(tmp_path, content, reason):
    with pytest.raises(DataError) as caught:
        names_of(tmp_path, content)
    assert str(caught.value) == f"{tmp_path / 'labels.txt'}: {reason}"


def test_list_that_cannot_be_read(tmp_path):
    (tmp_path / "labels.txt").mkdir()
    with pytest.raises(DataError, match=r"labels\.txt: Is a directory$"):
        read_name_list(tmp_path / "labels.txt")


def test_the_first_description_counts(tmp_path):
    assert read_description(tmp_path) is None
    (tmp_path / "class_names.txt").write_text("last")
    assert read_description(str(tmp_path)).names == ["last"]
    (tmp_path / "labels.txt").write_text("second")
    assert read_description(tmp_path).names == ["second"]
    (tmp_path / "classes.json").write_text(json.dumps(GOOD))
    assert read_description(tmp_path) == Classes(["a", "b"], [[1, 2, 3], [4, 5, 6]], 7)
    (tmp_path / "classes.json").write_text("")
    with pytest.raises(DataError, match="not JSON"):
        read_description(tmp_path)


def test_names_in_an_order():
    assert name_classes(["x"]) == Classes(["x"], [(0, 0, 0)], 255, ((224, 224, 192),))
    assert len(name_classes(list(map(str, range(255)))).colours) == 255


# --- values alone -------------------------------------------------------------------------------

def maps(folder, *contents):
    """Files of these values, which are grey; or what they are, as an image or bytes."""
    paths = []
    for index, content in enumerate(contents):
        path = folder / f"{index}.png"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            image = content if isinstance(content, Image.Image) else Image.fromarray(
                np.array(content, np.uint8))
            image.save(path)
        paths.append(path)
    return paths


def indexed(values):
    image = Image.fromarray(np.array(values, np.uint8))
    image.putpalette([7] * 768)
    return image


def test_as_many_classes_as_values(tmp_path):
    found = count_classes(tmp_path, maps(
        tmp_path, [[0, 255], [2, 0]], indexed([[4, 1]]), [[255]], b"damaged", [[0]]))
    assert found == name_classes(["0", "1", "2", "3", "4"])


@pytest.mark.parametrize("contents, shown", [([], "none"), ([[[255]]], "none"),
                                             ([[[0, 255]], [[0]]], "only 0"), ([b"text"], "none")])
def test_values_that_are_no_classes(tmp_path, contents, shown):
    with pytest.raises(DataError) as caught:
        count_classes(tmp_path, maps(tmp_path, *contents))
    assert str(caught.value) == (
        f"{tmp_path}: without a classes.json the classes are the values in the label maps, and "
        f"these show {shown} beside 255, which is ignored")


def test_colours_are_no_values(tmp_path):
    paths = maps(tmp_path, [[1]], np.zeros((2, 2, 3)))
    with pytest.raises(DataError) as caught:
        count_classes(tmp_path, paths)
    assert str(caught.value) == (f"{paths[1]}: a coloured label map needs a classes.json with the "
                                 "colour of each class")


def test_values_beyond_the_labels(tmp_path):
    paths = maps(tmp_path, Image.fromarray(np.array([[1, 300]], np.uint16)))
    with pytest.raises(DataError, match="0.png: holds the label 300; the largest there may be is "
                                        "254$"):
        count_classes(tmp_path, paths)


def test_classes_of_real_label_maps(test_data):
    paths = sorted(test_data("camvid", "labels", "val").glob("*.png"))[::20]
    assert count_classes("camvid", paths).names == [str(index) for index in range(12)]
