"""From a weight file to a net and back: strict, and nothing is half done."""
import logging
import math

import numpy as np

from tinyfcn import weights
from tinyfcn.arrays import CPU, to_host
from tinyfcn.weights.errors import weights_error

logger = logging.getLogger(__name__)

# How many names a message lists; the count is always told.
LISTED = 5

# What a file may ask of a net: (types, test of the value). Memory is bounded by _ANCHORS.
_ARGUMENTS = {
    "classes": (int, lambda v: 1 <= v <= 65536),
    "width": ((int, float), lambda v: 0 < v <= 16),
    "fc_channels": (int, lambda v: 1 <= v <= 65536),
    "batch_norm": (bool, lambda v: True),
    "upsampling": (str, lambda v: v in ("fixed", "learned")),
    "geometry": (str, lambda v: v in ("same", "caffe")),
    "dropout": ((int, float), lambda v: 0 <= v < 1),
    "in_channels": (int, lambda v: 1 <= v <= 65536),
    "input_size": (int, lambda v: 1 <= v <= 65536),
}
# The arguments that set the size of a net, each with a tensor and the axis that shows it, the
# usual value, and the channels it stands for. They must agree with what the file really holds
# before a net is built: a few bytes of text cannot ask for more memory than the file fills.
_ANCHORS = (
    ("in_channels", ("conv1_1/weights",), 2, 3, 1),
    ("width", ("conv5_3/weights",), 3, 1.0, 512),
    ("fc_channels", ("fc6/weights",), -1, 4096, 1),
    ("classes", ("score_fr/weights", "fc8/weights"), -1, None, 1),
)


def load_weights(net, path):
    """Fill a net with the tensors of a file.

    Every parameter must be in the file with its shape, and the file must hold nothing else.

    Parameters
    ----------
    net : Graph
        Its parameters are modified in place and keep their dtype. Its `preprocessing`,
        `class_names`, `colours` and `ignore_label` become those of the file, where it has them.
    path : str or path-like

    Returns
    -------
    dict
        What the file says of itself, as `tinyfcn.weights.describe` returns it.

    Raises
    ------
    WeightsError
        The file cannot be read, names are missing, unused or misshaped, or its description makes
        no sense. The net is as it was.
    """
    if net.device != CPU:
        device = net.device
        try:
            return load_weights(net.to(CPU), path)
        finally:
            net.to(device)
    params = net.params
    about = weights.describe(path)
    stored = weights.shapes(path)
    check_tensors(path, net.name, {name: array.shape for name, array in params.items()}, stored)
    classes = net.arguments.get("classes")
    channels = net.arguments.get("in_channels", 3)
    settings = _check_settings(path, about, classes, channels)
    weights.read_into(path, params)

    for name, value in settings.items():
        setattr(net, name, value)
    for name, array in params.items():
        # Unlike np.isfinite(array), the two ends take no memory; a NaN is both of them.
        if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
            logger.warning("%s: %s holds NaN or infinite values", path, name)
    _warn_of_differences(path, net, about)
    return about


def load_model(path, model=None):
    """Build the net that a file describes and fill it.

    Parameters
    ----------
    path : str or path-like
    model : str, optional
        The model that the file must be of, as in `tinyfcn.models.BY_NAME`.

    Returns
    -------
    Graph

    Raises
    ------
    WeightsError
        The file cannot be read, does not say what it is for, is of another model, or its tensors
        do not fit.
    """
    # Only here, since a net that exists can be filled without the tables of all models.
    from tinyfcn import models

    about = weights.describe(path)
    name = about.get("model")
    if name is None:
        raise weights_error(path, "does not say which model it is for")
    if not isinstance(name, str) or name not in models.BY_NAME:
        raise weights_error(path, f"is for an unknown model, {_shown(name)}")
    if model is not None and name != model:
        raise weights_error(path, f"is for {name}, not for {model}")
    arguments = _check_arguments(path, about)
    _check_anchors(path, name, arguments, weights.shapes(path))
    try:
        net = models.BY_NAME[name](**{**arguments, "init": None})
    except (TypeError, ValueError) as error:
        raise weights_error(path, f"no {name} can be built as it describes ({error})") from error
    load_weights(net, path)
    return net


def save_model(net, path, training=None, dtype=None):
    """Write a net's parameters and all that is needed to build and use it again.

    Parameters
    ----------
    net : Graph
    path : str or path-like
        Written in one step; a file of that name is replaced.
    training : dict, optional
        How the net was trained, in JSON values.
    dtype : optional
        The type that parameters are stored in, such as "float16"; None keeps their own.

    Raises
    ------
    WeightsError
        The file cannot be written; one of that name is as it was.
    """
    about = {
        "model": net.name,
        "arguments": dict(net.arguments),
        "class_names": None if net.class_names is None else list(net.class_names),
        "colours": None if net.colours is None
        else [[int(v) for v in colour] for colour in net.colours],
        "ignore_label": None if net.ignore_label is None else int(net.ignore_label),
        "preprocessing": net.preprocessing,
        "training": dict(training or {}),
    }
    params = {name: to_host(array) for name, array in net.params.items()}
    weights.write(path, params, about, dtype)


