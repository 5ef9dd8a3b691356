"""A confusion matrix as a table and as a picture."""

import csv
import io

import numpy as np
from PIL import Image, ImageDraw

from . import drawing

_TEXT = 14                          # pixels
_UNKNOWN = (208, 208, 208)          # rows of classes without a true pixel
# (most classes, side of a cell in pixels): beyond the first there is no room for numbers, beyond
# the second none for names.
_SIZES = ((32, 44), (96, 18), (65536, 6))


def to_csv(matrix, names):
    """A table of pixel counts: a row for each true class, a column for each predicted one.

    Parameters
    ----------
    matrix : (classes, classes) of int, [true class, predicted class]
    names : list of str

    Returns
    -------
    bytes
        UTF-8; the first row and column hold the names.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["true \\ predicted", *names])
    for name, row in zip(names, matrix):
        writer.writerow([name, *map(int, row)])
    return file.getvalue().encode()


def picture(matrix, names):
    """Draw which share of each true class, a row, is predicted as each class, a column.

    Rows of classes that are nowhere true are grey. The numbers are per cent, rounded; what is
    there but rounds to 0 shows as a dot.

    Parameters
    ----------
    matrix : (classes, classes) of int, [true class, predicted class]
    names : list of str

    Returns
    -------
    (h, w, 3) uint8
    """
    matrix = np.asarray(matrix)
    classes = len(matrix)
    side = next(side for most, side in _SIZES if classes <= most)
    true = matrix.sum(axis=1, keepdims=True)
    shares = matrix / np.maximum(true, 1)
    colours = np.where(true[..., None] > 0, drawing.heat_colours(shares), _UNKNOWN)
    cells = colours.astype(np.uint8).repeat(side, axis=0).repeat(side, axis=1)

    font = drawing.font_of(_TEXT)
    line = sum(drawing.ascent_and_descent(font))
    named = side >= _TEXT
    labels = [drawing.shortened(name) for name in names] if named else []
    longest = max([0, *(int(np.ceil(font.getlength(label))) for label in labels)])
    gap = _TEXT // 2
    # Above the cells the columns' names, written upwards, and what the axes mean.
    left, top = longest + 2 * gap, longest + 3 * gap + line
    title = "rows: true class, columns: predicted class, in per cent of the true class"
    width = max(left + classes * side + gap, int(np.ceil(font.getlength(title))) + 2 * gap)
    image = Image.new("RGB", (width, top + classes * side + gap), drawing.BACKGROUND)
    draw = ImageDraw.Draw(image)
    draw.text((gap, gap), title, fill=drawing.INK, font=font)
    image.paste(Image.fromarray(cells), (left, top))
    for index, label in enumerate(labels):
        middle = index * side + (side - line) // 2
        length = font.getlength(label)
        draw.text((left - gap - length, top + middle), label, fill=drawing.INK, font=font)
        upright = Image.new("RGB", (longest + 1, line), drawing.BACKGROUND)
        ImageDraw.Draw(upright).text((0, 0), label, fill=drawing.INK, font=font)
        image.paste(upright.transpose(Image.Transpose.ROTATE_90),
                    (left + middle, top - gap - longest - 1))
    if side == _SIZES[0][1]:
        for (row, column), count in np.ndenumerate(matrix):
            if count:
                share = shares[row, column]
                text = f"{100 * share:.0f}" if share >= 0.005 else "·"
                x = left + column * side + (side - font.getlength(text)) / 2
                y = top + row * side + (side - line) / 2
                # White on the dark half of the colours, black on the light one.
                draw.text((x, y), text, fill=(255, 255, 255) if share < 0.6 else (0, 0, 0),
                          font=font)
    return np.asarray(image)
