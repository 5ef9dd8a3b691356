"""What belongs to a GPU alone: the card, its peaks, the precision of both sides, the aims."""

import contextlib
import gc
import logging

import numpy as np

from .. import arrays, models
from ..console import memory_shortage
from .inference import inference
from .machine import is_shortage
from .products import square_product
from .timing import hardest
from .training import training

SIZE = 375, 500
BATCHES = 1, 8
# How many times as fast as PyTorch, and as cuBLAS.
AIMS = {"float32": 1.0, "tf32": 0.6}
TRAINING, PRODUCT = 0.8, 0.85
# What tensor cores multiply of TF32 numbers, where a multiprocessor's other units do one; of BF16
# twice as many. (NVIDIA's white papers of the A100, the GA102, the AD102 and the H100.)
TENSOR_CORES = {(8, 0): 8, (8, 6): 1, (8, 9): 1, (9, 0): 8}

_log = logging.getLogger(__name__)


def describe(device, precision):
    """The GPU as it goes into the report; a peak that is not known is None."""
    from ..kernels.cuda import launch

    peaks, capability = launch.peaks(), launch.capability()
    factor = 1 if precision == "float32" else TENSOR_CORES.get(capability)
    if precision == "bf16" and factor:
        factor *= 2
    return {"gpu": arrays.describe(device), "multiprocessors": launch.multiprocessors(),
            "precision": precision, "peak_gflops": factor and factor * peaks.flops / 1e9,
            "bandwidth": peaks.bytes / 1e9}


@contextlib.contextmanager
def precision_of_all(precision, device, with_torch):
    """Let both sides compute with this precision, and give back the memory that they kept."""
    with contextlib.ExitStack() as stack:
        if with_torch:
            from ..peers import pytorch

            stack.enter_context(pytorch.on_gpu(precision))
        arrays.set_precision(precision, device)
        stack.callback(release)
        stack.callback(arrays.set_precision, "float32", device)
        yield


def release():
    """Give the GPU's memory back that waits for new arrays."""
    from ..kernels.cuda import memory

    gc.collect()
    memory.release()


def aims(arguments, with_torch, repeat, device, seed):
    """Rows of what was done, what was aimed at and what was measured, as `aims.aims` has them.

    What there was too little memory for, or no PyTorch to compare with, was not measured.
    """
    from ..kernels.cuda import algorithms, launch

    rng = np.random.default_rng(seed)
    net = models.FCN8s(**arguments)
    rivals = ["torch"] if with_torch else []
    precisions = [name for name in AIMS
                  if name == "float32" or launch.capability() >= algorithms.TENSOR_CORES]

    def infer(x, precision):
        return inference(net, x, repeat, rivals, 1, device, precision)

    def train(x, precision):
        return training(net, x, repeat, with_torch, rng, device, precision)

    def multiply(_, precision):
        return square_product(repeat, rng, with_torch, device, precision)

    tasks = [(f"{net.name} inference {name}, {batch}x{SIZE[0]}x{SIZE[1]}", infer, batch, name,
              AIMS[name]) for name in precisions for batch in BATCHES]
    tasks += [(f"{net.name} training step float32, {batch}x{SIZE[0]}x{SIZE[1]}", train, batch,
               "float32", TRAINING) for batch in BATCHES]
    tasks += [("matrix product float32", multiply, 0, "float32", PRODUCT)]
    rows = []
    for work, measure, batch, precision, aim in tasks:
        _log.info("%s", work)
        row = {"work": work, "against": None, "sense": "at least", "aim": aim, "measured": None,
               "unit": "x", "reached": None, "lacking": None if with_torch else "no PyTorch"}
        rows.append(row)
        x = rng.standard_normal((batch, *SIZE, 3), np.float32) * np.float32(50)
        try:
            with precision_of_all(precision, device, with_torch):
                found = measure(x, precision)
        except (MemoryError, RuntimeError) as error:
            if not is_shortage(error):
                raise
            row["lacking"] = memory_shortage(error)
            continue
        best = hardest(found["duels"]) if found.get("duels") else found
        row["ours"] = best["ours"]
        if best["ratio"]:
            row.update(against=best["against"], other=best["other"], measured=best["ratio"],
                       reached=best["ratio"] >= aim)
    return rows
