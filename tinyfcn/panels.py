"""Panels: pictures side by side with captions, and one legend for all.

The paper's is one row: photo | 32s | 16s | 8s | truth. Those of the worst photos have a row each.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from . import drawing

LARGEST, SMALLEST = 1600, 192       # pixels of the longer side of a picture in a panel
VOID = (255, 255, 255)              # colour of what is not labelled
VOID_NAME = "not labelled"


class Picture(NamedTuple):
    """Pixels (h, w, 3) uint8 and what stands above them."""

    pixels: np.ndarray
    caption: str


def class_picture(labels, colours, void=None, photo=None, alpha=1):
    """A label map in the colours of its classes, over a photo if that is given.

    Parameters
    ----------
    labels : (h, w) uint8 or uint16
    colours : list of (r, g, b)
    void : int, optional
        The label of pixels that are not labelled, which become white.
    photo : (h, w, 3) uint8, optional
    alpha : float
        Weight of the colours over the photo, 0..1.

    Returns
    -------
    (h, w, 3) uint8
    """
    palette = drawing.class_colours(int(labels.max(initial=0)) + 1, colours)
    if void is not None and 0 <= void < len(palette):
        palette[void] = VOID
    if photo is None:
        return palette[labels]
    return drawing.blend(photo, labels, palette, alpha)


def fit(pixels, largest=LARGEST):
    """A picture for a panel: made smaller by averaging, or larger by a whole factor, if need be."""
    h, w, _ = pixels.shape
    side = max(h, w)
    if side > largest:
        size = max(1, round(w * largest / side)), max(1, round(h * largest / side))
        return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
    factor = max(1, min(SMALLEST, largest) // side)
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def present(predicted, truth=(), void=None):
    """Which classes are in label maps, and `None` where some pixel of the truth is not labelled.

    Parameters
    ----------
    predicted, truth : sequences of (h, w) uint8 or uint16
    void : int, optional
        The label of pixels of the truth that are not labelled.

    Returns
    -------
    set
    """
    found = set()
    for labels in predicted:
        found.update(np.unique(labels).tolist())
    for labels in truth:
        found.update(None if label == void else label for label in np.unique(labels).tolist())
    return found


def legend_entries(found, names, colours):
    """The entries of the legend for what :func:`present` found, in the order of the classes.

    Parameters
    ----------
    found : set
    names : list of str
    colours : list of (r, g, b)

    Returns
    -------
    list of ((r, g, b), str)
    """
    entries = [(colours[index], drawing.shortened(names[index]))
               for index in sorted(found - {None})]
    return entries + ([(VOID, VOID_NAME)] if None in found else [])


def panel(rows, entries):
    """Rows of pictures with their captions above them, in columns, and a legend below.

    Parameters
    ----------
    rows : list of list of Picture
    entries : list of ((r, g, b), str)
        Of the legend.

    Returns
    -------
    (h, w, 3) uint8
    """
    sides = [side for row in rows for each in row for side in each.pixels.shape[:2]]
    text_size = int(np.clip(max(sides) * 0.04, 12, 40))
    font = drawing.font_of(text_size)
    line = sum(drawing.ascent_and_descent(font))
    gap = max(4, text_size // 2)

    columns = [
        max(max(each.pixels.shape[1], int(np.ceil(font.getlength(each.caption))))
            for each in column)
        for column in zip(*rows, strict=True)]
    heights = [line + gap // 2 + max(each.pixels.shape[0] for each in row) for row in rows]
    width = sum(columns) + gap * (len(columns) + 1)
    below = drawing.legend(entries, width, text_size)
    image = Image.new("RGB", (max(width, below.shape[1]),
                              sum(heights) + gap * (len(rows) + 1) + below.shape[0]),
                      drawing.BACKGROUND)
    draw = ImageDraw.Draw(image)
    y = gap
    for row, height in zip(rows, heights):
        x = gap
        for each, column in zip(row, columns):
            draw.text((x, y), each.caption, fill=drawing.INK, font=font)
            image.paste(Image.fromarray(each.pixels), (x, y + line + gap // 2))
            x += column + gap
        y += height + gap
    image.paste(Image.fromarray(below), (0, y))
    return np.asarray(image)
