"""From a weight file to a net and back: strict, and nothing is half done."""
import logging
import math
from typing import NamedTuple

import numpy as np

from tinyfcn import weights
from tinyfcn.arrays import CPU, to_host
from tinyfcn.descriptions import (
    check_anchors, check_arguments, check_settings, in_words, shown)
from tinyfcn.layers import Scale
from tinyfcn.origins import identify, sizes
from tinyfcn.weights import layouts
from tinyfcn.weights.conversion import OwnTensors, same_numbers
from tinyfcn.weights.errors import weights_error

logger = logging.getLogger(__name__)

# How many names a message lists; the count is always told.
LISTED = 5

# What a classifier has no weights for, and what an FCN has no use for.
SCORES = ("score_fr", "score_pool4", "score_pool3", "upscore", "upscore2", "upscore_pool4",
          "upscore16", "upscore8")
DENSE = ("fc6", "fc7")
CLASSES = "fc8"
# Upsampling layers have no bias here. Where a file has one, the skip's that it is added to takes
# it: a constant per class is the same before and after either.
UPSAMPLING_BIASES = {"upscore2/bias": "score_pool4/bias", "upscore_pool4/bias": "score_pool3/bias"}


class WeightFile(NamedTuple):
    """A file's tensors under the names that they have here, not yet read.

    Attributes
    ----------
    path : str or path-like
    about : dict
        What the file says of itself, or what follows from where it comes from.
    tensors : OwnTensors or None
        None for files of this project, which need no conversion.
    shapes : dict of str to tuple
    """

    path: object
    about: dict
    tensors: OwnTensors | None
    shapes: dict

    def read_into(self, arrays):
        """Fill arrays, {name: array of as many numbers}, one after the other."""
        if self.tensors is None:
            weights.read_into(self.path, {
                name: array.reshape(self.shapes[name]) for name, array in arrays.items()})
            return
        for name, array in arrays.items():
            self.tensors.read_into(name, array)


def load_weights(net, path, layout=None, allow_partial=False, start=False):
    """Fill a net with the tensors of a file, whichever project it comes from.

    Every parameter must be in the file with its shape, and the file must hold nothing else, but
    for two starts of an FCN's training. From a classifier fc6 and fc7 become convolutions, fc8 is
    left out and the score layers keep what they are. From the convolutions alone fc6 and fc7 do
    so too. What keeps its start is logged.

    Parameters
    ----------
    net : Graph
        Its parameters are modified in place and keep their dtype. Its `preprocessing`,
        `class_names`, `colours` and `ignore_label` become those of the file, where it has them.
    path : str or path-like
    layout : str, optional
        Where the file comes from, as in `tinyfcn.weights.layouts.LAYOUTS`, if that cannot be told
        by its tensors' names and shapes.
    allow_partial : bool
        Load what fits, and only warn of what is missing, unused or misshaped.
    start : bool
        It is to start another training: score and upsampling layers that an FCN's file lacks, or
        has for another number of classes, keep what they are, and those that the net lacks are
        left out. So FCN-16s starts from FCN-32s, and a net for a data set from that for another.

    Returns
    -------
    dict
        What the file says of itself, as `tinyfcn.weights.describe` returns it. For files of other
        projects "layout" and, of an FCN, "geometry".

    Raises
    ------
    WeightsError
        The file cannot be read, names are missing, unused or misshaped, or its description makes
        no sense. The net is as it was.
    ValueError
        There is no such layout.
    """
    if net.device != CPU:
        device = net.device
        try:
            return load_weights(net.to(CPU), path, layout, allow_partial, start)
        finally:
            net.to(device)
    return _load(net, _open(path, layout, net.params), allow_partial, start)


