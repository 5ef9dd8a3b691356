"""Photos and label maps in folders: what belongs together."""
import numpy as np
import pytest
from PIL import Image

from tinyfcn.data import folders
from tinyfcn.data.errors import DataError
from tinyfcn.data.folders import find_pairs, match_pairs
from tinyfcn.data.pairs import Pair, read_pair


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


def test_missing_labels_show_when_they_are_read(tmp_path):
    photo(tmp_path, "a.jpg")
    photo(tmp_path, "b.jpg")
    label_map(tmp_path, "b.png")
    first, second = find_pairs(tmp_path, "train")
    with pytest.raises(DataError) as caught:
        read_pair(first, 2, 7)
    assert str(caught.value) == f"{tmp_path / 'labels/train/a.png'}: No such file or directory"
    assert read_pair(second, 2, 7)[1].shape == (2, 3)


def test_photos_that_share_a_label_map(tmp_path):
    for name in ("a.jpg", "a.png", "b.png"):
        photo(tmp_path, name)
    label_map(tmp_path, "a.png")
    label_map(tmp_path, "b.png")
    first, second, third = find_pairs(tmp_path, "train")
    assert first.fault is third.fault is None
    with pytest.raises(DataError) as caught:
        read_pair(second, 2, 7)
    assert str(caught.value) == (
        f"{tmp_path / 'labels/train/a.png'}: the label map of a.jpg and a.png")


def test_any_two_folders(tmp_path):
    photo(tmp_path, "a.jpg")
    pair, = match_pairs(str(tmp_path / "images/train"), str(tmp_path / "elsewhere"))
    assert pair.labels == tmp_path / "elsewhere/a.png"


def test_label_maps_without_a_photo(tmp_path):
    photo(tmp_path, "b.jpg")
    for name in ("a.png", "b.png", "c.png", "._b.png"):
        label_map(tmp_path, name)
    assert folders.find_strays(tmp_path, "train") == [
        tmp_path / "labels/train/a.png", tmp_path / "labels/train/c.png"]


def test_splits(tmp_path):
    for split in ("val", "train", "test", ".hidden"):
        photo(tmp_path, "a.jpg", split)
    (tmp_path / "images/notes.txt").write_text("")
    assert not folders.is_at(tmp_path)
    (tmp_path / "labels").mkdir()
    assert folders.is_at(tmp_path)
    assert folders.find_splits(tmp_path) == ["test", "train", "val"]


def test_classes_are_counted_over_all_splits(tmp_path):
    for split, label in (("train", 2), ("val", 5), ("unused", 9)):
        save(tmp_path / "labels" / split / "a.png", np.full((2, 3), label))
        if split != "unused":
            photo(tmp_path, "a.jpg", split)
    save(tmp_path / "labels/train/._a.png", np.full((2, 3), 77))
    assert folders.find_classes(tmp_path).names == ["0", "1", "2", "3", "4", "5"]
