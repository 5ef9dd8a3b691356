"""Photos annotated in labelme: good files, and files of any other kind."""
import base64
import json
import os
import threading

import numpy as np
import pytest
from PIL import Image

from tinyfcn.data import annotations, labelme
from tinyfcn.data.annotations import read_annotated, read_annotation
from tinyfcn.data.errors import DataError
from tinyfcn.data.pairs import Pair, read_pair

BOX = {"label": "cat", "shape_type": "rectangle", "points": [[1, 0], [3, 1]], "group_id": None,
       "flags": {}}
GOOD = {"version": "5.5.0", "flags": {}, "shapes": [BOX], "imagePath": "photo.png",
        "imageData": None, "imageHeight": 3, "imageWidth": 5}
NAMES = ["_background_", "cat"]


def write(folder, name="a.json", photo="photo.png", **changes):
    """A JSON file like GOOD, and its photo of 5x3 pixels."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**GOOD, **changes}))
    if photo:
        (path.parent / photo).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (5, 3), (9, 8, 7)).save(path.parent / photo)
    return path


def labels(path, names=NAMES, root=None):
    photo, found = read_annotated(path, root or path.parent, names, 255)
    assert photo.shape == (3, 5, 3) and (photo == (9, 8, 7)).all() and found.dtype == np.uint8
    return found.tolist()


FOUND = [[0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]


def test_photo_beside_it(tmp_path):
    assert labels(write(tmp_path)) == FOUND
    assert labels(write(tmp_path, imageHeight=None, imageWidth=None)) == FOUND


@pytest.mark.parametrize("name", ["../images/photo.png", "..\\images\\photo.png",
                                  "./../images/../images/photo.png"])
def test_photo_elsewhere_in_the_data_set(tmp_path, name):
    path = write(tmp_path, "train/a.json", imagePath=name)
    os.makedirs(tmp_path / "images")
    os.rename(tmp_path / "train/photo.png", tmp_path / "images/photo.png")
    assert labels(path, root=tmp_path) == FOUND
    os.symlink(tmp_path, tmp_path.parent / f"{tmp_path.name}-link")
    assert labels(path, root=str(tmp_path)) == FOUND


def test_photo_inside_it(tmp_path):
    path = write(tmp_path)
    data = base64.b64encode((tmp_path / "photo.png").read_bytes()).decode()
    os.unlink(tmp_path / "photo.png")
    assert labels(write(tmp_path, photo=None, imageData=data)) == FOUND
    assert labels(write(tmp_path, photo=None, imageData=data, imagePath="../../x")) == FOUND
    assert labels(write(tmp_path, photo=None, imageData=data, imagePath=None)) == FOUND
    assert labels(path) == FOUND


def test_what_lies_in_no_shape(tmp_path):
    path = write(tmp_path)
    assert labels(path, ["cat", "background"])[2] == [1] * 5
    assert labels(path, ["cat", "dog"])[2] == [255] * 5
    shapes = [BOX, {**BOX, "label": "__ignore__", "points": [[2, 1], [4, 2]]}]
    assert labels(write(tmp_path, shapes=shapes)) == [
        [0, 1, 1, 1, 0], [0, 1, 255, 255, 255], [0, 0, 255, 255, 255]]
    assert labels(write(tmp_path, shapes=[])) == [[0] * 5] * 3


def test_as_a_pair(tmp_path):
    pair, = labelme.find_pairs(write(tmp_path).parent, "train")
    assert pair == Pair("a", tmp_path / "a.json", tmp_path / "a.json", root=tmp_path)
    pair = pair._replace(classes=labelme.find_classes(tmp_path))
    assert read_pair(pair, 2, 255)[1].tolist() == FOUND
    with pytest.raises(DataError, match="a.json: has shapes of 'cat': none of the 1 classes$"):
        read_pair(pair, 1, 255)


# --- files that are none ------------------------------------------------------------------------

def refuse(path, reason, root=None, names=NAMES):
    with pytest.raises(ValueError) as caught:
        read_annotated(path, root or path.parent, names, 255)
    assert str(caught.value) == f"{path}: {reason}" and str(caught.value).isprintable()


@pytest.mark.parametrize("content, reason", [
    (b"", "the file is empty"),
    (b"{", "not JSON ("),
    (b"[" * 200_000, "not JSON ("),
    (b'{"shapes": ' + b'{"a": ' * 200_000, "not JSON ("),
    (b'{"shapes": ' + b"9" * 5000 + b"}", "not "),
    (b"\xff\xfe\xfd", "not JSON ("),
    (b"\x89PNG\r\n\x1a\n", "not JSON ("),
    (b"[]", "not a file of labelme's: it has no list of shapes"),
    (b"null", "not a file of labelme's: it has no list of shapes"),
    (b"7", "not a file of labelme's: it has no list of shapes"),
    (b"NaN", "not a file of labelme's: it has no list of shapes"),
    (b"{}", "not a file of labelme's: it has no list of shapes"),
    (b'{"shapes": {"a": 1}}', "not a file of labelme's: it has no list of shapes"),
    (b'{"shapes": [7]}', "shapes[0]: not an object"),
    (b'{"shapes": [{"label": "a", "points": [[NaN, 1], [1, 2], [2, 3]]}]}',
     "shapes[0]: its points are not a list of [x, y]"),
    (b'{"shapes": [{"label": "a", "points": [[1e300, 1], [1, 2], [2, 3]]}]}',
     "shapes[0]: its points are not a list of [x, y]"),
    (b'{"shapes": [{"label": "a", "points": [[1e999, 1], [1, 2], [2, 3]]}]}',
     "shapes[0]: its points are not a list of [x, y]"),
    (b'{"shapes": [], "imagePath": 7}', "imagePath and imageData are texts or null"),
    (b'{"shapes": [], "imageData": ["AAAA"]}', "imagePath and imageData are texts or null"),
    (b'{"shapes": [], "imageHeight": "3"}', "imageHeight and imageWidth are whole numbers or null"),
    (b'{"shapes": [], "imageWidth": 5.0}', "imageHeight and imageWidth are whole numbers or null"),
    (b'{"shapes": [], "imageWidth": true}', "imageHeight and imageWidth are whole numbers or null"),
    (b'{"shapes": []}', "has neither an imagePath nor imageData"),
    (b'{"shapes": [], "imagePath": ""}', "has neither an imagePath nor imageData"),
])
def test_files_that_are_none(tmp_path, content, reason):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_annotated(path, tmp_path, NAMES, 255)
    message = str(caught.value)
    assert message.startswith(f"{path}: {reason}") and message.isprintable() and len(message) < 500


def test_first_bad_shape_is_named(tmp_path):
    refuse(write(tmp_path, shapes=[BOX, BOX, {**BOX, "points": [[1, 1]]}, 7]),
           "shapes[2]: a shape 'rectangle' with 1 points")
    refuse(write(tmp_path, shapes=[BOX, {**BOX, "shape_type": "circle",
                                         "points": [[-9e4, 0], [9e4, 0]]}]),
           "shapes[1]: a circle of radius 180000; the largest is 25000")


def test_labels_that_are_no_class(tmp_path):
    shapes = [{**BOX, "label": label} for label in ("dog", "cat", "bus\n\x1b[2J", "dog")]
    refuse(write(tmp_path, shapes=shapes),
           r"has shapes of 'bus\n\x1b[2J', 'dog': none of the 2 classes")
    shapes = [{**BOX, "label": f"{index:02}"} for index in range(30)]
    shown = ", ".join(f"'{index:02}'" for index in range(20))
    refuse(write(tmp_path, shapes=shapes),
           f"has shapes of {shown} and others: none of the 2 classes")


@pytest.mark.parametrize("height, width", [(3, 4), (5, 3), (None, 4), (-1, 5), (10**30, 5)])
def test_photo_of_another_size(tmp_path, height, width):
    path = write(tmp_path, imageHeight=height, imageWidth=width)
    refuse(path, f"is for {width}x{3 if height is None else height} pixels, but its photo has 5x3")


@pytest.mark.parametrize("name", ["../photo.png", "/etc/passwd", "..", "../../../../etc/passwd",
                                  "..\\photo.png", "sub/../../photo.png", "\\etc\\passwd"])
def test_photo_outside_the_data_set(tmp_path, name):
    path = write(tmp_path, "data/a.json", imagePath=name)
    Image.new("RGB", (5, 3)).save(tmp_path / "photo.png")
    refuse(path, f"its imagePath {name!r} leads out of {tmp_path / 'data'}")
    # A folder of a like name is another folder.
    path = write(tmp_path, "data/a.json", imagePath="../data2/photo.png")
    refuse(path, f"its imagePath '../data2/photo.png' leads out of {tmp_path / 'data'}")


@pytest.mark.parametrize("name, reason", [
    ("none.png", "none.png: No such file or directory"),
    ("a.json", "a.json: is not a readable PNG, JPEG, BMP, GIF, TIFF, WebP or PPM image"),
    (".", ": is a folder, not an image"),
    (3000 * "x", ": File name too long"),
    ("x\0y", r"x\x00y: "),
    ("pipe", "pipe: is not a regular file"),
])
def test_photo_that_is_none(tmp_path, name, reason):
    path = write(tmp_path, imagePath=name)
    if name == "pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("no named pipes here")
        os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError) as caught:
        read_annotated(path, tmp_path, NAMES, 255)
    assert reason in str(caught.value) and str(caught.value).startswith(f"{tmp_path}")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("data, reason", [
    ("AAAAA", "imageData is not base64"),
    ("\u00e9\u00e9", "imageData is not base64"),
    ("", "imageData: is not a readable PNG, JPEG, BMP, GIF, TIFF, WebP or PPM image"),
    (base64.b64encode(b"text").decode(), "imageData: is not a readable PNG"),
])
def test_photo_inside_that_is_none(tmp_path, data, reason):
    path = write(tmp_path, imageData=data)
    with pytest.raises(ValueError) as caught:
        read_annotated(path, tmp_path, NAMES, 255)
    assert str(caught.value).startswith(f"{path}: {reason}")


def test_photo_inside_that_is_cut_off(tmp_path):
    photo = tmp_path / "photo.png"
    Image.effect_noise((40, 40), 90).save(photo)
    for length in range(0, len(photo.read_bytes()) - 20, 200):
        data = base64.b64encode(photo.read_bytes()[:length]).decode()
        with pytest.raises(ValueError, match=r"a\.json: imageData: "):
            read_annotated(write(tmp_path, photo=None, imageData=data), tmp_path, NAMES, 255)


def test_huge_files(tmp_path, monkeypatch):
    path = write(tmp_path)
    monkeypatch.setattr(annotations, "MAX_BYTES", path.stat().st_size)
    assert labels(path) == FOUND
    path.write_text(path.read_text() + " ")
    refuse(path, f"has more than {path.stat().st_size - 1:,} bytes, the most that are read")
    monkeypatch.undo()
    refuse(write(tmp_path, shapes=[BOX] * 10_001),
           "has 10,001 shapes; at most 10,000 are read")


def test_sparse_file_of_a_gigabyte_is_not_read(tmp_path):
    path = tmp_path / "a.json"
    with open(path, "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DataError, match=r"a\.json: has 1,099,511,627,776 bytes; at most "):
        read_annotation(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipe(tmp_path):
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(DataError, match=r"a\.json: is not a regular file$"):
        read_annotation(tmp_path / "a.json")


def test_random_changes_end_in_a_line(tmp_path):
    """Whatever the bytes are: arrays, or one line that names the file."""
    rng, path = np.random.default_rng(5), write(tmp_path)
    whole = path.read_bytes()
    outcomes = set()
    for _ in range(300):
        content = bytearray(whole)
        for place in rng.integers(0, len(content), rng.integers(1, 4)):
            content[place] = rng.integers(256)
        path.write_bytes(content)
        try:
            photo, found = read_annotated(path, tmp_path, NAMES, 255)
            assert photo.shape[:2] == found.shape and set(np.unique(found)) <= {0, 1, 255}
            outcomes.add("fine")
        except ValueError as error:
            assert str(error).startswith(f"{tmp_path}") and str(error).isprintable()
            outcomes.add("refused")
    assert outcomes == {"fine", "refused"}


# --- folders ------------------------------------------------------------------------------------

def test_files_of_a_folder(tmp_path):
    assert not labelme.is_at(tmp_path)
    for name in ("c.json", "a.json", "b.v1.json", "._a.json", "classes.json"):
        write(tmp_path, name)
    assert labelme.is_at(tmp_path) and labelme.find_splits(tmp_path) == ["train"]
    assert [pair.name for pair in labelme.find_pairs(tmp_path, "train")] == ["a", "b.v1", "c"]
    write(tmp_path, "val/d.json")           # of another set
    assert labelme.find_splits(tmp_path) == ["train"]
    with pytest.raises(DataError) as caught:
        labelme.find_pairs(tmp_path, "val")
    assert str(caught.value) == f"{tmp_path / 'val'}: no JSON files of labelme's in it"


def test_folders_are_splits(tmp_path):
    for name in ("val/b.json", "train/a.json", ".hidden/c.json"):
        write(tmp_path, name)
    (tmp_path / "empty").mkdir()
    assert labelme.find_splits(tmp_path) == ["train", "val"]
    pair, = labelme.find_pairs(tmp_path, "val")
    assert pair.labels == tmp_path / "val/b.json" and pair.root == tmp_path
    with pytest.raises(DataError, match="empty: no JSON files of labelme's in it$"):
        labelme.find_pairs(tmp_path, "empty")


def test_classes_are_the_labels_of_all_splits(tmp_path):
    write(tmp_path, "train/a.json", shapes=[
        {**BOX, "label": label} for label in ("dog", "cat", "__ignore__", "_background_", "dog")])
    write(tmp_path, "val/a.json", shapes=[{**BOX, "label": "Bus"}])
    (tmp_path / "val/b.json").write_text("damaged")
    assert labelme.find_classes(tmp_path).names == ["_background_", "Bus", "cat", "dog"]


@pytest.mark.parametrize("names", [[], ["__ignore__", "_background_"]])
def test_no_class_at_all(tmp_path, names):
    write(tmp_path, shapes=[{**BOX, "label": label} for label in names])
    with pytest.raises(DataError) as caught:
        labelme.find_classes(tmp_path)
    assert str(caught.value) == f"{tmp_path}: no file of labelme's in it has shapes of any class"


def test_too_many_classes(tmp_path):
    write(tmp_path, shapes=[{**BOX, "label": str(index)} for index in range(255)])
    with pytest.raises(DataError) as caught:
        labelme.find_classes(tmp_path)
    assert str(caught.value) == (f"{tmp_path}: labelme's files in it: names 256 classes; there "
                                 "must be 1 to 255")


def test_real_photo_with_shapes_drawn_around_its_classes(test_data, tmp_path):
    """What labelme stores for a label map of rectangles, a shape for each run of pixels."""
    image = test_data("voc", "JPEGImages", "2011_000025.jpg")
    truth = np.array(Image.open(test_data("voc", "SegmentationClass", "2011_000025.png")))
    shapes = []
    for y, row in enumerate(truth):
        edges = [0, *np.flatnonzero(np.diff(row)) + 1, len(row)]
        shapes += [{"label": {0: "road", 6: "bus", 7: "car"}[int(row[start])],
                    "shape_type": "rectangle", "points": [[int(start), y], [int(stop) - 1, y]]}
                   for start, stop in zip(edges, edges[1:])]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({
        "shapes": shapes, "imagePath": "gone.jpg", "imageHeight": 375, "imageWidth": 500,
        "imageData": base64.b64encode(image.read_bytes()).decode()}))
    names = ["car", "bus", "road"]
    photo, found = read_annotated(path, tmp_path, names, 255)
    assert photo.shape == (375, 500, 3) and photo.std() > 20
    for label, value in enumerate((7, 6, 0)):
        assert np.array_equal(found == label, truth == value)


def test_several_threads_at_once(tmp_path):
    paths, found, errors = [write(tmp_path, f"{index}.json") for index in range(8)], [], []

    def work():
        try:
            found.extend(labels(path) for path in paths * 5)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and len(found) == 160 and all(each == FOUND for each in found)
