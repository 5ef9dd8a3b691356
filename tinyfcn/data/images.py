"""Reading photos safely: whatever the file holds, an RGB array or one line saying why not.

The bytes of a photo may come from anywhere, so only the decoders of common photo formats are
tried, what a file declares of its size is checked before anything is decoded, and every way in
which a decoder may fail ends in an :class:`ImageError`. Nothing of Pillow's global state is
changed.
"""

import logging
import os
import re
import stat
import threading
import warnings

import numpy as np
from PIL import (BmpImagePlugin, GifImagePlugin, Image, ImageCms, JpegImagePlugin, PngImagePlugin,
                 PpmImagePlugin, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin)

# Importing the plugins by name registers them; Pillow would otherwise import all of its forty
# the first time one of these is asked for. A multi-picture JPEG (MPO) is opened by JPEG's.
FORMATS = [plugin.format for plugin in (
    PngImagePlugin.PngImageFile, JpegImagePlugin.JpegImageFile, BmpImagePlugin.BmpImageFile,
    GifImagePlugin.GifImageFile, TiffImagePlugin.TiffImageFile, WebPImagePlugin.WebPImageFile,
    PpmImagePlugin.PpmImageFile)]

# By these the images of a folder are told from its other files.
EXTENSIONS = frozenset((".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".bmp", ".dib", ".gif",
                        ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm"))

MAX_PIXELS = 100_000_000
MAX_BYTES = 1 << 30

_ORIENTATION = 0x0112               # EXIF tag, 1..8
_BITS_PER_SAMPLE = 258              # TIFF tags
_PHOTOMETRIC = 262
_WHITE_IS_ZERO = 0

_BAND = 256                         # rows converted at a time, to need little memory

_log = logging.getLogger(__name__)
# Held by whoever opens an image with warnings caught, which Python does for all threads at once.
opening = threading.Lock()


class ImageError(ValueError):
    """A file that cannot be read as an image. The message is one line: the path, then why."""


def read_photo(path):
    """Read an image file as 8-bit RGB, upright, exactly of the size a viewer shows.

    The EXIF orientation is applied. Transparent pixels are composited on white. Grey, palette,
    1-bit, CMYK, YCbCr and LAB images are converted; colour profiles are not applied. Values of
    16 bits are divided by their full range, so nothing is clipped; for values of 32 bits and
    floats, which declare no range, see :func:`scale_to_8_bits`. Of several frames or pages the
    first is taken, with a logged warning.

    Parameters
    ----------
    path : str or os.PathLike
        A PNG, JPEG, BMP, GIF, TIFF, WebP or PPM file of at most `MAX_BYTES` bytes and
        `MAX_PIXELS` pixels.

    Returns
    -------
    (h, w, 3) uint8
        Red, green, blue; C-contiguous, the caller's own.

    Raises
    ------
    ImageError
        The file is missing, unreadable, not such an image, truncated, damaged or too large.
    """
    check_file(path)
    try:
        file = open(path, "rb")
    except OSError as error:
        raise ImageError(f"{printable(path)}: {error.strerror}") from None
    with file:
        return decode_photo(file, path)


def decode_photo(file, name):
    """The photo in a binary file, as `read_photo` gives it; errors begin with `name`."""
    try:
        image = _open(file)
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ImageError(f"declares {width:,} x {height:,} pixels; "
                             f"at most {MAX_PIXELS:,} are read")
        image.load()
        photo = _upright(_to_rgb(image), _orientation(image, name))
        if _has_more_frames(image):
            _log.warning("%s: holds several frames or pages; the first is used", printable(name))
        return np.ascontiguousarray(photo)
    except ImageError as error:
        raise ImageError(f"{printable(name)}: {error}") from None
    except MemoryError:
        raise ImageError(f"{printable(name)}: not enough memory to decode it") from None
    except Exception as error:      # damaged bytes make decoders raise errors of almost any type
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{printable(name)}: damaged or truncated image: {reason}") from error


def check_file(path):
    """Raise an `ImageError` unless `path` is a regular file of a size that `read_photo` takes.

    A pipe or a device is refused without opening it: reading it could wait or last forever.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:                  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{printable(path)}: {reason}") from None
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(f"{printable(path)}: is a folder, not an image")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{printable(path)}: is not a regular file")
    if status.st_size == 0:
        raise ImageError(f"{printable(path)}: the file is empty")
    if status.st_size > MAX_BYTES:
        raise ImageError(f"{printable(path)}: has {status.st_size:,} bytes; "
                         f"at most {MAX_BYTES:,} are read")


def printable(path):
    """The path as text that is safe in one line of a terminal.

    Line breaks, control characters and bytes that are no text are written as escapes.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii")
                   for c in os.fsdecode(path))


def scale_to_8_bits(values, full_range=None):
    """Scale grey values of more than 8 bits to 0..255, linearly and without clipping.

    Parameters
    ----------
    values : (h, w) integer or float
    full_range : int, optional
        What the format stores as white. Without it, it is the smallest of the usual ranges that
        holds all values: 0..65535 for integers; 0..1, 0..255 and 0..65535 for floats. Where
        none does, the values' own minimum becomes black and their maximum white. What is not
        finite counts as the nearest finite value, NaN as black.

    Returns
    -------
    (h, w) uint8
    """
    low, high = 0.0, full_range
    if full_range is None:
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        usual = (1, 255, 65535) if values.dtype.kind == "f" else (65535,)
        if low >= 0 and high <= usual[-1]:
            low, high = 0.0, next(top for top in usual if high <= top)
    # Halved, because the distance of two float64 values may be more than a float64 holds.
    extent = (high / 2 - low / 2) or 1.0
    grey = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), _BAND):
        band = values[top:top + _BAND].astype(np.float64)
        np.nan_to_num(band, copy=False, nan=low, posinf=high, neginf=low)
        grey[top:top + _BAND] = np.rint((band / 2 - low / 2) * (255 / extent))
    return grey


