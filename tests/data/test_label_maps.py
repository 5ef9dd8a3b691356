"""Label maps: indexed, grey and coloured, and what is said of files that are none."""
import zlib

import numpy as np
import pytest
from PIL import Image

from tinyfcn.data.classes import Classes, name_classes, read_classes
from tinyfcn.data.errors import DataError
from tinyfcn.data.label_maps import _labels_of_colours, read_labels


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path)
    return path


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


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("kind", ["grey", "indexed"])
def test_labels_of_few_bits(tmp_path, bits, kind):
    """Written by hand, since Pillow writes no grey of 2 or 4 bits."""
    values = np.random.default_rng(bits).integers(0, 2**bits, (5, 9))
    rows = b""
    for row in values:
        digits = "".join(f"{value:0{bits}b}" for value in row)
        digits += "0" * (-len(digits) % 8)
        rows += b"\0" + int(digits, 2).to_bytes(len(digits) // 8, "big")
    write_png(tmp_path / "l.png", (9, 5), bits, 3 if kind == "indexed" else 0, rows)
    assert read_labels(tmp_path / "l.png", 16, 255).tolist() == values.tolist()


def write_png(path, size, bits, colour_type, rows):
    def chunk(name, content):
        return (len(content).to_bytes(4, "big") + name + content
                + zlib.crc32(name + content).to_bytes(4, "big"))

    header = (b"".join(side.to_bytes(4, "big") for side in size)
              + bytes((bits, colour_type, 0, 0, 0)))
    palette = chunk(b"PLTE", bytes(3 * 2**bits)) if colour_type == 3 else b""
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + palette
                     + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def test_labels_of_16_bits(tmp_path):
    path = tmp_path / "l.png"
    Image.fromarray(LABELS.astype(np.uint16)).save(path)
    labels = read_labels(path, 2, 7)
    assert labels.dtype == np.uint8 and labels.tolist() == LABELS.tolist()
    Image.fromarray(np.array([[0, 256 + 7]], np.uint16)).save(path)
    with pytest.raises(DataError, match=r"l\.png: holds the label 263: neither one of the 2"):
        read_labels(path, 2, 7)


def test_labels_of_another_mode(tmp_path):
    Image.new("LA", (3, 2)).save(tmp_path / "l.png")
    with pytest.raises(DataError) as caught:
        read_labels(tmp_path / "l.png", 2, 7)
    assert str(caught.value) == (f"{tmp_path / 'l.png'}: label maps are grey, indexed or coloured "
                                 "PNG files; this one's mode is LA")


# --- colours ------------------------------------------------------------------------------------

MEANING = Classes(["sky", "road", "car"], [(128, 128, 128), [128, 64, 128], (0, 0, 0)], 7,
                  ((255, 255, 255), (1, 1, 1)))
MEANT = np.array([[0, 1, 2, 7], [7, 2, 2, 1]], np.uint8)
COLOURS = np.array([(128, 128, 128), (128, 64, 128), (0, 0, 0), (255, 255, 255), (1, 1, 1)])
COLOURED = COLOURS[[[0, 1, 2, 3], [4, 2, 2, 1]]].astype(np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_labels_by_their_colours(tmp_path, mode):
    Image.fromarray(COLOURED).convert(mode).save(tmp_path / "l.png")
    labels = read_labels(tmp_path / "l.png", 3, 7, MEANING)
    assert labels.dtype == np.uint8 and labels.tolist() == MEANT.tolist()


def test_transparent_colours(tmp_path):
    image = Image.fromarray(COLOURED).convert("RGBA")
    image.putpixel((1, 1), (0, 0, 0, 254))
    image.save(tmp_path / "l.png")
    with pytest.raises(DataError, match=r"l\.png: is transparent in places; label maps are not$"):
        read_labels(tmp_path / "l.png", 3, 7, MEANING)


def test_colours_that_mean_nothing(tmp_path):
    path = save(tmp_path / "l.png", COLOURED)
    with pytest.raises(DataError) as caught:
        read_labels(path, 3, 7)
    assert str(caught.value) == (
        f"{path}: a coloured label map, and nothing says what its colours mean")


@pytest.mark.parametrize("pixels, found", [
    ([(128, 128, 129)], "(128, 128, 129): it is none of the 3 classes'"),
    ([(255, 255, 254), (254, 255, 255), (255, 255, 254)],
     "(255, 255, 254): it is none of the 3 classes', nor are 1 others"),
    ([(0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 0, 0)],
     "(1, 0, 0): it is none of the 3 classes', nor are 2 others"),
])
def test_unknown_colours(tmp_path, pixels, found):
    content = COLOURED.copy()
    content.reshape(-1, 3)[:len(pixels)] = pixels
    path = save(tmp_path / "l.png", content)
    with pytest.raises(DataError) as caught:
        read_labels(path, 3, 7, MEANING)
    assert str(caught.value) == f"{path}: holds the colour {found}"


def test_two_classes_of_one_colour(tmp_path):
    path = save(tmp_path / "l.png", COLOURED)
    for meaning in (MEANING._replace(ignored_colours=((128, 64, 128),)),
                    MEANING._replace(colours=[(0, 0, 0), (128, 64, 128), (0, 0, 0)])):
        with pytest.raises(DataError, match=r"l\.png: a coloured label map, and two classes have "
                                            r"the colour \((128, 64, 128|0, 0, 0)\)$"):
            read_labels(path, 3, 7, meaning)
    # To numbers, colours don't matter.
    assert read_labels(save(path, LABELS), 3, 7, meaning).tolist() == LABELS.tolist()


def test_real_label_maps_coloured(test_data, tmp_path):
    classes = read_classes(test_data("camvid"))
    classes = classes._replace(ignored_colours=((0, 0, 0),))
    palette = np.array([*classes.colours, (0, 0, 0)], np.uint8)
    for path in sorted(test_data("camvid", "labels", "val").glob("*.png"))[::25]:
        labels = read_labels(path, 11, 11)
        coloured = save(tmp_path / "l.png", palette[labels])
        assert np.array_equal(read_labels(coloured, 11, 11, classes), labels)


def test_real_indexed_label_maps(test_data):
    """Their pixels per value, as counted with another program."""
    expected = {"2007_000063": {0: 72224, 9: 78930, 12: 27632, 255: 8714},
                "2011_000003": {0: 125767, 5: 873, 15: 32900, 255: 9460},
                "2011_000025": {0: 62022, 6: 118222, 7: 7256}}
    for name, counts in expected.items():
        labels = read_labels(test_data("voc", "SegmentationClass", f"{name}.png"), 21, 255)
        found = np.bincount(labels.ravel())
        assert {value: found[value] for value in np.flatnonzero(found)} == counts
        # What it looks like, by the palette inside the file, leads back to the same.
        shown = np.array(Image.open(test_data("voc", "SegmentationClass", f"{name}.png"))
                         .convert("RGB"))
        names = [str(index) for index in range(21)]
        assert np.array_equal(
            _labels_of_colours("shown", shown, name_classes(names)), labels)


# --- files that are none ------------------------------------------------------------------------

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