def check_tensors(path, net_name, wanted, stored):
    """Raise WeightsError unless `stored` has just the names and shapes that are `wanted`."""
    missing = [name for name in wanted if name not in stored]
    unused = [name for name in stored if name not in wanted]
    misshaped = [
        f"{name} is {stored[name]} in the file and {shape} in the net"
        for name, shape in wanted.items()
        if name in stored and tuple(stored[name]) != tuple(shape)
    ]
    problems = [
        f"{len(names)} {kind}: {_listed(names)}"
        for kind, names in (("missing", missing), ("unused", unused), ("misshaped", misshaped))
        if names
    ]
    if problems:
        raise weights_error(path, f"does not fit {net_name}: {'; '.join(problems)}")


def _listed(names):
    short = [name if len(name) <= 120 else name[:117] + "..." for name in names[:LISTED]]
    return ", ".join(short) + (", ..." if len(names) > LISTED else "")


def _check_arguments(path, about):
    arguments = about.get("arguments", {})
    if not isinstance(arguments, dict):
        raise weights_error(path, "its arguments are not a JSON object")
    for name, value in arguments.items():
        if name not in _ARGUMENTS:
            raise weights_error(path, f"names an unknown argument, {_shown(name)}")
        types, test = _ARGUMENTS[name]
        # True is an int to Python.
        fits = isinstance(value, types) and (types is bool or not isinstance(value, bool))
        if not fits or not test(value):
            raise weights_error(path, f"{name} cannot be {_shown(value)}")
    return arguments


def _check_anchors(path, model, arguments, stored):
    for argument, names, axis, usual, factor in _ANCHORS:
        name = next((name for name in names if name in stored), None)
        if name is None:
            raise weights_error(path, f"does not fit {model}: {' or '.join(names)} missing")
        shape = stored[name]
        value = arguments.get(argument, usual)
        if value is None:
            continue
        # Channels are rounded from the width.
        slack = 1 if argument == "width" else 0
        if len(shape) < 2 or axis >= len(shape) or abs(shape[axis] - value * factor) > slack:
            raise weights_error(path, f"says {argument} {_shown(value)}, but {name} is {shape}")
    if "input_size" in arguments:
        # fc6 of a classifier sees all of pool5, five poolings below the image.
        side = -(-arguments["input_size"] // 32)
        rows, channels = stored["fc6/weights"][0], stored["conv5_3/weights"][3]
        if side * side * channels != rows:
            raise weights_error(path, f"says input_size {arguments['input_size']}, but fc6/weights "
                                      f"is {stored['fc6/weights']}")


def _check_settings(path, about, classes, channels):
    """Validate what a file says beside the model; returns {attribute of the net: value}."""
    settings = {}
    if "preprocessing" in about:
        settings["preprocessing"] = _check_preprocessing(path, about["preprocessing"], channels)
    if "class_names" in about:
        names = about["class_names"]
        if names is not None and not (
                isinstance(names, list) and (classes is None or len(names) == classes)
                and all(isinstance(name, str) and 0 < len(name) <= 200 for name in names)):
            raise weights_error(path, f"its class_names are not {_count(classes)} names")
        settings["class_names"] = names
    if "colours" in about:
        colours = about["colours"]
        if colours is not None:
            if not (isinstance(colours, list) and (classes is None or len(colours) == classes)
                    and all(_is_colour(colour) for colour in colours)):
                raise weights_error(path, f"its colours are not {_count(classes)} of [r, g, b]")
            colours = [tuple(colour) for colour in colours]
        settings["colours"] = colours
    if "ignore_label" in about:
        label = about["ignore_label"]
        if label is not None and not (_is_integer(label) and -1 <= label <= 65535):
            raise weights_error(path, f"ignore_label cannot be {_shown(label)}")
        settings["ignore_label"] = label
    return settings


def _check_preprocessing(path, value, channels):
    if not isinstance(value, dict) or set(value) != {"channel_order", "scale", "mean", "std"}:
        raise weights_error(
            path, "its preprocessing is not channel_order, scale, mean and std")
    if value["channel_order"] not in ("RGB", "BGR"):
        raise weights_error(path, f"channel_order cannot be {_shown(value['channel_order'])}")
    if not (_is_number(value["scale"]) and value["scale"] > 0):
        raise weights_error(path, f"scale cannot be {_shown(value['scale'])}")
    for name in ("mean", "std"):
        numbers = value[name]
        if not (isinstance(numbers, list) and len(numbers) == channels
                and all(_is_number(v) and (name == "mean" or v > 0) for v in numbers)):
            raise weights_error(path, f"{name} cannot be {_shown(numbers)}")
    return value


def _warn_of_differences(path, net, about):
    """Tensors may fit a net that makes something else of them."""
    if about.get("model") not in (None, net.name):
        logger.warning("%s: is for %s, loaded into %s", path, _shown(about["model"]), net.name)
    arguments = about.get("arguments")
    if isinstance(arguments, dict):
        for name in ("geometry", "upsampling"):
            if name in arguments and name in net.arguments \
                    and arguments[name] != net.arguments[name]:
                logger.warning("%s: was made with %s %s, loaded into a net with %s", path, name,
                               _shown(arguments[name]), net.arguments[name])


def _is_integer(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value):
    # A huge integer is a number to JSON, but has no float.
    return _is_integer(value) and abs(value) < 2**63 \
        or isinstance(value, float) and math.isfinite(value)


def _is_colour(value):
    return isinstance(value, (list, tuple)) and len(value) == 3 \
        and all(_is_integer(v) and 0 <= v <= 255 for v in value)


def _count(classes):
    return "the" if classes is None else str(classes)


def _shown(value):
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