def load_model(path, model=None, layout=None, allow_partial=False):
    """Build the net that a file is for and fill it.

    Parameters
    ----------
    path : str or path-like
    model : str, optional
        The model that the file must be of, as in `tinyfcn.models.BY_NAME`. Of models that have
        the same tensors it is the one meant: "fcn8s-atonce" or "fcn8s", "alexnet" or "caffenet".
    layout : str, optional
        Where the file comes from, as `load_weights` takes it.
    allow_partial : bool
        Leave at zero what the file lacks, and only warn of it and of what does not fit.

    Returns
    -------
    Graph

    Raises
    ------
    WeightsError
        The file cannot be read, does not say what it is for, is of another model, or its tensors
        do not fit.
    ValueError
        There is no such layout.
    """
    # Only here, since a net that exists can be filled without the tables of all models.
    from tinyfcn import models

    file = _open(path, layout)
    if file.tensors is not None:
        name, arguments = identify(path, file.tensors, model)
    else:
        name = file.about.get("model")
        if name is None:
            raise weights_error(path, "does not say which model it is for")
        if not isinstance(name, str) or name not in models.BY_NAME:
            raise weights_error(path, f"is for an unknown model, {shown(name)}")
        if model is not None and name != model:
            raise weights_error(path, f"is for {name}, not for {model}")
        arguments = check_arguments(path, file.about)
        check_anchors(path, name, arguments, file.shapes)
    try:
        net = models.BY_NAME[name](**{**arguments, "init": None})
    except (TypeError, ValueError, MemoryError) as error:
        raise weights_error(path, f"no {name} can be built as it describes ({error})") from error
    _load(net, file, allow_partial)
    return net


def arguments_of(path):
    """Find what a file shows of the net that it is for, or whose training can start from it.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    dict
        Of the arguments width, fc_channels, batch_norm, upsampling and geometry those that show.

    Raises
    ------
    WeightsError
        The file cannot be read, or its description makes no sense.
    """
    file = _open(path)
    stated = file.about if file.tensors is not None else check_arguments(path, file.about)
    found = {**sizes(file.shapes), **stated}
    names = ("width", "fc_channels", "batch_norm", "upsampling", "geometry")
    return {name: found[name] for name in names if name in found}


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
    problems = _problems(wanted, stored)
    if problems:
        raise weights_error(path, f"does not fit {net_name}: {problems}")


def _open(path, layout=None, params=()):
    """Find out where a file comes from; `params` are names that this project's would have."""
    if layout is not None and layout not in layouts.LAYOUTS:
        raise ValueError(f"no layout {layout!r}; there are {', '.join(layouts.LAYOUTS)}")
    about = weights.describe(path)
    if about and layout is None:
        return WeightFile(path, about, None, weights.shapes(path))
    stored = weights.read(path)
    found = layouts.LAYOUTS[layout] if layout else layouts.recognise(stored)
    if found is None or found.name == "tinyfcn":
        if found is None and not any(name in stored for name in params):
            raise weights_error(path, "its tensors are of no layout known here: it is for another "
                                      "net, or its layout has to be named")
        return WeightFile(path, about, None, {name: a.shape for name, a in stored.items()})
    try:
        tensors = layouts.to_own(stored, found)
    except ValueError as error:
        raise weights_error(path, str(error)) from None
    about = {"layout": found.name}
    if "score_fr/weights" in tensors:
        about["geometry"] = "caffe" if found.padding == 100 else "same"
    return WeightFile(path, about, tensors, tensors.shapes)


def _load(net, file, allow_partial=False, start=False):
    params = net.params
    stored = dict(file.shapes)
    starts = _starts(net, file, stored, start)
    biases = {name: skip for name, skip in UPSAMPLING_BIASES.items() if name in stored
              and file.tensors is not None and skip in params and stored.get(skip) == stored[name]}
    for name in biases:
        del stored[name]
    wanted = {name: array.shape for name, array in params.items()
              if name not in starts or name in stored}
    fitting = [name for name in wanted
               if name in stored and same_numbers(name, wanted[name], stored[name])]
    problems = _problems(wanted, stored)
    if problems and not (allow_partial and fitting):
        raise weights_error(file.path, f"does not fit {net.name}: {problems}")
    settings = _settings(net, file)
    file.read_into({name: params[name] for name in fitting})
    for name, skip in biases.items():
        if skip in fitting:
            params[skip] += file.tensors[name]

    for name, value in settings.items():
        setattr(net, name, value)
    if file.tensors is not None:
        layout = file.tensors.layout
        logger.info("%s: recognised as %s, %s; %s with %s classes, for %s", file.path, layout.name,
                    layout.about, net.name, net.arguments.get("classes", "unknown"),
                    in_words(net.preprocessing))
    if problems:
        logger.warning("%s: does not fit %s, loaded in part: %s", file.path, net.name, problems)
    if starts:
        what = "other scores" if "score_fr/weights" in file.shapes else \
            "the convolutions alone" if "fc6/weights" in starts else "a classifier"
        logger.info("%s: holds %s: %s keep their start, for training", file.path, what,
                    ", ".join(dict.fromkeys(name.rpartition("/")[0] for name in starts)))
    for name in fitting:
        array = params[name]
        # Unlike np.isfinite(array), the two ends take no memory; a NaN is both of them.
        if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
            logger.warning("%s: %s holds NaN or infinite values", file.path, name)
    if not starts:
        _warn_of_differences(file.path, net, file.about)
    return file.about


