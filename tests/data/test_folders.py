"""Data sets in folders: what is found, what is read, and what is said of a bad one."""
import json
import zlib

import numpy as np
import pytest
from PIL import Image

from tinyfcn.data.folders import (
    Classes, DataError, Pair, find_pairs, read_classes, read_labels, read_pair)
from tinyfcn.data.images import ImageError

GOOD = {"names": ["a", "b"], "colours": [[1, 2, 3], [4, 5, 6]], "ignore": 7}


def classes_of(folder, content):
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "classes.json").write_text(text)
    return read_classes(folder)


def test_classes(tmp_path):
    assert classes_of(tmp_path, GOOD) == Classes(["a", "b"], [[1, 2, 3], [4, 5, 6]], 7)


def test_colours_beyond_the_classes_are_left_out(tmp_path):
    more = {**GOOD, "colours": [*GOOD["colours"], [0, 0, 0]]}
    assert classes_of(tmp_path, more).colours == [[1, 2, 3], [4, 5, 6]]


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


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path)
    return path


def photo(root, name, split="train"):
    return save(root / "images" / split / name, np.zeros((2, 3, 3)))


def label_map(root, name, split="train"):
    return save(root / "labels" / split / name, np.zeros((2, 3)))


def test_pairs_are_sorted_by_name(tmp_path):
    for name in ("c.jpg", "a.png", "b.JPG", "d.v1.jpeg"):
        photo(tmp_path, name)
        label_map(tmp_path, name.rpartition(".")[0] + ".png")
    photo(tmp_path, "z.jpg", "val")
    (tmp_path / "images/train/notes.txt").write_text("no photo")
    (tmp_path / "images/train/._a.png").write_text("what a file manager leaves")
    pairs = find_pairs(str(tmp_path), "train")
    assert [pair.name for pair in pairs] == ["a", "b", "c", "d.v1"]
    assert pairs[1] == Pair("b", tmp_path / "images/train/b.JPG", tmp_path / "labels/train/b.png")


def test_no_such_split(tmp_path):
    photo(tmp_path, "a.jpg")
    with pytest.raises(DataError, match="test: No such file or directory$"):
        find_pairs(tmp_path, "test")


def test_split_that_is_a_file(tmp_path):
    photo(tmp_path, "a.jpg")
    (tmp_path / "images/val").write_text("")
    with pytest.raises(DataError, match="val: Not a directory$"):
        find_pairs(tmp_path, "val")


def test_no_images(tmp_path):
    (tmp_path / "images/train").mkdir(parents=True)
    (tmp_path / "images/train/notes.txt").write_text("no photo")
    with pytest.raises(DataError, match="train: no images in it$"):
        find_pairs(tmp_path, "train")


def test_all_missing_labels_are_named(tmp_path):
    for index in range(12):
        photo(tmp_path, f"p{index:02}.jpg")
    label_map(tmp_path, "p03.png")
    with pytest.raises(DataError) as caught:
        find_pairs(tmp_path, "train")
    names = ", ".join(f"p{i:02}.png" for i in range(12) if i != 3)
    assert str(caught.value) == (
        f"{tmp_path / 'labels/train'}: no label maps for 11 of 12 photos: {names}")


LABELS = np.array([[0, 1, 7], [1, 0, 0]], np.uint8)


def test_labels_of_a_grey_file(tmp_path):
    labels = read_labels(save(tmp_path / "l.png", LABELS), 2, 7)
    assert labels.dtype == np.uint8 and labels.tolist() == LABELS.tolist()


def test_labels_of_an_indexed_file_are_its_indices(tmp_path):
    image = Image.fromarray(LABELS)
    image.putpalette([200, 100, 0, 0, 9, 1] + [5] * 24)
    image.save(tmp_path / "l.png")
    assert Image.open(tmp_path / "l.png").mode == "P"
    assert read_labels(tmp_path / "l.png", 2, 7).tolist() == LABELS.tolist()


@pytest.mark.parametrize("classes, ignore_label, label", [(2, 8, 7), (1, 7, 1), (2, 255, 7)])
def test_label_outside_the_classes(tmp_path, classes, ignore_label, label):
    path = save(tmp_path / "l.png", LABELS)
    with pytest.raises(DataError) as caught:
        read_labels(path, classes, ignore_label)
    assert str(caught.value) == (
        f"{path}: holds the label {label}: neither one of the {classes} classes nor "
        f"{ignore_label}, which is ignored")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "1", "I;16", "LA"])
def test_labels_of_another_mode(tmp_path, mode):
    Image.new(mode, (3, 2)).save(tmp_path / "l.png")
    with pytest.raises(DataError, match=r"l\.png: label maps are 8-bit grey or indexed PNG files"):
        read_labels(tmp_path / "l.png", 2, 7)


def test_lossy_labels_are_refused(tmp_path):
    Image.fromarray(LABELS).save(tmp_path / "l.png", format="JPEG")
    with pytest.raises(DataError, match=r"l\.png: not a label map: cannot identify image file"):
        read_labels(tmp_path / "l.png", 2, 7)


@pytest.mark.parametrize("content, reason", [
    (b"", "the file is empty"), (b"text", "not a label map"), (None, "No such file")])
def test_labels_that_are_none(tmp_path, content, reason):
    path = tmp_path / "l.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_labels(path, 2, 7)
    assert str(caught.value).startswith(f"{path}: {reason}")


def test_truncated_labels(tmp_path):
    rng = np.random.default_rng(0)
    whole = save(tmp_path / "l.png", rng.integers(0, 2, (40, 40))).read_bytes()
    for length in range(1, len(whole) - 20, 13):
        (tmp_path / "cut.png").write_bytes(whole[:length])
        with pytest.raises(DataError) as caught:
            read_labels(tmp_path / "cut.png", 2, 7)
        assert str(caught.value).startswith(f"{tmp_path / 'cut.png'}: not a label map: ")
        assert str(caught.value).isprintable()


def test_labels_that_declare_too_many_pixels(tmp_path):
    whole = bytearray(save(tmp_path / "l.png", LABELS).read_bytes())
    for side in (12_000, 30_000):       # beyond our limit; beyond Pillow's too
        whole[16:24] = side.to_bytes(4, "big") * 2
        whole[29:33] = zlib.crc32(whole[12:29]).to_bytes(4, "big")
        (tmp_path / "bomb.png").write_bytes(whole)
        with pytest.raises(DataError, match=r"bomb\.png: .*pixels"):
            read_labels(tmp_path / "bomb.png", 2, 7)


def test_pair(tmp_path):
    pixels = np.arange(18).reshape(2, 3, 3)
    pair = Pair("a", save(tmp_path / "a.png", pixels), save(tmp_path / "l.png", LABELS))
    read_photo, labels = read_pair(pair, 2, 7)
    assert read_photo.tolist() == pixels.tolist() and labels.tolist() == LABELS.tolist()


def test_sizes_that_differ(tmp_path):
    pair = Pair("a", save(tmp_path / "a.png", np.zeros((5, 4, 3))),
                save(tmp_path / "l.png", LABELS))
    with pytest.raises(DataError) as caught:
        read_pair(pair, 2, 7)
    assert str(caught.value) == f"{pair.labels}: 3x2 pixels, but its photo has 4x5"


def test_damaged_photo(tmp_path):
    (tmp_path / "a.png").write_bytes(b"text")
    with pytest.raises(ImageError, match=r"a\.png: "):
        read_pair(Pair("a", tmp_path / "a.png", save(tmp_path / "l.png", LABELS)), 2, 7)
