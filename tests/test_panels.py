"""Panels: what stands where, and in which colours."""
import numpy as np
import pytest

from tinyfcn import drawing, panels
from tinyfcn.data.palettes import voc_palette

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
WHITE = (255, 255, 255)


def flat(h, w, colour):
    return np.full((h, w, 3), colour, np.uint8)


def places(picture, colour):
    """The smallest box (top, left, bottom, right) that holds all pixels of a colour."""
    found = np.argwhere((picture == colour).all(axis=2))
    return (*found.min(axis=0).tolist(), *(found.max(axis=0) + 1).tolist())


def test_class_picture():
    labels = np.array([[0, 1], [2, 9]], np.uint8)
    expected = [[COLOURS[0], COLOURS[1]], [COLOURS[2], voc_palette(10)[9]]]
    np.testing.assert_array_equal(panels.class_picture(labels, COLOURS), expected)
    expected[1][1] = WHITE
    np.testing.assert_array_equal(panels.class_picture(labels, COLOURS, void=9), expected)
    np.testing.assert_array_equal(panels.class_picture(labels, COLOURS, void=255)[0], expected[0])
    assert COLOURS == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def test_void_may_be_below_zero_and_labels_of_16_bits():
    labels = np.array([[0, 300]], np.uint16)
    found = panels.class_picture(labels, COLOURS, void=-1)
    np.testing.assert_array_equal(found, [[COLOURS[0], voc_palette(301)[300]]])


def test_class_picture_over_a_photo():
    labels, photo = np.array([[0, 9]], np.uint8), flat(1, 2, (100, 100, 100))
    half = panels.class_picture(labels, COLOURS, 9, photo, 0.5)
    np.testing.assert_allclose(half, [[(178, 50, 50), (178, 178, 178)]], atol=1)
    whole = panels.class_picture(labels, COLOURS, 9, photo, 1)
    np.testing.assert_array_equal(whole, [[COLOURS[0], WHITE]])


@pytest.mark.parametrize("size, largest, expected", [
    ((360, 480), 1600, (360, 480)), ((192, 1), 1600, (192, 1)), ((191, 5), 1600, (191, 5)),
    ((96, 50), 1600, (192, 100)), ((1, 1), 1600, (192, 192)), ((33, 31), 1600, (165, 155)),
    ((1200, 3200), 1600, (600, 1600)), ((3, 5000), 1600, (1, 1600)), ((5000, 1), 1600, (1600, 1)),
    ((360, 480), 240, (180, 240)), ((50, 50), 100, (100, 100)), ((50, 50), 99, (50, 50))])
def test_fit(size, largest, expected):
    assert panels.fit(np.zeros((*size, 3), np.uint8), largest).shape == (*expected, 3)


def test_fit_keeps_pixels_whole_when_it_enlarges_and_averages_when_it_shrinks():
    small = np.random.default_rng(0).integers(0, 256, (60, 70, 3), np.uint8)
    np.testing.assert_array_equal(panels.fit(small)[::2, 1::2], small)
    large = np.zeros((400, 400, 3), np.uint8)
    large[::2] = 200
    np.testing.assert_allclose(panels.fit(large, 200), 100, atol=1)


def test_what_is_present():
    first, second = np.array([[0, 2]], np.uint8), np.array([[2, 2]], np.uint8)
    truth = np.array([[1, 9]], np.uint8)
    assert panels.present([first, second]) == {0, 2}
    assert panels.present([second], [truth], 9) == {1, 2, None}
    assert panels.present([], [truth], 255) == {1, 9}
    # A net may predict the class whose number means void in the truth.
    assert panels.present([first], [first], 2) == {0, 2, None}


def test_legend_entries():
    names = ["a", "b", "c" * 50]
    assert panels.legend_entries({2, 0}, names, COLOURS) == [
        (COLOURS[0], "a"), (COLOURS[2], "c" * 37 + "...")]
    assert panels.legend_entries({None, 1}, names, COLOURS) == [
        (COLOURS[1], "b"), (WHITE, "not labelled")]


def test_panel_shows_every_picture_whole_in_rows_and_columns():
    colours = [[(200, 0, 0), (0, 200, 0), (0, 0, 200)], [(90, 0, 0), (0, 90, 0), (0, 0, 90)]]
    sizes = [[(50, 150), (60, 150), (50, 150)], [(40, 170), (40, 10), (70, 150)]]
    rows = [[panels.Picture(flat(*size, colour), f"{size[0]}x{size[1]}")
             for size, colour in zip(*row)] for row in zip(sizes, colours)]
    picture = panels.panel(rows, [(WHITE, "nothing")])
    boxes = [[places(picture, colour) for colour in row] for row in colours]
    for row, row_sizes in zip(boxes, sizes):
        for (top, left, bottom, right), (h, w) in zip(row, row_sizes):
            assert (bottom - top, right - left) == (h, w)
            # The caption stands in the empty line above.
            assert (picture[top - 20:top, left:left + 60] < 100).any()
        assert len({top for top, *_ in row}) == 1
        assert row[0][3] < row[1][1] and row[1][3] < row[2][1]
    for above, below in zip(*boxes):
        assert above[1] == below[1] and above[2] < below[0]
    assert picture.dtype == np.uint8


def test_panel_is_as_wide_as_its_captions_and_legend():
    narrow = [panels.Picture(flat(5, 1, (9, 9, 9)), "a caption much wider than its picture")]
    picture = panels.panel([2 * narrow], [])
    font = drawing.font_of(12)
    assert picture.shape[1] > 2 * font.getlength(narrow[0].caption)
    wide = panels.panel([narrow], [(WHITE, "an entry " + 20 * "that goes on ")])
    assert wide.shape[1] > picture.shape[1]


def test_legend_stands_below_the_last_row():
    rows = [[panels.Picture(flat(30, 40, (1, 2, 3)), "x")]] * 2
    picture = panels.panel(rows, [((250, 0, 250), "pink")])
    assert places(picture, (250, 0, 250))[0] > places(picture, (1, 2, 3))[2]
