"""Everything that speed and memory should reach, measured in one run.

The nets are as wide as the command line says, 'same' geometry; the ratios that are aimed at hold
for two cores and full width.
"""

import logging

import numpy as np

from .. import models, peers
from ..peers import pytorch
from . import processes
from .inference import inference
from .timing import hardest, summary
from .training import training

SIZE = 375, 500
OTHER_INPUTS = ((1, 224, 224), (4, *SIZE), (1, 1024, 2048))
VGG_INPUT = 1, 224, 224
# How many times faster than each peer at SIZE, than the fastest elsewhere, and in training.
FASTER_THAN = {"ncnn": 2.0, "onnxruntime": 3.0, "openvino": 3.0, "torch": 4.0}
FASTER_ELSEWHERE, FASTER_CLASSIFYING, FASTER_TRAINING = 1.5, 1.2, 4.0
# Of PyTorch's memory, and seconds.
MEMORY, TRAINING_MEMORY, WARM_SECONDS, COLD_SECONDS = 1.2, 1.0, 1.5, 20.0

_log = logging.getLogger(__name__)


def aims(arguments, competitors, repeat, threads, seed):
    """Rows of what was done, what was aimed at and what was measured.

    Parameters
    ----------
    arguments : dict
        Of the nets' construction.
    competitors : list of str
        The peers to measure.
    repeat, threads, seed : int

    Returns
    -------
    list of dict
        "measured" is a ratio of times that shall be "at least" the aim, or a ratio of memory or
        seconds that shall be "at most" it.
    """
    rows = [*_inference_rows(arguments, competitors, repeat, threads, seed)]
    if "torch" in competitors:
        rows += _training_rows(arguments, repeat, seed)
        rows += _memory_rows(arguments, threads)
    _log.info("starting")
    warm, cold = processes.segment_seconds(threads, repeat)
    what = "shipped model, {}x{}, {{}}".format(*processes.PHOTO_SIZE)
    rows += [
        _row(what.format("warm start to files written"), None, "at most", WARM_SECONDS,
             summary(warm)["median"], "s", ours=summary(warm)),
        _row(what.format("cold start, nothing compiled"), None, "at most", COLD_SECONDS, cold, "s",
             ours=summary([cold])),
    ]
    return rows


def _row(work, against, sense, aim, measured, unit="x", **figures):
    reached = measured >= aim if sense == "at least" else measured <= aim
    return {"work": work, "against": against, "sense": sense, "aim": aim, "measured": measured,
            "unit": unit, "reached": reached, **figures}


def _inference_rows(arguments, competitors, repeat, threads, seed):
    rng = np.random.default_rng(seed)

    def contest(net, shape):
        x = rng.standard_normal((*shape, 3), np.float32) * np.float32(50)
        return inference(net, x, repeat, competitors, threads)["duels"]

    def versus(net, shape, each, aim):
        work = f"{net.name} inference, {'x'.join(map(str, shape))}"
        return _row(work, each["against"], "at least", aim, each["ratio"], ours=each["ours"],
                    other=each["other"])

    net = models.FCN8s(**arguments)
    duels = contest(net, (1, *SIZE))
    for peer in competitors:
        variants = peers.module(peer).VARIANTS
        best = hardest([each for each in duels if each["against"] in variants])
        yield versus(net, (1, *SIZE), best, FASTER_THAN[peer])
    if not competitors:
        return
    for shape in OTHER_INPUTS:
        yield versus(net, shape, hardest(contest(net, shape)), FASTER_ELSEWHERE)
    del net
    options = {**arguments, "classes": 1000, "input_size": VGG_INPUT[1]}
    net = models.VGG16(**options)
    yield versus(net, VGG_INPUT, hardest(contest(net, VGG_INPUT)), FASTER_CLASSIFYING)


def _training_rows(arguments, repeat, seed):
    net, rng = models.FCN8s(**arguments), np.random.default_rng(seed)
    x = rng.standard_normal((1, *SIZE, 3), np.float32) * np.float32(50)
    best = training(net, x, repeat, True, rng)
    work = f"{net.name} training step, 1x{SIZE[0]}x{SIZE[1]}"
    yield _row(work, best["against"], "at least", FASTER_TRAINING, best["ratio"],
               ours=best["ours"], other=best["other"])


def _memory_rows(arguments, threads):
    for train, aim in ((False, MEMORY), (True, TRAINING_MEMORY)):
        what = "training step" if train else "inference"
        network = {"model": "fcn8s", "options": arguments, "shape": (1, *SIZE, 3), "train": train}
        figures = memory(network, threads, True)
        best = min(figures["others"], key=figures["others"].get)
        yield _row(f"fcn8s peak memory, {what}, 1x{SIZE[0]}x{SIZE[1]}", best, "at most", aim,
                   figures["ours"] / figures["others"][best], bytes=figures)


def memory(network, threads, with_torch):
    """Peaks in bytes: ours, and of each layout of PyTorch; each in its own process."""
    _log.info("peak memory, %s", "training" if network["train"] else "inference")
    ours = processes.peak_memory(network, threads, "tinyfcn")["peak"]
    others = {name: processes.peak_memory(network, threads, options["layout"])["peak"]
              for name, options in pytorch.VARIANTS.items()} if with_torch else {}
    return {"ours": ours, "others": others}
