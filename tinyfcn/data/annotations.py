"""One photo with shapes drawn on it, in a JSON file of labelme's.

The file may come from anywhere: nothing it says is believed before it is checked, and the photo
it names must lie in the folder of its data set.
"""

import base64
import io
import json
import os
import pathlib
from typing import NamedTuple

from .classes import BACKGROUND, IGNORE
from .errors import DataError, data_error
from .images import ImageError, check_file, decode_photo, printable, read_photo
from .shapes import draw_labels, read_shape

MAX_BYTES = 64 << 20
MAX_SHAPES = 10_000

BACKGROUNDS = (BACKGROUND, "background")


class Annotation(NamedTuple):
    """What a file of labelme's says.

    Attributes
    ----------
    shapes : list of shapes.Shape
    image_path : str or None
        From the file's folder.
    image_data : str or None
        The photo's file itself, in base64.
    size : (height, width), ints or None
        What it says of the photo.
    """

    shapes: list
    image_path: str | None
    image_data: str | None
    size: tuple


def read_annotation(path):
    """What a JSON file of labelme's says.

    Raises
    ------
    DataError
        If it can't be read or is no such file; the message names the first shape that is none.
    """
    try:
        content = json.loads(_read(path))
    except DataError:
        raise
    except (ValueError, RecursionError) as error:
        raise data_error(path, f"not JSON ({error})") from None
    except MemoryError:
        raise data_error(path, "not enough memory to read it") from None
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise data_error(path, "not a file of labelme's: it has no list of shapes")
    if len(content["shapes"]) > MAX_SHAPES:
        raise data_error(path, f"has {len(content['shapes']):,} shapes; at most {MAX_SHAPES:,} "
                               "are read")
    shapes = []
    for index, shape in enumerate(content["shapes"]):
        try:
            shapes.append(read_shape(shape))
        except ValueError as error:
            raise data_error(path, f"shapes[{index}]: {error}") from None
    texts = [content.get(name) for name in ("imagePath", "imageData")]
    size = tuple(content.get(name) for name in ("imageHeight", "imageWidth"))
    if any(not isinstance(text, (str, type(None))) for text in texts):
        raise data_error(path, "imagePath and imageData are texts or null")
    if any(isinstance(side, bool) or not isinstance(side, (int, type(None))) for side in size):
        raise data_error(path, "imageHeight and imageWidth are whole numbers or null")
    return Annotation(shapes, *texts, size)


def _read(path):
    try:
        check_file(path)
        with open(path, "rb") as file:
            text = file.read(MAX_BYTES + 1)
    except ImageError as error:
        raise DataError(str(error)) from None
    except OSError as error:
        raise data_error(path, error.strerror) from None
    if len(text) > MAX_BYTES:
        raise data_error(path, f"has more than {MAX_BYTES:,} bytes, the most that are read")
    return text


def read_annotated(path, root, names, ignore_label):
    """The photo (h, w, 3) and the label map (h, w) that a JSON file of labelme's stands for.

    What lies in no shape belongs to the class ``_background_`` or ``background`` where there is
    one, else it is ignored, as are shapes of the label ``__ignore__``.

    Parameters
    ----------
    path : path
    root : path or None
        The folder that the photo must lie in; without it, the file's own.
    names : sequence of str
        Of the classes.
    ignore_label : int

    Raises
    ------
    DataError, ImageError
        If it can't be read, has labels that are no class, or is for a photo of another size.
    """
    path = pathlib.Path(path)
    annotation = read_annotation(path)
    labels = {IGNORE: ignore_label, **{name: index for index, name in enumerate(names)}}
    unknown = sorted({shape.label for shape in annotation.shapes} - labels.keys())
    if unknown:
        raise data_error(path, f"has shapes of {', '.join(map(repr, unknown[:20]))}"
                               f"{' and others' if len(unknown) > 20 else ''}: none of the "
                               f"{len(names)} classes")
    photo = _read_photo(path, path.parent if root is None else root, annotation)
    height, width = photo.shape[:2]
    declared = tuple(side if said is None else said
                     for said, side in zip(annotation.size, (height, width)))
    if declared != (height, width):
        raise data_error(path, f"is for {declared[1]}x{declared[0]} pixels, but its photo has "
                               f"{width}x{height}")
    background = next((labels[name] for name in BACKGROUNDS if name in labels), ignore_label)
    try:
        return photo, draw_labels(annotation.shapes, (height, width), labels, background)
    except ValueError as error:
        raise data_error(path, str(error)) from None


def _read_photo(path, root, annotation):
    """The photo inside the file, where there is one, as labelme does; else the one it names."""
    if annotation.image_data is not None:
        try:
            content = base64.b64decode(annotation.image_data)
        except ValueError:
            raise data_error(path, "imageData is not base64") from None
        return decode_photo(io.BytesIO(content), f"{os.fspath(path)}: imageData")
    if not annotation.image_path:
        raise data_error(path, "has neither an imagePath nor imageData")
    # On Windows labelme once wrote backslashes.
    photo = os.path.normpath(os.path.join(path.parent, annotation.image_path.replace("\\", "/")))
    if not pathlib.Path(os.path.abspath(photo)).is_relative_to(os.path.abspath(root)):
        raise data_error(path, f"its imagePath {annotation.image_path[:200]!r} leads out of "
                               f"{printable(root)}")
    return read_photo(photo)
