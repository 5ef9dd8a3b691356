"""The picture of a learning curve."""
import numpy as np
import pytest

from tinyfcn import curves


@pytest.mark.parametrize("low, high, expected", [
    (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
    (0.13, 0.87, [0, 0.2, 0.4, 0.6, 0.8, 1]),
    (1, 120, [0, 50, 100, 150]),
    (-3, 8, [-5, 0, 5, 10]),
    (1e6, 3e6, [1e6, 1.5e6, 2e6, 2.5e6, 3e6]),
    (2, 2, [2, 2.5]),
    (0, 0, [0, 0.2]),
])
def test_ticks(low, high, expected):
    assert curves.ticks(low, high) == pytest.approx(expected)


def coloured(picture, colour):
    """The rows and columns of a picture's pixels of a colour."""
    return np.nonzero((picture == colour).all(axis=2))


def test_curves_fall_and_rise_where_the_numbers_do():
    rows = [{"epoch": e, "loss": 1 / e, "val_mean_iu": 0.1 * e} for e in range(1, 6)]
    picture = curves.draw(rows, "val_mean_iu")
    assert picture.shape == (640, 900, 3) and picture.dtype == np.uint8
    (loss_y, loss_x), (score_y, score_x) = (coloured(picture, c) for c in curves.LINES)
    assert loss_y.max() < 320 < score_y.min()           # the loss above, the score below
    for y, x, falls in (loss_y, loss_x, True), (score_y, score_x, False):
        assert x.min() <= curves.LEFT + 1 and x.max() >= 900 - curves.RIGHT - 1
        first, last = y[x == x.min()].mean(), y[x == x.max()].mean()
        assert (first < last) == falls


def test_what_is_not_there_is_not_drawn():
    rows = [{"epoch": e, "loss": 2.0, "val_mean_iu": None} for e in range(1, 4)]
    picture = curves.draw(rows, "val_mean_iu")
    loss, score = (len(coloured(picture, colour)[0]) for colour in curves.LINES)
    assert loss > 0 == score
    rows = [{"epoch": 1, "loss": 0.5, "val_mean_iu": 0.5}, {"epoch": 2, "loss": 0.25}]
    picture = curves.draw(rows, "val_mean_iu")
    assert len(coloured(picture, curves.LINES[1])[0])   # a single point is a dot
    assert curves.draw([], "val_mean_iu").shape == (640, 900, 3)
    curves.draw([{"epoch": 1, "loss": float("inf")}], "val_mean_iu")
