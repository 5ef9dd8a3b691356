"""Pictures of segmentations: label maps with a palette, overlays with a legend."""

import functools
import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tinyfcn.data.palettes import voc_palette

_BAND = 256                         # rows blended at a time, to need little memory
BACKGROUND = (255, 255, 255)
INK = (32, 32, 32)


def class_colours(classes, colours=None):
    """Colours for `classes` classes: those given, then the Pascal VOC palette's for the rest.

    Parameters
    ----------
    classes : int
    colours : list of (r, g, b), optional

    Returns
    -------
    (classes, 3) uint8
    """
    palette = voc_palette(classes)
    if colours is not None:
        given = np.asarray(colours, np.uint8).reshape(-1, 3)[:classes]
        palette[:len(given)] = given
    return palette


def png(pixels, palette=None):
    """Encode pixels as the bytes of a PNG file.

    Parameters
    ----------
    pixels : (h, w, 3) uint8, (h, w) uint8 or (h, w) uint16
        Colours, or values that are kept as they are.
    palette : (256, 3) uint8, optional
        Makes (h, w) uint8 an indexed PNG: the pixel values are the indices.

    Returns
    -------
    bytes
    """
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if palette is not None:
        image.putpalette(np.asarray(palette, np.uint8).tobytes())
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def labels_png(labels, colours=None):
    """Encode a label map as a PNG whose pixel values are the class indices.

    Up to 256 classes it is an indexed PNG of 256 colours, which only viewers that know palettes
    show in colour; beyond, it is a grey PNG of 16 bits.

    Parameters
    ----------
    labels : (h, w) uint8 or uint16
    colours : list of (r, g, b), optional
        By class index; the Pascal VOC palette fills up what it leaves.

    Returns
    -------
    bytes
    """
    if labels.dtype != np.uint8:
        return png(labels)
    return png(labels, class_colours(256, colours))


def blend(photo, labels, colours=None, alpha=0.5):
    """Tint every pixel of a photo with the colour of its class.

        y = (1 - alpha) * photo + alpha * colour

    Parameters
    ----------
    photo : (h, w, 3) uint8
    labels : (h, w) uint8 or uint16
    colours : list of (r, g, b), optional
    alpha : float
        0 is the photo, 1 the colours alone.

    Returns
    -------
    (h, w, 3) uint8
    """
    if labels.shape != photo.shape[:2]:
        raise ValueError(f"the labels are {labels.shape}, the photo is {photo.shape[:2]}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha lies between 0 and 1; it is {alpha}")
    # Whole 256ths keep the arithmetic in 16-bit integers, exact at both ends.
    weight = round(alpha * 256)
    palette = class_colours(int(labels.max(initial=0)) + 1, colours).astype(np.uint16)
    palette = palette * weight + 128
    blended = np.empty_like(photo)
    for top in range(0, len(photo), _BAND):
        rows = slice(top, top + _BAND)
        tinted = photo[rows].astype(np.uint16)
        tinted *= 256 - weight
        tinted += palette[labels[rows]]
        tinted >>= 8
        blended[rows] = tinted
    return blended


