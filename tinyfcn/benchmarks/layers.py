"""An inference layer by layer: time, speed, algorithm, and what the cost model said."""

import contextlib
import logging
import statistics
import time

import numpy as np

from ..kernels.cpu import algorithms
from ..layers import Convolution, Linear
from ..models import fold_batch_norm
from ..peers import pytorch
from .inference import prepare

_log = logging.getLogger(__name__)


def layers(net, x, works, repeat, with_torch, peak):
    """A row for each step that runs: medians of `repeat` runs of the whole net.

    Parameters
    ----------
    net, x
    works : dict
        The net's `work_of`.
    repeat : int
    with_torch : bool
        Time the layers in PyTorch too, in the faster layout.
    peak : float
        GFLOP/s that the machine is capable of.

    Returns
    -------
    list of dict
        "predicted" are the cost model's seconds, scaled so that their total is what was measured.
    """
    _log.info("layer by layer")
    prepared = prepare(net)
    prepared.forward(x)
    runs = []
    for _ in range(repeat):
        with observed(prepared) as rows:
            prepared.forward(x)
        runs.append([row["seconds"] for row in rows])
    medians = [statistics.median(each) for each in zip(*runs)]
    theirs = _fastest_peer_layers(net, x, repeat, rows) if with_torch else {}
    table, costs = [], []
    for row, seconds in zip(rows, medians):
        name = row["name"]
        step, work = works.get(name, (None, None))  # a ReLU may be part of the step before it
        gflop = work.gflop if work else 0.0
        speed = gflop / seconds if gflop else None
        cost = step and _cost(step, prepared.layers[name])
        costs.append(cost and (cost[1], seconds))
        table.append({
            "name": name, "output": row["output"], "ours": seconds,
            "share": seconds / sum(medians), "gflop": gflop, "gflops": speed,
            "of_peak": speed and speed / peak, "algorithm": cost and cost[0], "predicted": None,
            "other": theirs.get(name),
        })
    known = list(filter(None, costs))
    scale = sum(seconds for _, seconds in known) / sum(cycles for cycles, _ in known)
    for row, each in zip(table, costs):
        row["predicted"] = each and each[0] * scale
    return table


def _cost(step, layer):
    """(algorithm, estimated cycles) of a convolution; None of another layer."""
    if isinstance(step.layer, Linear):
        n, outputs = step.shape
        inputs = len(step.layer.params["weights"])
        task = algorithms.Task(n, 1, 1, inputs, outputs, (1, 1), (1, 1), (1, 1), 1, ready=True)
    elif isinstance(step.layer, Convolution):
        options = step.layer.geometry
        task = algorithms.Task(
            *step.shape[:3], step.input_shape[3], step.shape[3], step.layer.kernel_size,
            options["stride"], options["dilation"], options["groups"], ready=True)
    else:
        return None
    dtype = np.dtype(np.float32)
    chosen = getattr(getattr(layer, "prepared", None), "algorithm", None)
    algorithm = chosen or algorithms.choose(task, False, dtype)
    return algorithm, algorithms.cost(algorithm, task, False, dtype)


@contextlib.contextmanager
def observed(net):
    """Give a list that gets a row for each layer that runs meanwhile."""
    rows = []

    def observe(node):
        forward = node.layer.forward

        def timed(*inputs, **options):
            began = time.perf_counter()
            y = forward(*inputs, **options)
            seconds = time.perf_counter() - began
            rows.append({"name": node.name, "output": list(y.shape), "seconds": seconds})
            return y

        node.layer.forward = timed

    try:
        for node in net.nodes:
            observe(node)
        yield rows
    finally:
        for node in net.nodes:
            vars(node.layer).pop("forward", None)


def _fastest_peer_layers(net, x, repeat, rows):
    names = {row["name"] for row in rows}
    found = [_peer_layers(net, x, repeat, layout, names) for layout in pytorch.LAYOUTS]
    return min(found, key=lambda each: sum(each.values()))


def _peer_layers(net, x, repeat, layout, names):
    """{node: median seconds} in PyTorch; what we do in one step counts as one."""
    import torch

    net = fold_batch_norm(net)
    params, image = pytorch.parameters(net, layout), pytorch.image(x, layout)
    doer, latest = {}, None
    for node in net.nodes:
        latest = doer[node.name] = node.name if node.name in names else latest
    runs = {name: [] for name in names}
    for turn in range(1 + repeat):
        seconds, before = dict.fromkeys(names, 0.0), time.perf_counter()

        def after(name, seconds=seconds):
            nonlocal before
            now = time.perf_counter()
            seconds[doer[name]] += now - before
            before = now

        with torch.inference_mode():
            pytorch.forward(net, params, image, after=after)
        for name, each in seconds.items():
            if turn:
                runs[name].append(each)
    return {name: statistics.median(each) for name, each in runs.items()}
