"""The learning curve of a run as a picture: loss and score over the epochs."""

import math

import numpy as np
from PIL import Image, ImageDraw

from .drawing import BACKGROUND, INK, font_of

# Pixels of the picture, and of what is around and between its two plots.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM, TEXT = 900, 640, 76, 20, 30, 34, 15
GRID, LINES = (222, 222, 222), ((196, 64, 32), (24, 96, 168))


def draw(rows, measure):
    """Draw the log of a run.

    Parameters
    ----------
    rows : list of dict
        Of the log: "epoch", "loss" and, where a net was scored, `measure`.
    measure : str

    Returns
    -------
    (h, w, 3) uint8
        The loss above, the score below; the plot of a score that no row has is left out.
    """
    plots = [(name, points) for name in ("loss", measure)
             if (points := [(row["epoch"], row[name]) for row in rows if _is_number(row, name)])]
    image = Image.new("RGB", (WIDTH, HEIGHT), BACKGROUND)
    canvas = ImageDraw.Draw(image)
    last = max((row["epoch"] for row in rows), default=1)
    height = HEIGHT // max(1, len(plots))
    for place, (name, points) in enumerate(plots):
        box = LEFT, place * height + TOP, WIDTH - RIGHT, (place + 1) * height - BOTTOM
        _plot(canvas, box, name.replace("_iu", "_IU").replace("_", " "), points, last, LINES[place])
    return np.asarray(image)


def _is_number(row, name):
    value = row.get(name)
    return isinstance(value, (int, float)) and math.isfinite(value)


def _plot(canvas, box, title, points, last, colour):
    """Points (epoch, value) within a box (left, top, right, bottom) of pixels."""
    left, top, right, bottom = box
    values = [value for _, value in points]
    marks = ticks(min(values), max(values))
    low, high = min(marks[0], *values), max(marks[-1], *values)

    def x(epoch):
        return left + (right - left) * (epoch - 1) / max(1, last - 1)

    def y(value):
        return bottom - (bottom - top) * (value - low) / (high - low)

    font = font_of(TEXT)
    for mark in marks:
        canvas.line((left, y(mark), right, y(mark)), fill=GRID)
        canvas.text((left - 8, y(mark)), f"{mark:.6g}", fill=INK, font=font, anchor="rm")
    for epoch in ticks(1, last, 10):
        if epoch == int(epoch) and 1 <= epoch <= last:
            canvas.text((x(epoch), bottom + 6), f"{epoch:.0f}", fill=INK, font=font, anchor="ma")
    canvas.text((left, top - 8), f"{title}, by epoch", fill=INK, font=font, anchor="ls")
    line = [(x(epoch), y(value)) for epoch, value in points]
    canvas.line(line, fill=colour, width=2)
    end_x, end_y = line[-1]
    canvas.ellipse((end_x - 3, end_y - 3, end_x + 3, end_y + 3), fill=colour)
    canvas.text((right, top - 8), f"last {values[-1]:.5g}, lowest {min(values):.5g}, highest "
                f"{max(values):.5g}", fill=INK, font=font, anchor="rs")


def ticks(low, high, wanted=5):
    """Round numbers, at least two, from `low` or just below it to `high` or just above.

    Their distance is 1, 2 or 5 times a power of ten; there are about as many as wanted.
    """
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / wanted))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= wanted)
    first, end = math.floor(low / step), math.ceil(high / step)
    return [index * step for index in range(first, max(end, first + 1) + 1)]