def legend(entries, width, text_size):
    """Draw colour swatches with their texts, flowing into as many rows as they need.

    Parameters
    ----------
    entries : list of ((r, g, b), str)
    width : int
        Pixels. Where the longest text needs more, the legend is wider.
    text_size : int
        Pixels.

    Returns
    -------
    (h, w, 3) uint8
        w >= width.
    """
    font = font_of(text_size)
    ascent, descent = ascent_and_descent(font)
    swatch = ascent
    gap = max(2, text_size // 2)
    row = ascent + descent + gap // 2
    widths = [swatch + gap // 2 + int(np.ceil(font.getlength(text))) for _, text in entries]
    width = max([width, *(each + 2 * gap for each in widths)])

    # Entries stand in columns of one width, as a table does: easier to read than running text.
    column = max(widths, default=0) + gap
    columns = max(1, (width - gap) // column)
    rows = -(-len(entries) // columns)
    image = Image.new("RGB", (width, rows * row + gap), BACKGROUND)
    draw = ImageDraw.Draw(image)
    for number, (colour, text) in enumerate(entries):
        x = gap + number // rows * column
        y = gap // 2 + number % rows * row
        box = (x, y + gap // 4, x + swatch - 1, y + gap // 4 + swatch - 1)
        draw.rectangle(box, fill=tuple(int(c) for c in colour), outline=INK)
        draw.text((x + swatch + gap // 2, y + gap // 4), text, fill=INK, font=font)
    return np.asarray(image)


def overlay(photo, labels, statistics, colours=None, alpha=0.5):
    """A photo tinted with its classes, and below it the legend of the classes present.

    Parameters
    ----------
    photo : (h, w, 3) uint8
    labels : (h, w) uint8 or uint16
    statistics : list of dict
        "index", "name" and "share" of the classes present in the order of the legend: see
        :func:`tinyfcn.inference.class_statistics`.
    colours : list of (r, g, b), optional
    alpha : float
        Weight of the class colours, 0..1.

    Returns
    -------
    (h + legend, w or the legend's width, 3) uint8
        The photo keeps its size and lies at the top left.
    """
    tinted = blend(photo, labels, colours, alpha)
    palette = class_colours(1 + max((s["index"] for s in statistics), default=0), colours)
    return _above_legend(tinted, [
        (palette[s["index"]], f"{shortened(s['name'])} {percent(s['share'])}")
        for s in statistics])


# From cold to hot, through colours whose lightness rises: readable in grey too.
_HEAT = np.array([(0, 0, 64), (84, 16, 109), (187, 55, 84), (249, 142, 9), (252, 255, 164)], float)


def heat_colours(values):
    """Colours for numbers from 0, dark blue, to 1, light yellow.

    Parameters
    ----------
    values : (...) float

    Returns
    -------
    (..., 3) uint8
    """
    places = np.clip(values, 0, 1) * (len(_HEAT) - 1)
    stops = np.arange(len(_HEAT))
    channels = [np.interp(places, stops, _HEAT[:, c]) for c in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def heat_overlay(photo, heat, name, alpha=0.6):
    """A photo in grey, tinted by a map of probabilities, and below it what the colours mean.

    Parameters
    ----------
    photo : (h, w, 3) uint8
    heat : (h, w) float
        0..1.
    name : str
        Of what the map shows.
    alpha : float
        Weight of the colours, 0..1.

    Returns
    -------
    (h + legend, w or the legend's width, 3) uint8
        The photo keeps its size and lies at the top left.
    """
    if heat.shape != photo.shape[:2]:
        raise ValueError(f"the map is {heat.shape}, the photo is {photo.shape[:2]}")
    h, w, _ = photo.shape
    tinted = np.empty_like(photo)
    for top in range(0, h, _BAND):
        rows = slice(top, top + _BAND)
        grey = photo[rows].mean(axis=2, keepdims=True)
        tinted[rows] = np.rint((1 - alpha) * grey + alpha * heat_colours(heat[rows]))
    marks = [(heat_colours(np.array(value)), f"{100 * value:.0f} %")
             for value in (0, 0.25, 0.5, 0.75, 1)]
    largest = float(heat.max())
    marks.append((heat_colours(np.array(largest)),
                  f"{shortened(name)}: at most {percent(largest)}"))
    return _above_legend(tinted, marks)


def percent(share):
    """A share 0..1 as text. What is there never shows as 0."""
    if 0 < share < 0.0005:
        return "< 0.1 %"
    return f"{100 * share:.1f} %"


def _above_legend(picture, entries):
    h, w, _ = picture.shape
    # Two per cent of the photo's larger side stays readable when the whole is scaled to a screen.
    text_size = int(np.clip(max(h, w) * 0.022, 12, 120))
    below = legend(entries, w, text_size)
    canvas = np.full((h + below.shape[0], max(w, below.shape[1]), 3), 255, np.uint8)
    canvas[:h, :w] = picture
    canvas[h:, :below.shape[1]] = below
    return canvas


def shortened(name):
    """A name as one line of at most 40 characters."""
    name = " ".join(name.split())   # a line break cannot be measured
    return name if len(name) <= 40 else name[:37] + "..."


@functools.lru_cache(maxsize=8)
def font_of(size):
    """The font of all pictures, `size` pixels high."""
    try:
        return ImageFont.load_default(size)
    except ImportError:             # Pillow without FreeType has one small bitmap font
        return ImageFont.load_default()


def ascent_and_descent(font):
    """How far a line of text reaches above and below its base line, in pixels."""
    if hasattr(font, "getmetrics"):
        return font.getmetrics()
    _, top, _, bottom = font.getbbox("Ag")
    return bottom - top, 0
