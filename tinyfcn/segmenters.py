"""What commands that segment share: which net, and in which views it sees a photo."""

# What takes long to import is imported by the functions that need it.
import os

from . import console

LARGEST_SCALE = 8
MOST_VIEWS = 16


def add_view_options(parser):
    """Add --flip and --scales; `view_options` gives them to `inference.segment`."""
    parser.add_argument("--flip", action="store_true",
                        help="see each photo mirrored, too, and average the probabilities: a "
                             "little better and twice the time")
    parser.add_argument("--scales", type=_scales, default=(1.0,), metavar="S,S,...",
                        help="see each photo in these sizes, factors of its own such as "
                             "1,1.25,1.5, and average the probabilities (default: 1)")


def view_options(options):
    """The keyword arguments of `inference.segment` that a user chose."""
    return {"flip": options.flip, "scales": options.scales}


def describe_views(options):
    """The views in words; an empty text for the photo alone."""
    parts = []
    if tuple(options.scales) != (1,):
        parts.append(f"scales {', '.join(f'{scale:g}' for scale in options.scales)}")
    if options.flip:
        parts.append("each also mirrored" if parts else "each photo also mirrored")
    return "; ".join(parts)


def _scales(text):
    parse = console.number(float, 0, LARGEST_SCALE, above=True)
    scales = tuple(parse(part) for part in text.split(","))
    if len(scales) > MOST_VIEWS:
        raise console.argparse.ArgumentTypeError(f"at most {MOST_VIEWS} scales, not {len(scales)}")
    return scales


def load(path, options):
    """Load a net that segments photos, prepared for inference.

    Parameters
    ----------
    path : str
    options
        With the loading options of `console` and `model`.

    Returns
    -------
    PreparedGraph

    Raises
    ------
    CommandError
        The file is no such net's, or there is not enough memory.
    """
    from . import loading, models
    from .weights import WeightsError

    try:
        net = loading.load_model(path, **console.loading_options(options))
        if net.name not in console.MODELS:
            raise console.CommandError(
                f"{_shown(path)}: holds {net.name}, which does not segment", console.WEIGHTS)
        channels = net.arguments.get("in_channels", 3)
        if channels != 3:
            raise console.CommandError(
                f"{_shown(path)}: takes {channels} channels; a photo has 3", console.WEIGHTS)
        return models.prepare(net)
    except WeightsError as error:
        raise console.CommandError(str(error), console.WEIGHTS) from None
    except OSError as error:
        message = f"{_shown(path)}: {error.strerror or error}"
        raise console.CommandError(message, console.WEIGHTS) from None
    except MemoryError:
        raise console.CommandError("not enough memory for the net", console.WEIGHTS) from None


def classes_of(net):
    """What a net's labels mean, as far as its file says, else by number and in VOC's colours.

    Returns
    -------
    classes.Classes
    """
    from .data.classes import Classes
    from .drawing import class_colours
    from .inference import class_name

    count = net.arguments["classes"]
    ignored = net.ignore_label
    if ignored is None:
        ignored = 255 if count <= 255 else -1       # no label map leaves a pixel out then
    return Classes([class_name(index, net.class_names) for index in range(count)],
                   class_colours(count, net.colours).tolist(),
                   ignored)


def _shown(path):
    from .data.images import printable

    return printable(os.fspath(path))
