"""PASCAL VOC's layout: what its lists name, and what is said of lists that name something else."""
import shutil

import numpy as np
import pytest
from PIL import Image

from tinyfcn.data import voc
from tinyfcn.data.errors import DataError
from tinyfcn.data.pairs import Pair, read_pair


def make(root, names="ab", folder="SegmentationClass", largest=3, **lists):
    """A data set of tiny photos; `lists` are the contents of its lists."""
    for index, name in enumerate(names):
        for kind, suffix in (("JPEGImages", "jpg"), (folder, "png")):
            (root / kind).mkdir(parents=True, exist_ok=True)
            shape = (4, 5, 3) if suffix == "jpg" else (4, 5)
            values = np.full(shape, max(0, largest - index), np.uint8)
            Image.fromarray(values).save(root / kind / f"{name}.{suffix}")
    for name, content in lists.items():
        path = root / "ImageSets/Segmentation" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def test_lists_name_the_photos(tmp_path):
    make(tmp_path, "abc", train="c\na\n", val="b", trainval="a\r\nb \r\n\r\nc")
    assert voc.is_at(tmp_path) and voc.find_splits(tmp_path) == ["train", "trainval", "val"]
    found = voc.find_pairs(tmp_path, "train")
    assert found == [Pair(name, tmp_path / f"JPEGImages/{name}.jpg",
                          tmp_path / f"SegmentationClass/{name}.png") for name in "ca"]
    assert [pair.name for pair in voc.find_pairs(tmp_path, "trainval")] == ["a", "b", "c"]
    photo, labels = read_pair(found[1], 21, 255)
    assert photo.shape == (4, 5, 3) and (labels == 3).all()


def test_without_lists_all_is_to_train_on(tmp_path):
    make(tmp_path, "ba")
    Image.new("RGB", (2, 2)).save(tmp_path / "JPEGImages/unlabelled.jpg")
    (tmp_path / "SegmentationClass/._a.png").write_text("what a file manager leaves")
    assert voc.find_splits(tmp_path) == ["train"]
    assert [pair.name for pair in voc.find_pairs(tmp_path, "train")] == ["a", "b"]
    with pytest.raises(DataError) as caught:
        voc.find_pairs(tmp_path, "val")
    assert str(caught.value) == (f"{tmp_path / 'ImageSets/Segmentation'}: is missing, so there is "
                                 "no split val, only train")


def test_the_folder_of_older_label_maps(tmp_path):
    make(tmp_path, "a", folder="SegmentationClassPNG")
    (tmp_path / "SegmentationClass").mkdir()            # then of .npy files
    pair, = voc.find_pairs(tmp_path, "train")
    assert pair.labels == tmp_path / "SegmentationClassPNG/a.png"


def test_photos_of_any_kind(tmp_path):
    make(tmp_path, "abc", train="a\nb\nc\nd")
    (tmp_path / "JPEGImages/a.jpg").rename(tmp_path / "JPEGImages/a.PNG")
    (tmp_path / "JPEGImages/b.jpg").rename(tmp_path / "JPEGImages/b.txt")
    shutil.copy(tmp_path / "JPEGImages/c.jpg", tmp_path / "JPEGImages/c.tif")
    names = [pair.image.name for pair in voc.find_pairs(tmp_path, "train")]
    assert names == ["a.PNG", "b.jpg", "c.jpg", "d.jpg"]


def test_missing_files_show_when_they_are_read(tmp_path):
    make(tmp_path, "abc", train="a\nb\nd")
    (tmp_path / "JPEGImages/a.jpg").unlink()
    (tmp_path / "SegmentationClass/b.png").unlink()
    messages = []
    for pair in voc.find_pairs(tmp_path, "train"):
        with pytest.raises(ValueError) as caught:
            read_pair(pair, 21, 255)
        messages.append(str(caught.value))
    assert messages == [f"{tmp_path / name}: No such file or directory" for name in (
        "JPEGImages/a.jpg", "SegmentationClass/b.png", "JPEGImages/d.jpg")]


@pytest.mark.parametrize("line", ["../x", "/etc/passwd", "..", ".", "..\\x", "sub/a", "a\0b",
                                  300 * "y"])
def test_lines_that_are_no_names(tmp_path, line):
    make(tmp_path, "ab", train=f"a\n{line}\nb\n")
    first, second, third = voc.find_pairs(tmp_path, "train")
    assert first.fault is third.fault is None
    with pytest.raises(DataError) as caught:
        read_pair(second, 21, 255)
    path = tmp_path / "ImageSets/Segmentation/train.txt"
    assert str(caught.value) == f"{path}: line 2: {line[:60]!r} is no name of a photo"


def test_lines_that_come_twice(tmp_path):
    make(tmp_path, "ab", train="a\n\nb\na\n a\n")
    faults = [pair.fault for pair in voc.find_pairs(tmp_path, "train")]
    assert faults == [None, None, "line 4: a is already in line 1",
                      "line 5: a is already in line 1"]


@pytest.mark.parametrize("content, reason", [
    ("", "names no photos"), ("\n \n", "names no photos"), (b"\xff\xfe\0", "not a text in UTF-8"),
    (None, "No such file or directory")])
def test_lists_that_are_none(tmp_path, content, reason):
    make(tmp_path, "a", val="a", **({} if content is None else {"train": content}))
    with pytest.raises(DataError) as caught:
        voc.find_pairs(tmp_path, "train")
    path = tmp_path / "ImageSets/Segmentation/train.txt"
    assert str(caught.value) == f"{path}: {reason}"


def test_endless_list(tmp_path, monkeypatch):
    monkeypatch.setattr(voc, "MAX_LIST_BYTES", 1000)
    make(tmp_path, "a", train="a\n" * 500, val="a\n" * 501)
    assert len(voc.find_pairs(tmp_path, "train")) == 500
    with pytest.raises(DataError, match=r"val\.txt: too long for a list of photos$"):
        voc.find_pairs(tmp_path, "val")


def test_no_label_maps(tmp_path):
    make(tmp_path, "a")
    (tmp_path / "SegmentationClass/a.png").unlink()
    with pytest.raises(DataError, match="SegmentationClass: no label maps in it$"):
        voc.find_pairs(tmp_path, "train")


@pytest.mark.parametrize("names, expected", [
    (("2007_000032", "2011_003276"), 21), (("2007_000032", "mine"), 8), (("2007_32",), 8)])
def test_classes_by_the_photos_names(tmp_path, names, expected):
    make(tmp_path, names, largest=7)
    classes = voc.find_classes(tmp_path)
    assert len(classes.names) == expected and classes.ignore_label == 255
    assert classes.names[:2] == (["background", "aeroplane"] if expected == 21 else ["0", "1"])


def test_real_photos(test_data):
    root = test_data("voc")
    pairs = voc.find_pairs(root, "train")
    assert [pair.name for pair in pairs] == [
        "2007_000063", "2011_000003", "2011_000006", "2011_000025"]
    sizes = [read_pair(pair, 21, 255)[0].shape for pair in pairs]
    assert sizes == [(375, 500, 3), (338, 500, 3), (375, 500, 3), (375, 500, 3)]
    assert voc.find_classes(root).names[15] == "person"
