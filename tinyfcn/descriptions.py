"""What weight files of this project say of themselves, checked before it is believed."""
import math

from tinyfcn.weights.errors import weights_error

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
    "normalization": (str, lambda v: v in ("caffe", "paper")),
}
# The arguments that set the size of a net, each with a tensor and the axis that shows it, the
# usual value, and the channels it stands for. They must agree with what the file really holds
# before a net is built: a few bytes of text cannot ask for more memory than the file fills.
_ANCHORS = (
    ("in_channels", ("conv1_1/weights", "conv1/weights"), 2, 3, 1),
    ("width", ("conv5_4/weights", "conv5_3/weights", "conv5_2/weights"), 3, 1.0, 512),
    ("fc_channels", ("fc6/weights",), -1, 4096, 1),
    ("classes", ("score_fr/weights", "fc8/weights", "ip2/weights"), -1, None, 1),
)
# Other tensors for nets that are not of VGG's family.
_OTHER_ANCHORS = {"alexnet": {"width": (("conv5/weights",), 3, 1.0, 256)},
                  "lenet": {"in_channels": (("conv1/weights",), 2, 1, 1), "width": None,
                            "fc_channels": None}}


def check_arguments(path, about):
    """Validate the arguments of the net in a file's description, and return them."""
    arguments = about.get("arguments", {})
    if not isinstance(arguments, dict):
        raise weights_error(path, "its arguments are not a JSON object")
    for name, value in arguments.items():
        if name not in _ARGUMENTS:
            raise weights_error(path, f"names an unknown argument, {shown(name)}")
        types, test = _ARGUMENTS[name]
        # True is an int to Python.
        fits = isinstance(value, types) and (types is bool or not isinstance(value, bool))
        if not fits or not test(value):
            raise weights_error(path, f"{name} cannot be {shown(value)}")
    return arguments


def check_anchors(path, model, arguments, stored):
    """Raise WeightsError unless the arguments ask for a net of the size of what is stored."""
    family = next((family for family in _OTHER_ANCHORS if family in model), None)
    family = "alexnet" if model == "caffenet" else family
    others = _OTHER_ANCHORS.get(family, {})
    for argument, *anchor in _ANCHORS:
        anchor = others.get(argument, anchor)
        if anchor is None:
            continue
        names, axis, usual, factor = anchor
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
            raise weights_error(path, f"says {argument} {shown(value)}, but {name} is {shape}")
        if argument == "width":
            last = shape
    if "input_size" in arguments and family is None:
        # fc6 of a classifier sees all of pool5, five poolings below the image.
        side = -(-arguments["input_size"] // 32)
        if side * side * last[3] != stored["fc6/weights"][0]:
            raise weights_error(path, f"says input_size {arguments['input_size']}, but fc6/weights "
                                      f"is {stored['fc6/weights']}")


def check_settings(path, about, classes, channels):
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
            raise weights_error(path, f"ignore_label cannot be {shown(label)}")
        settings["ignore_label"] = label
    return settings


def _check_preprocessing(path, value, channels):
    if not isinstance(value, dict) or set(value) != {"channel_order", "scale", "mean", "std"}:
        raise weights_error(
            path, "its preprocessing is not channel_order, scale, mean and std")
    orders = ("RGB", "BGR", "grey") if channels == 1 else ("RGB", "BGR")
    if value["channel_order"] not in orders:
        raise weights_error(path, f"channel_order cannot be {shown(value['channel_order'])}")
    if not (_is_number(value["scale"]) and value["scale"] > 0):
        raise weights_error(path, f"scale cannot be {shown(value['scale'])}")
    for name in ("mean", "std"):
        numbers = value[name]
        if not (isinstance(numbers, list) and len(numbers) == channels
                and all(_is_number(v) and (name == "mean" or v > 0) for v in numbers)):
            raise weights_error(path, f"{name} cannot be {shown(numbers)}")
    return value


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


def in_words(preprocessing):
    """What a net sees, such as "BGR - (103.939, 116.779, 123.68)"."""
    words = preprocessing["channel_order"]
    if preprocessing["scale"] != 1:
        words += f" * {preprocessing['scale']:g}"
    for sign, key, nothing in ("-", "mean", 0), ("/", "std", 1):
        numbers = preprocessing[key]
        if any(number != nothing for number in numbers):
            words += f" {sign} ({', '.join(f'{number:g}' for number in numbers)})"
    return words


def shown(value):
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
