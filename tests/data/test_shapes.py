"""Shapes of labelme: each kind drawn by hand, and what is said of shapes that are none."""
import base64
import io
import math

import numpy as np
import pytest
from PIL import Image

from tinyfcn.data.shapes import Shape, draw_labels, read_shape


def shape(kind, *points, label="a", mask=None):
    return read_shape({"label": label, "shape_type": kind, "points": [list(p) for p in points],
                       "mask": mask, "group_id": None, "flags": {}})


def drawn(*shapes, size=(6, 8)):
    """Rows of text; what lies in no shape is a dot."""
    found = draw_labels(shapes, size, {"a": 1, "b": 2}, 0)
    assert found.shape == size and found.dtype == np.uint8
    return ["".join(".ab"[value] for value in row) for row in found]


def test_polygon():
    expected = ["........",
                ".aaaaa..",
                ".aaaa...",
                ".aaa....",
                ".aa.....",
                ".a......"]
    assert drawn(shape("polygon", (1, 1), (5, 1), (1, 5))) == expected
    assert drawn(shape(None, (1, 5), (1, 1), (5, 1))) == expected


def test_rectangle_by_any_corners():
    expected = ["........",
                "........",
                "..aaaa..",
                "..aaaa..",
                "........",
                "........"]
    for corners in (((2, 2), (5, 3)), ((5, 3), (2, 2)), ((2, 3), (5, 2))):
        assert drawn(shape("rectangle", *corners)) == expected
    assert drawn(shape("oriented_rectangle", (2, 2), (5, 2), (5, 3), (2, 3))) == expected


def test_circle_through_its_second_point():
    found = np.array([list(row) for row in drawn(shape("circle", (20, 20), (20, 32)),
                                                 size=(41, 41))]) == "a"
    y, x = np.mgrid[:41, :41]
    distance = np.hypot(y - 20, x - 20)
    assert found[distance < 11.5].all() and not found[distance > 12.9].any()
    assert found[20, 8] and found[20, 32] and found[8, 20] and found[32, 20]


def test_point_is_a_small_disc():
    found = np.array([list(row) for row in drawn(shape("point", (10, 10)), size=(21, 21))]) == "a"
    assert found.any(axis=1).sum() == found.any(axis=0).sum() == 11
    assert found[10, 5:16].all() and not found[5, 5]


@pytest.mark.parametrize("kind", ["line", "linestrip"])
def test_line_is_ten_pixels_wide(kind):
    found = np.array([list(row) for row in drawn(shape(kind, (5, 20), (35, 20)),
                                                 size=(40, 40))]) == "a"
    assert (found[:, 15].sum(), found[20, :5].sum()) == (10, 0) and found[20, 5:35].all()


def test_corners_of_a_linestrip_are_round():
    found = np.array([list(row) for row in drawn(
        shape("linestrip", (10, 40), (40, 40), (40, 10)), size=(60, 60))]) == "a"
    assert found[40, 12:43].all() and found[12:43, 40].all()
    assert found[43, 42] and not found[45, 45]


def test_later_shapes_lie_over_earlier_ones():
    one, other = shape("rectangle", (0, 0), (3, 3)), shape("rectangle", (2, 2), (5, 5), label="b")
    assert drawn(one, other)[2:4] == ["aabbbb..", "aabbbb.."]
    assert drawn(other, one)[2:4] == ["aaaabb..", "aaaabb.."]


def test_what_lies_outside_is_left_out():
    assert drawn(shape("rectangle", (-50, -70), (2, 1)), size=(3, 5)) == ["aaa..", "aaa..", "....."]
    assert drawn(shape("polygon", (-9, -9), (100000, -9), (100000, 100000), (-9, 100000)),
                 size=(2, 3)) == ["aaa", "aaa"]
    assert drawn(shape("circle", (-90, 0), (-80, 0)), size=(2, 3)) == ["...", "..."]
    assert drawn(shape("circle", (0, 0), (25000, 0)), size=(2, 3)) == ["aaa", "aaa"]
    assert drawn(shape("rectangle", (0, 0), (0, 0)), size=(1, 1)) == ["a"]


# --- masks ----------------------------------------------------------------------------------------

def packed(values, format="PNG"):
    file = io.BytesIO()
    Image.fromarray(np.array(values, np.uint8)).save(file, format)
    return base64.b64encode(file.getvalue()).decode()


MASK = [[1, 0, 255], [0, 7, 0]]


@pytest.mark.parametrize("corners, expected", [
    (((2, 1), (4, 2)), ["........", "..a.a...", "...a....", "........"]),
    (((2, 1), (3, 2)), ["........", "..a.....", "...a....", "........"]),     # cut off
    (((2.2, 0.8), (3.4, 0.9)), ["........", "..a.a...", "...a....", "........"]),
    (((-1, -1), (1, 0)), ["a.......", "........", "........", "........"]),
    (((6, 3), (8, 4)), ["........", "........", "........", "......a."]),
    (((4, 2), (2, 1)), ["........"] * 4),
    (((90, 90), (92, 91)), ["........"] * 4),
])
def test_mask(corners, expected):
    assert drawn(shape("mask", *corners, mask=packed(MASK)), size=(4, 8)) == expected


