"""Label maps: PNG files that hold a class for each pixel, as its number or as its colour."""

import warnings

import numpy as np
from PIL import Image

from .errors import DataError, data_error
from .images import MAX_PIXELS, ImageError, check_file, opening

GREY = ("1", "L", "P", "I;16", "I")     # modes of Pillow whose values are the labels


def read_labels(path, classes, ignore_label, meaning=None):
    """A label map (h, w) of uint8.

    Parameters
    ----------
    path : path
        A PNG file: indexed; grey of 1 to 16 bits, whose values are the labels; or coloured.
    classes : int
    ignore_label : int
    meaning : Classes, optional
        Whose colours are those of a coloured label map.

    Raises
    ------
    DataError
        If the file can't be read, or holds a label that is neither below `classes` nor
        `ignore_label`, or a colour that is none of the classes'.
    """
    values = read_values(path)
    if values.ndim == 3:
        if meaning is None:
            raise data_error(path, "a coloured label map, and nothing says what its colours mean")
        values = _labels_of_colours(path, values, meaning)
    unknown = np.setdiff1d(values[values >= classes], [ignore_label])
    if unknown.size:
        raise data_error(path, f"holds the label {unknown[0]}: neither one of the {classes} "
                               f"classes nor {ignore_label}, which is ignored")
    return values.astype(np.uint8, copy=False)


def read_values(path):
    """What a label map holds: (h, w) of uint8 or uint16, or colours (h, w, 3) of uint8.

    Raises
    ------
    DataError
        If the file can't be read, or is neither grey, indexed nor coloured.
    """
    try:
        check_file(path)
    except ImageError as error:
        raise DataError(str(error)) from None
    try:
        with open_png(path) as image:
            mode, values = image.mode, _values(image)
    except MemoryError:
        raise data_error(path, "not enough memory to decode it") from None
    except TooManyPixels as error:
        raise data_error(path, str(error)) from None
    except Exception as error:  # damaged bytes make the decoder raise errors of almost any type
        reason = " ".join(str(error).split()).replace(f" {str(path)!r}", "")
        raise data_error(path, f"not a label map: {reason or type(error).__name__}") from None
    if values is None:
        raise data_error(path, "label maps are grey, indexed or coloured PNG files; this one's "
                               f"mode is {mode}")
    if values.ndim == 3 and values.shape[2] == 4:
        if (values[..., 3] < 255).any():
            raise data_error(path, "is transparent in places; label maps are not")
        values = values[..., :3]
    return values


class TooManyPixels(ValueError):
    """An image that declares more pixels than are read."""


def open_png(file):
    """Open a PNG file, by its path or as a binary file, as a Pillow image that is not decoded yet.

    Raises
    ------
    TooManyPixels
    Exception
        Of almost any type, as decoders do.
    """
    with opening, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(file, formats=["PNG"])
    width, height = image.size
    if width * height > MAX_PIXELS:
        image.close()
        raise TooManyPixels(f"has {width:,} x {height:,} pixels; at most {MAX_PIXELS:,} are read")
    return image


def _values(image):
    """The numbers that the file holds for each pixel; None for a mode that holds no labels."""
    if image.mode in ("RGB", "RGBA"):
        return np.array(image)
    if image.mode not in GREY:
        return None
    # Pillow spreads grey of 2 and 4 bits over 0..255.
    spread = {"L;2": 85, "L;4": 17}.get(image.tile[0][3], 1)
    values = np.array(image)
    return values // spread if spread > 1 else values.astype(
        np.uint8 if values.dtype == bool else values.dtype, copy=False)


def _labels_of_colours(path, pixels, classes):
    """The labels (h, w) of uint8 of colours (h, w, 3)."""
    meanings = [*enumerate(classes.colours),
                *((classes.ignore_label, colour) for colour in classes.ignored_colours)]
    labels = {}
    for label, colour in meanings:
        if labels.setdefault(tuple(colour), label) != label:
            raise data_error(path, "a coloured label map, and two classes have the colour "
                                   f"{tuple(colour)}")
    colours = np.array(list(labels), np.int32)
    codes = colours @ (1 << 16, 1 << 8, 1)
    order = np.argsort(codes)
    wanted = (pixels[..., 0].astype(np.int32) << 16) | (
        pixels[..., 1].astype(np.int32) << 8) | pixels[..., 2]
    places = np.searchsorted(codes[order], wanted).clip(max=len(codes) - 1)
    unknown = codes[order][places] != wanted
    if unknown.any():
        strange, counts = np.unique(wanted[unknown], return_counts=True)
        code = int(strange[counts.argmax()])
        others = f", nor are {len(strange) - 1:,} others" if len(strange) > 1 else ""
        raise data_error(path, f"holds the colour {(code >> 16, code >> 8 & 255, code & 255)}: it "
                               f"is none of the {len(classes.names)} classes'{others}")
    return np.array(list(labels.values()), np.uint8)[order][places]
