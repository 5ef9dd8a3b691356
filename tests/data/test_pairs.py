"""A photo and its label map together."""
import numpy as np
import pytest
from PIL import Image

from tinyfcn.data.classes import Classes
from tinyfcn.data.errors import DataError
from tinyfcn.data.images import ImageError
from tinyfcn.data.pairs import Pair, read_pair

LABELS = np.array([[0, 1, 7], [1, 0, 0]], np.uint8)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path)
    return path


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


def test_coloured_label_map(tmp_path):
    classes = Classes(["a", "b"], [(9, 8, 7), (0, 0, 0)], 7, ((1, 2, 3),))
    colours = np.zeros((8, 3))
    colours[[0, 1, 7]] = [(9, 8, 7), (0, 0, 0), (1, 2, 3)]
    pair = Pair("a", save(tmp_path / "a.png", np.zeros((2, 3, 3))),
                save(tmp_path / "l.png", colours[LABELS]), classes)
    assert read_pair(pair, 2, 7)[1].tolist() == LABELS.tolist()


def test_known_fault(tmp_path):
    pair = Pair("a", tmp_path / "a.png", tmp_path / "list.txt", fault="line 3: no\nname")
    with pytest.raises(DataError) as caught:
        read_pair(pair, 2, 7)
    assert str(caught.value) == f"{tmp_path / 'list.txt'}: line 3: no\\nname"


@pytest.mark.parametrize("name", ["a.png", "l.png"])
def test_missing_file(tmp_path, name):
    pair = Pair("a", save(tmp_path / "a.png", np.zeros((2, 3, 3))),
                save(tmp_path / "l.png", LABELS))
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=rf"{name[0]}\.png: No such file or directory$"):
        read_pair(pair, 2, 7)