@pytest.mark.parametrize("mask, reason", [
    (packed(np.zeros((3, 9))), "its mask has 9x3 pixels, more than the photo"),
    (packed(np.zeros((5, 2))), "its mask has 2x5 pixels, more than the photo"),
    (packed(np.zeros((2, 2, 3))), "its mask is coloured"),
    (packed(MASK, "BMP"), "cannot identify image file"),
    ("A", "its mask is not base64"),
    ("AAAA", "cannot identify image file"),
    ("", "cannot identify image file"),
    ("\u00e9", "its mask is not base64"),
    (packed(np.random.default_rng(0).integers(0, 2, (4, 8)))[:60], ""),
])
def test_masks_that_are_none(mask, reason):
    good = shape("rectangle", (0, 0), (1, 1))
    with pytest.raises(ValueError) as caught:
        drawn(good, shape("mask", (0, 0), (3, 3), mask=mask), size=(4, 8))
    assert str(caught.value).startswith(f"shapes[1]: {reason}") and str(caught.value).isprintable()


def test_mask_that_declares_too_many_pixels():
    file = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, "PNG")
    with pytest.raises(ValueError, match=r"^shapes\[0\]: .*pixels"):
        drawn(shape("mask", (0, 0), (3, 3), mask=base64.b64encode(file.getvalue()).decode()))


# --- shapes that are none -------------------------------------------------------------------------

GOOD = {"label": "a", "shape_type": "polygon", "points": [[0, 0], [3, 0], [0, 3]]}
NUMBERS = "its points are not a list of [x, y] with numbers from -100000 to 100000"


@pytest.mark.parametrize("content, reason", [
    (None, "not an object"),
    ([1, 2], "not an object"),
    ("polygon", "not an object"),
    ({**GOOD, "label": None}, "its label is no name"),
    ({**GOOD, "label": 5}, "its label is no name"),
    ({**GOOD, "label": ""}, "its label is no name"),
    ({**GOOD, "label": 201 * "x"}, "its label is no name"),
    ({**GOOD, "label": ["a"]}, "its label is no name"),
    ({**GOOD, "shape_type": "points"}, "the shape 'points' cannot be drawn"),
    ({**GOOD, "shape_type": 7}, "the shape '7' cannot be drawn"),
    ({**GOOD, "shape_type": {"a": 1}}, "the shape \"{'a': 1}\" cannot be drawn"),
    ({**GOOD, "shape_type": 900 * "x"}, f"the shape '{40 * 'x'}' cannot be drawn"),
    ({**GOOD, "points": None}, NUMBERS),
    ({**GOOD, "points": {"x": 1}}, NUMBERS),
    ({**GOOD, "points": [1, 2, 3]}, NUMBERS),
    ({**GOOD, "points": [[0, 0], [3, 0], [0]]}, NUMBERS),
    ({**GOOD, "points": [[0, 0], [3, 0], [0, 3, 4]]}, NUMBERS),
    ({**GOOD, "points": [[0, 0], [3, 0], ["0", "3"]]}, NUMBERS),
    ({**GOOD, "points": [[0, 0], [3, 0], [True, 3]]}, NUMBERS),
    ({**GOOD, "points": [[0, 0], [3, 0], [None, 3]]}, NUMBERS),
    ({**GOOD, "points": [[0, 0], [3, 0], [math.nan, 3]]}, NUMBERS),
    ({**GOOD, "points": [[0, 0], [3, 0], [-math.inf, 3]]}, NUMBERS),
    ({**GOOD, "points": [[0, 0], [3, 0], [1e300, 3]]}, NUMBERS),
    ({**GOOD, "points": [[0, 0], [3, 0], [10**400, 3]]}, NUMBERS),
    ({**GOOD, "points": [[0, 0], [3, 0], [0, -100001]]}, NUMBERS),
    ({**GOOD, "points": []}, "a shape 'polygon' with 0 points"),
    ({**GOOD, "points": [[0, 0], [3, 0]]}, "a shape 'polygon' with 2 points"),
    ({**GOOD, "points": [[0, 0]] * 100_001}, "has 100,001 points; at most 100,000 are read"),
    ({**GOOD, "shape_type": "rectangle"}, "a shape 'rectangle' with 3 points"),
    ({**GOOD, "shape_type": "circle"}, "a shape 'circle' with 3 points"),
    ({**GOOD, "shape_type": "line"}, "a shape 'line' with 3 points"),
    ({**GOOD, "shape_type": "point"}, "a shape 'point' with 3 points"),
    ({**GOOD, "shape_type": "oriented_rectangle"}, "a shape 'oriented_rectangle' with 3 points"),
    ({**GOOD, "shape_type": "linestrip", "points": [[0, 0]]}, "a shape 'linestrip' with 1 points"),
    ({**GOOD, "shape_type": "mask"}, "a shape 'mask' with 3 points"),
    ({**GOOD, "shape_type": "mask", "points": [[0, 0], [1, 1]]}, "a mask without its pixels"),
    ({**GOOD, "shape_type": "mask", "points": [[0, 0], [1, 1]], "mask": [[1]]},
     "a mask without its pixels"),
])
def test_shapes_that_are_none(content, reason):
    with pytest.raises(ValueError) as caught:
        read_shape(content)
    assert str(caught.value) == reason


def test_circle_beyond_all_photos():
    with pytest.raises(ValueError) as caught:
        drawn(shape("circle", (-90000, 0), (90000, 0)))
    assert str(caught.value) == "shapes[0]: a circle of radius 180000; the largest is 25000"


def test_shape_as_read():
    assert read_shape({**GOOD, "mask": "ignored"}) == Shape(
        "a", "polygon", [(0, 0), (3, 0), (0, 3)], None)
