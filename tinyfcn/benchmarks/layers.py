"""An inference layer by layer: time, speed, algorithm, what the cost model said, what limits it."""

import contextlib
import logging
import math
import statistics
import time

import numpy as np

from ..arrays import CPU, synchronize, to_device
from ..layers import Convolution, Linear
from ..models import fold_batch_norm
from ..peers import pytorch
from .inference import prepare

_log = logging.getLogger(__name__)


def layers(net, x, works, repeat, with_torch, peak, device=CPU, bandwidth=None):
    """A row for each step that runs: medians of `repeat` runs of the whole net.

    Parameters
    ----------
    net, x
    works : dict
        The net's `work_of`.
    repeat : int
    with_torch : bool
        Time the layers in PyTorch too, in the faster layout.
    peak, bandwidth : float
        GFLOP/s that the machine is capable of, and GB/s to and from memory, if they are known.
    device : str

    Returns
    -------
    list of dict
        "predicted" are the cost model's seconds, scaled so that their total is what was measured.
        "limit" is, where the bandwidth is known, what would take longest at these peaks,
        "arithmetic" or "memory" if each number were moved once, and "of_limit" the share of it that
        was reached; where that is no longer than to begin a kernel, "launch".
    """
    _log.info("layer by layer")
    prepared, there = prepare(net, device), to_device(x, device)
    for _ in range(1 if device == CPU else 2):
        prepared.forward(there)
    runs = []
    for _ in range(repeat):
        with observed(prepared) as rows:
            prepared.forward(there)
        runs.append([row["seconds"] for row in rows])
    medians = [statistics.median(each) for each in zip(*runs)]
    theirs = _fastest_peer_layers(net, x, repeat, rows, device) if with_torch else {}
    table, costs = [], []
    for row, seconds in zip(rows, medians):
        name = row["name"]
        step, work = works.get(name, (None, None))  # a ReLU may be part of the step before it
        gflop = work.gflop if work else 0.0
        speed = gflop / seconds if gflop else None
        cost = step and _cost(step, prepared.layers[name], device)
        limit = _limit(step, gflop, peak, bandwidth) if step and bandwidth else None
        costs.append(cost and (cost[1], seconds))
        table.append({
            "name": name, "output": row["output"], "ours": seconds,
            "share": seconds / sum(medians), "gflop": gflop, "gflops": speed,
            "of_peak": speed / peak if speed and peak else None,
            "algorithm": cost and cost[0], "predicted": None,
            "limit": limit and limit[0], "of_limit": limit and limit[1] / seconds,
            "other": theirs.get(name),
        })
    known = list(filter(None, costs))
    scale = sum(seconds for _, seconds in known) / sum(cycles for cycles, _ in known)
    for row, each in zip(table, costs):
        row["predicted"] = each and each[0] * scale
    return table


def _cost(step, layer, device):
    """(algorithm, estimated cycles or seconds) of a convolution; None of another layer."""
    if isinstance(step.layer, Linear):
        n, outputs = step.shape
        sizes = n, 1, 1, len(step.layer.params["weights"]), outputs, (1, 1), (1, 1), (1, 1), 1
    elif isinstance(step.layer, Convolution):
        options = step.layer.geometry
        sizes = (*step.shape[:3], step.input_shape[3], step.shape[3], step.layer.kernel_size,
                 options["stride"], options["dilation"], options["groups"])
    else:
        return None
    algorithm = getattr(getattr(layer, "prepared", None), "algorithm", None)
    if device == CPU:
        from ..kernels.cpu import algorithms

        task, dtype = algorithms.Task(*sizes, ready=True), np.dtype(np.float32)
        algorithm = algorithm or algorithms.choose(task, False, dtype)
        return algorithm, algorithms.cost(algorithm, task, False, dtype)
    from ..kernels.cuda import algorithms

    task = algorithms.Task(*sizes, ready=True)
    algorithm = algorithm or algorithms.choose(task)
    return algorithm, algorithms.cost(algorithm, task)


def _limit(step, gflop, peak, bandwidth):
    """What limits a layer on a GPU, and the seconds that this takes at least."""
    from ..kernels.cuda import algorithms

    numbers = len(step.inputs) * math.prod(step.input_shape) + math.prod(step.shape)
    if gflop:
        numbers += step.layer.params["weights"].size
    limits = {"arithmetic": gflop / peak if peak else 0.0,
              "memory": 4e-9 * numbers / bandwidth,
              "launch": algorithms.LAUNCH_SECONDS}
    return max(limits.items(), key=lambda each: each[1])


@contextlib.contextmanager
def observed(net):
    """Give a list that gets a row for each layer that runs meanwhile."""
    rows = []

    def observe(node):
        forward = node.layer.forward

        def timed(*inputs, **options):
            began = time.perf_counter()
            y = forward(*inputs, **options)
            synchronize()
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


def _fastest_peer_layers(net, x, repeat, rows, device):
    names = {row["name"] for row in rows}
    found = [_peer_layers(net, x, repeat, layout, names, device) for layout in pytorch.LAYOUTS]
    return min(found, key=lambda each: sum(each.values()))


def _peer_layers(net, x, repeat, layout, names, device):
    """{node: median seconds} in PyTorch; what we do in one step counts as one."""
    import torch

    net = fold_batch_norm(net)
    params = pytorch.parameters(net, layout, device=device)
    image = pytorch.image(x, layout, device)
    doer, latest = {}, None
    for node in net.nodes:
        latest = doer[node.name] = node.name if node.name in names else latest
    runs = {name: [] for name in names}
    for turn in range(1 + repeat):
        seconds, before = dict.fromkeys(names, 0.0), time.perf_counter()

        def after(name, seconds=seconds):
            nonlocal before
            pytorch.synchronize(device)
            now = time.perf_counter()
            seconds[doer[name]] += now - before
            before = now

        with torch.inference_mode():
            pytorch.forward(net, params, image, after=after)
        for name, each in seconds.items():
            if turn:
                runs[name].append(each)
    return {name: statistics.median(each) for name, each in runs.items()}
