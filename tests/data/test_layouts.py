"""Which layout a folder has, and what it gives."""
import json

import numpy as np
import pytest
from PIL import Image

from tinyfcn.data import folders, labelme, layouts, voc
from tinyfcn.data.errors import DataError
from tinyfcn.data.pairs import read_pair


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path)


def annotation(path, label="cat"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"imagePath": "photo.png", "imageData": None, "shapes": [
        {"label": label, "shape_type": "rectangle", "points": [[0, 0], [1, 1]]}]}))
    save(path.with_name("photo.png"), np.zeros((4, 5, 3)))


def make_folders(root):
    for split in ("train", "val"):
        save(root / f"images/{split}/a.png", np.zeros((4, 5, 3)))
        save(root / f"labels/{split}/a.png", [[0, 1, 2, 3, 255]] * 4)


def make_voc(root):
    save(root / "JPEGImages/a.png", np.zeros((4, 5, 3)))
    save(root / "SegmentationClass/a.png", [[0, 1, 2, 3, 255]] * 4)


def make_labelme(root):
    annotation(root / "a.json")


def make_labelme_splits(root):
    for split in ("train", "val"):
        annotation(root / split / "a.json")


@pytest.mark.parametrize("make, layout, splits, names", [
    (make_folders, folders, ["train", "val"], ["0", "1", "2", "3"]),
    (make_voc, voc, ["train"], ["0", "1", "2", "3"]),
    (make_labelme, labelme, ["train"], ["_background_", "cat"]),
    (make_labelme_splits, labelme, ["train", "val"], ["_background_", "cat"]),
])
def test_layouts(tmp_path, make, layout, splits, names):
    make(tmp_path)
    data = layouts.find(str(tmp_path))
    assert data.layout is layout and data.splits() == splits and data.classes.names == names
    for split in splits:
        pair, = data.pairs(split)
        assert pair.name == "a" and pair.classes == data.classes
        photo, labels = read_pair(pair, len(names), 255)
        assert photo.shape == (4, 5, 3)
        assert labels[0].tolist() == ([1, 1, 0, 0, 0] if layout is labelme else [0, 1, 2, 3, 255])
        assert data.strays(split) == []


@pytest.mark.parametrize("make", [make_folders, make_voc, make_labelme])
def test_a_description_comes_first(tmp_path, make):
    make(tmp_path)
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\ndog\ncat\nbird")
    assert layouts.find(tmp_path).classes.names == ["_background_", "dog", "cat", "bird"]
    (tmp_path / "classes.json").write_text(json.dumps(
        {"names": ["cat"], "colours": [[1, 2, 3]], "ignore": 9}))
    data = layouts.find(tmp_path)
    assert data.classes.names == ["cat"] and data.classes.ignore_label == 9
    if make is make_labelme:            # what lies in no shape has no class now
        labels = read_pair(data.pairs("train")[0], 1, 9)[1]
        assert labels[0].tolist() == [0, 0, 9, 9, 9]


def test_several_layouts_in_one_folder(tmp_path):
    make_labelme(tmp_path)
    assert layouts.find(tmp_path).layout is labelme
    make_folders(tmp_path)
    assert layouts.find(tmp_path).layout is folders
    make_voc(tmp_path)
    assert layouts.find(tmp_path).layout is voc


def test_label_maps_without_a_photo(tmp_path):
    make_folders(tmp_path)
    save(tmp_path / "labels/val/b.png", [[0]])
    data = layouts.find(tmp_path)
    assert data.strays("val") == [tmp_path / "labels/val/b.png"] and data.strays("train") == []


@pytest.mark.parametrize("content", [(), ("images",), ("labels",), ("JPEGImages", "images"),
                                     ("SegmentationClass", "labels"), ("photos", "masks")])
def test_folders_without_a_data_set(tmp_path, content):
    for name in content:
        (tmp_path / name).mkdir()
    (tmp_path / "classes.json").write_text("{}")
    with pytest.raises(DataError) as caught:
        layouts.find(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: holds no data set: neither images/ and labels/, nor JPEGImages/ and "
        "SegmentationClass/, nor labelme's JSON files")


def test_no_folder(tmp_path):
    with pytest.raises(DataError) as caught:
        layouts.find(tmp_path / "none")
    assert str(caught.value) == f"{tmp_path / 'none'}: No such file or directory"
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file: Not a directory$"):
        layouts.find(tmp_path / "file")


def test_description_that_makes_no_sense(tmp_path):
    make_folders(tmp_path)
    (tmp_path / "classes.json").write_text("{}")
    with pytest.raises(DataError, match=r"classes\.json: names must be"):
        layouts.find(tmp_path)


def test_real_data_sets(test_data):
    camvid = layouts.find(test_data("camvid"))
    assert camvid.layout is folders and camvid.classes.names[0] == "Sky"
    assert [len(camvid.pairs(split)) for split in camvid.splits()] == [367, 101]
    pascal = layouts.find(test_data("voc"))
    assert pascal.layout is voc and len(pascal.classes.names) == 21
    assert pascal.classes.names[15] == "person" and pascal.classes.ignore_label == 255
