"""Which net the tensors of another project's file are for, by their names and shapes."""
import math

from tinyfcn.weights.errors import weights_error

# The last convolutions of the nets and their channels at full width, the deepest first.
_LAST = (("conv5_4", 512), ("conv5_3", 512), ("conv5_2", 512), ("conv5", 256))
# The last convolution of each VGG, the deepest first.
_VGG = (("vgg19", "conv5_4"), ("vgg16", "conv5_3"), ("vgg13", "conv2_2"), ("vgg11", "conv5_2"))
_FCN = (("fcn8s", "score_pool3"), ("fcn16s", "score_pool4"), ("fcn32s", "score_fr"))
# Nets of the same names and shapes: what is taken for the first may be asked for as another.
SAME_TENSORS = {"fcn8s": ("fcn8s-atonce",), "caffenet": ("alexnet",)}


def identify(path, tensors, model=None):
    """Find the net that tensors are for and the arguments that build it.

    Parameters
    ----------
    path : str or path-like
        For messages.
    tensors : OwnTensors
    model : str, optional
        The net that is asked for.

    Returns
    -------
    (str, dict)
        A name in `tinyfcn.models.BY_NAME` and its arguments.

    Raises
    ------
    WeightsError
        They are for no net that is known here, or not for `model`.
    """
    shapes, layout = tensors.shapes, tensors.layout
    name = _model(shapes, layout)
    if name is None:
        raise weights_error(path, "holds convolutions alone, of no net that classifies or "
                                  "segments: it can be where the training of an FCN starts")
    if model is not None and model != name:
        if model not in SAME_TENSORS.get(name, ()):
            raise weights_error(path, f"is for {name}, not for {model}")
        name = model
    dense = "ip1" if name == "lenet" else "fc6"
    if f"{dense}/weights" not in shapes:
        raise weights_error(path, f"does not fit {name}: {dense}/weights missing")
    arguments = {"in_channels": _size(shapes, ("conv1_1", "conv1"), 2),
                 "classes": _size(shapes, ("score_fr", "fc8", "ip2"), -1)}
    if min(arguments.values()) < 1:
        raise weights_error(path, f"does not fit {name}: a layer without channels or classes")
    if name == "lenet":
        # Two convolutions of 5x5, each followed by a pooling by 2.
        arguments["input_size"] = 4 * _side(path, shapes, "ip1", "conv2") + 12
        return name, arguments
    arguments.update(sizes(shapes))
    last = _last_convolution(shapes)
    if "score_fr/weights" in shapes:
        arguments["geometry"] = "caffe" if layout.padding == 100 else "same"
    elif "conv1_1/weights" in shapes:
        arguments["input_size"] = 32 * _side(path, shapes, "fc6", last)
    elif _side(path, shapes, "fc6", last) != 6:
        raise weights_error(path, f"fc6/weights is {shapes['fc6/weights']}, not over a map of 6x6")
    return name, arguments


def sizes(shapes):
    """The arguments width, fc_channels and batch_norm of the net with tensors of these shapes.

    What does not show is left out: fc_channels where there are convolutions alone, all of them
    where there are none of VGG's or of AlexNet's.
    """
    arguments, last = {}, _last_convolution(shapes)
    if last is not None:
        arguments["width"] = shapes[f"{last}/weights"][3] / dict(_LAST)[last]
    if "fc6/weights" in shapes:
        arguments["fc_channels"] = shapes["fc6/weights"][-1]
    if "conv1_1/weights" in shapes:
        arguments["batch_norm"] = "bn1_1/gamma" in shapes
    return arguments


def _last_convolution(shapes):
    return next((name for name, _ in _LAST if len(shapes.get(f"{name}/weights", ())) == 4), None)


def _model(shapes, layout):
    def has(layer):
        return f"{layer}/weights" in shapes

    if has("ip2"):
        return "lenet"
    if has("score_fr"):
        if has("conv1"):
            return "fcn_alexnet"
        if has("scale_pool3"):
            return "fcn8s-atonce"
        return next(name for name, layer in _FCN if has(layer))
    if not has("fc8") or layout.nan:
        return None
    if has("conv1"):
        return "alexnet-single-tower" if layout.name == "torchvision-alexnet" else "caffenet"
    return next(name for name, layer in _VGG if has(layer))


def _size(shapes, layers, axis):
    name = next(f"{layer}/weights" for layer in layers if f"{layer}/weights" in shapes)
    return shapes[name][axis]


def _side(path, shapes, dense, last):
    """Height and width of the map of layer `last`, pooled, that a dense layer reads."""
    channels = shapes[f"{last}/weights"][3]
    count = math.prod(shapes[f"{dense}/weights"][:-1])
    side = math.isqrt(count // channels)
    if side * side * channels != count:
        raise weights_error(path, f"{dense}/weights is {shapes[f'{dense}/weights']}, over no "
                                  f"square map of {channels} channels")
    return side
