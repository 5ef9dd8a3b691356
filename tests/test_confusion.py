"""A confusion matrix as a table and as a picture."""
import csv
import io

import numpy as np
import pytest

from tinyfcn import confusion, drawing


def table(matrix, names):
    return list(csv.reader(io.StringIO(confusion.to_csv(np.array(matrix), names).decode())))


def test_table():
    assert confusion.to_csv(np.array([[3, 0], [1, 10**15]]), ["sky", "road"]) == (
        b"true \\ predicted,sky,road\nsky,3,0\nroad,1,1000000000000000\n")


def test_names_with_commas_quotes_and_line_breaks_survive():
    names = ['a, "b"', "two\nlines", "Straße 雪"]
    found = table(np.eye(3, dtype=int), names)
    assert found[0][1:] == names and [row[0] for row in found[1:]] == names
    assert found[2][1:] == ["0", "1", "0"]


def cells(matrix, names=None):
    """The picture, and the colour of each cell at its corner, where no number stands."""
    matrix = np.array(matrix)
    n = len(matrix)
    picture = confusion.picture(matrix, names or [f"class {i}" for i in range(n)])
    side = 44 if n <= 32 else 18 if n <= 96 else 6
    # The cells are all that is not white on the right and at the bottom.
    bottom = np.flatnonzero((picture < 255).any(axis=(1, 2)))[-1] + 1
    left = picture.shape[1]
    row = (picture[bottom - 1] < 255).any(axis=1)
    right = np.flatnonzero(row)[-1] + 1
    left, top = right - n * side, bottom - n * side
    assert row[left:right].all()
    return picture, picture[top + 1:bottom:side, left + 1:right:side]


def test_cells_are_coloured_by_their_share_of_the_true_class():
    matrix = [[30, 10, 0], [0, 0, 0], [0, 1, 1]]
    _, found = cells(matrix)
    expected = drawing.heat_colours(np.array([[0.75, 0.25, 0], [0, 0, 0], [0, 0.5, 0.5]]))
    expected[1] = 208                       # nowhere true: no share
    np.testing.assert_array_equal(found, expected)


def test_what_is_there_is_marked_and_what_is_not_is_empty():
    picture, found = cells([[99999, 1, 0], [0, 1, 0], [0, 0, 1]])
    # Within cells of one colour, those of 1 and of 0 pixels, a dot tells the difference.
    bottom = np.flatnonzero((picture < 255).any(axis=(1, 2)))[-1] + 1
    right = np.flatnonzero((picture[bottom - 1] < 255).any(axis=1))[-1] + 1
    top, left = bottom - 3 * 44, right - 3 * 44
    few, none = (picture[top:top + 44, left + n * 44:left + (n + 1) * 44] for n in (1, 2))
    assert len(np.unique(none.reshape(-1, 3), axis=0)) == 1
    assert len(np.unique(few.reshape(-1, 3), axis=0)) > 1


@pytest.mark.parametrize("classes", [1, 2, 32, 33, 96, 97, 256])
def test_any_number_of_classes(classes):
    rng = np.random.default_rng(classes)
    matrix = rng.integers(0, 50, (classes, classes))
    picture, found = cells(matrix, ["n" * (1 + i % 50) for i in range(classes)])
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    expected = np.where(matrix.sum(axis=1)[:, None, None] > 0, drawing.heat_colours(shares), 208)
    np.testing.assert_array_equal(found, expected)
    assert max(picture.shape) < 2600 and picture.dtype == np.uint8


def test_nothing_counted_at_all():
    _, found = cells(np.zeros((2, 2), int))
    assert (found == 208).all()


def test_names_stand_beside_and_above():
    picture, _ = cells([[1, 0], [0, 1]], ["M" * 10, "i"])
    short, _ = cells([[1, 0], [0, 1]], ["i", "i"])
    assert picture.shape[0] > short.shape[0] + 50


def test_strange_names_are_drawn():
    confusion.picture(np.eye(3, dtype=int), ["two\nlines", "", "雪\x07" + 500 * "x"])
