"""Shapes drawn on a photo in labelme, and the label map that they make."""

import base64
import io
import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from .classes import is_name
from .label_maps import open_png

LINE_WIDTH, POINT_RADIUS = 10, 5        # in pixels, as labelme draws them

# How many points a shape has: exactly, or at least.
_COUNTS = {"rectangle": 2, "circle": 2, "line": 2, "point": 1, "oriented_rectangle": 4, "mask": 2}
_AT_LEAST = {"polygon": 3, "linestrip": 2}

# Far beyond any photo, and still exact in the integers that Pillow draws with.
_LARGEST_COORDINATE = 100_000
_LARGEST_RADIUS = 25_000
_MAX_POINTS = 100_000


class Shape(NamedTuple):
    """One shape of a label.

    Attributes
    ----------
    label : str
    kind : str
        One of labelme's shape types.
    points : list of (x, y)
        In pixels from the photo's top left corner.
    mask : str or None
        For the kind "mask" a PNG file in base64, whose top left corner is the first point.
    """

    label: str
    kind: str
    points: list
    mask: str | None


def read_shape(content):
    """The shape that an object of labelme's JSON is.

    Raises
    ------
    ValueError
        If it is none; the message is one line.
    """
    if not isinstance(content, dict):
        raise ValueError("not an object")
    label, kind, points = (content.get(name) for name in ("label", "shape_type", "points"))
    if not is_name(label):
        raise ValueError("its label is no name")
    kind = "polygon" if kind is None else kind          # as labelme's first versions wrote
    if not isinstance(kind, str) or not (kind in _COUNTS or kind in _AT_LEAST):
        raise ValueError(f"the shape {str(kind)[:40]!r} cannot be drawn")
    if not isinstance(points, list) or not all(map(_is_point, points)):
        raise ValueError("its points are not a list of [x, y] with numbers from "
                         f"-{_LARGEST_COORDINATE} to {_LARGEST_COORDINATE}")
    if len(points) != _COUNTS.get(kind, len(points)) or len(points) < _AT_LEAST.get(kind, 0):
        raise ValueError(f"a shape {kind!r} with {len(points)} points")
    if len(points) > _MAX_POINTS:
        raise ValueError(f"has {len(points):,} points; at most {_MAX_POINTS:,} are read")
    mask = content.get("mask") if kind == "mask" else None
    if kind == "mask" and not isinstance(mask, str):
        raise ValueError("a mask without its pixels")
    return Shape(label, kind, [tuple(point) for point in points], mask)


def _is_point(value):
    # A NaN fails every comparison.
    return isinstance(value, list) and len(value) == 2 and all(
        isinstance(each, (int, float)) and not isinstance(each, bool)
        and -_LARGEST_COORDINATE <= each <= _LARGEST_COORDINATE for each in value)


def draw_labels(shapes, size, labels, background):
    """The label map of shapes, the later ones over the earlier ones.

    Parameters
    ----------
    shapes : list of Shape
    size : (h, w)
    labels : dict
        {name: label}
    background : int
        Label of what lies in no shape.

    Returns
    -------
    (h, w) uint8

    Raises
    ------
    ValueError
        If a shape can't be drawn; the message names it and is one line.

    References
    ----------
    `shape_to_mask` and `shapes_to_label` of labelme: each pixel is the same as theirs.
    """
    height, width = size
    canvas = Image.new("L", (width, height), background)
    pen = ImageDraw.Draw(canvas)
    for index, shape in enumerate(shapes):
        try:
            _draw(canvas, pen, shape, labels[shape.label])
        except ValueError as error:
            raise ValueError(f"shapes[{index}]: {error}") from None
    return np.array(canvas)


def _draw(canvas, pen, shape, label):
    points = shape.points
    if shape.kind in ("polygon", "oriented_rectangle"):
        pen.polygon(points, fill=label, outline=label)
    elif shape.kind == "rectangle":
        xs, ys = zip(*points)
        pen.rectangle((min(xs), min(ys), max(xs), max(ys)), fill=label, outline=label)
    elif shape.kind == "circle":
        _draw_disc(pen, points[0], math.dist(*points), label)
    elif shape.kind == "point":
        _draw_disc(pen, points[0], POINT_RADIUS, label)
    elif shape.kind == "line":
        pen.line(points, fill=label, width=LINE_WIDTH)
    elif shape.kind == "linestrip":
        pen.line(points, fill=label, width=LINE_WIDTH, joint="curve")
    else:
        _draw_mask(canvas, shape, label)


def _draw_disc(pen, centre, radius, label):
    if radius > _LARGEST_RADIUS:
        raise ValueError(f"a circle of radius {radius:.0f}; the largest is {_LARGEST_RADIUS}")
    x, y = centre
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=label, outline=label)


def _draw_mask(canvas, shape, label):
    try:
        content = base64.b64decode(shape.mask)
    except ValueError:
        raise ValueError("its mask is not base64") from None
    try:
        with open_png(io.BytesIO(content)) as image:
            if image.width > canvas.width or image.height > canvas.height:
                raise ValueError(f"its mask has {image.width}x{image.height} pixels, more than "
                                 "the photo")
            mask = np.array(image)
    except MemoryError:
        raise
    except Exception as error:          # damaged bytes make decoders raise errors of any type
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None
    if mask.ndim != 2:
        raise ValueError("its mask is coloured")
    (left, top), (right, bottom) = ([round(each) for each in point] for point in shape.points)
    if all(each == int(each) for point in shape.points for each in point):
        # Whole numbers are the corners of what is shown of the mask; others only place it.
        mask = mask[:max(0, bottom - top + 1), :max(0, right - left + 1)]
    if mask.size:
        canvas.paste(label, (left, top), Image.fromarray((mask != 0).astype(np.uint8) * 255))