def _open(file):
    # The filter of warnings belongs to the whole process: it is replaced for as short as the
    # header takes to read, and by one thread at a time.
    with opening, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return Image.open(file, formats=FORMATS)
        except UnidentifiedImageError:
            names = "PNG, JPEG, BMP, GIF, TIFF, WebP or PPM"
            raise ImageError(f"is not a readable {names} image") from None
        except Image.DecompressionBombError as error:
            pixels = re.search(r"\d+", str(error))
            declared = f"{int(pixels[0]):,}" if pixels else "too many"
            raise ImageError(f"declares {declared} pixels; "
                             f"at most {MAX_PIXELS:,} are read") from None


def _to_rgb(image):
    """The pixels of a decoded Pillow image as (h, w, 3) uint8, before its orientation."""
    mode = image.mode
    if mode.startswith(("I", "F")):
        return _deep_grey_to_rgb(image)
    if mode == "LAB":
        return np.array(ImageCms.profileToProfile(
            image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"),
            outputMode="RGB"))
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        canvas = Image.new("RGBA", image.size, "white")
        canvas.alpha_composite(image)
        image = canvas
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _deep_grey_to_rgb(image):
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    full_range = None
    if image.mode.startswith("I;16"):
        # A TIFF of 12 bits is decoded to 0..4095.
        full_range = 2 ** int(np.max(tags.get(_BITS_PER_SAMPLE, 16))) - 1
    grey = scale_to_8_bits(values, full_range)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:            # Pillow inverts up to 8 bits only
        grey = 255 - grey
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return np.repeat(grey[:, :, None], 3, axis=2)


def _orientation(image, path):
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception as error:      # metadata of any kind of damage; the pixels are sound
        _log.warning("%s: the EXIF data is damaged, no orientation is applied (%s)",
                     printable(path), error)
        return 1


def _upright(photo, orientation):
    """Undo an EXIF orientation, 1..8; any other value means nothing."""
    if orientation in (5, 6, 7, 8):
        photo = photo.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        photo = photo[::-1]
    if orientation in (2, 3, 6, 7):
        photo = photo[:, ::-1]
    return photo


def _has_more_frames(image):
    # A multi-picture JPEG holds further views of the camera's, which nobody expects to see.
    try:
        return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    except Exception:               # finding the second frame decodes bytes that may be damaged
        return False