def _starts(net, file, stored, start):
    """The parameters that keep their start; takes out of `stored` what the net has no use for."""
    def drop(*layers):
        for name in [name for name in stored if name.rpartition("/")[0] in layers]:
            del stored[name]

    params = net.params
    if file.tensors is not None:
        if file.tensors.layout.nan:  # a classifier's dense layers that never were trained
            drop(*DENSE, CLASSES)
        for layer, node in net.layers.items():
            if isinstance(node, Scale) and stored.get(f"{layer}/weights") == (1,):
                factor = float(file.tensors[f"{layer}/weights"][0])
                if not math.isclose(factor, node.factor, rel_tol=1e-5):
                    raise weights_error(file.path, f"does not fit {net.name}: {layer} is "
                                                   f"{factor:g}, not {node.factor:g}")
                drop(layer)
    if start and "score_fr/weights" in params and "score_fr/weights" in stored:
        def fits(name):
            name = UPSAMPLING_BIASES.get(name, name)
            return name in params and stored.get(name) == params[name].shape

        others = [name for name in {**params, **stored}
                  if name.rpartition("/")[0] in SCORES and not fits(name)]
        for name in others:
            stored.pop(name, None)
        return [name for name in others if name in params]
    if "score_fr/weights" not in params or "score_fr/weights" in stored:
        return []
    drop(CLASSES)
    layers = SCORES if "fc6/weights" in stored else (*DENSE, *SCORES)
    return [name for name in params if name.rpartition("/")[0] in layers and name not in stored]


def _problems(wanted, stored):
    """What is missing, unused and misshaped, in words."""
    missing = [name for name in wanted if name not in stored]
    unused = [name for name in stored if name not in wanted]
    misshaped = [
        f"{name} is {tuple(stored[name])} in the file and {tuple(wanted[name])} in the net"
        for name in wanted if name in stored and not same_numbers(name, wanted[name], stored[name])
    ]
    return "; ".join(
        f"{len(names)} {kind}: {_listed(names)}"
        for kind, names in (("missing", missing), ("unused", unused), ("misshaped", misshaped))
        if names
    )


def _listed(names):
    short = [name if len(name) <= 120 else name[:117] + "..." for name in names[:LISTED]]
    return ", ".join(short) + (", ..." if len(names) > LISTED else "")


def _settings(net, file):
    """What a file sets of a net beside its parameters, {attribute: value}."""
    classes = net.arguments.get("classes")
    channels = net.arguments.get("in_channels", 3)
    segments = "score_fr/weights" in net.params
    same_classes = not segments or (
        file.shapes.get("score_fr/weights") == net.params["score_fr/weights"].shape)
    if file.tensors is None:
        about = file.about
        if not same_classes:  # the classes are the classifier's
            about = {key: about[key] for key in about if key == "preprocessing"}
        return check_settings(file.path, about, classes, channels)
    layout, settings = file.tensors.layout, {}
    if layout.preprocessing is not None and len(layout.preprocessing["mean"]) == channels:
        settings["preprocessing"] = dict(layout.preprocessing)
    if same_classes and layout.class_names is not None and len(layout.class_names) == classes:
        settings["class_names"] = list(layout.class_names)
    return settings


def _warn_of_differences(path, net, about):
    """Tensors may fit a net that makes something else of them."""
    if about.get("model") not in (None, net.name):
        logger.warning("%s: is for %s, loaded into %s", path, shown(about["model"]), net.name)
    arguments = {"geometry": about["geometry"]} if "layout" in about and "geometry" in about \
        else about.get("arguments")
    if isinstance(arguments, dict):
        for name in ("geometry", "upsampling"):
            if name in arguments and name in net.arguments \
                    and arguments[name] != net.arguments[name]:
                logger.warning("%s: was made with %s %s, loaded into a net with %s", path, name,
                               shown(arguments[name]), net.arguments[name])
