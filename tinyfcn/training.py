"""Training a net on a data set, epoch after epoch, in a folder from which it can go on.

The folder holds ``checkpoint.h5`` (parameters, momentum and how far it got, after each epoch),
``best.h5`` (the net with the best mean IU on the val split so far, ready for use), ``config.json``
(how it was started) and ``log.csv`` (a row an epoch). All randomness is a function of the seed, the
epoch and the step, so a run that goes on from a checkpoint makes the same steps as one that was
never stopped.
"""

import concurrent.futures
import csv
import dataclasses
import json
import math
import os
import pathlib
import time

import numpy as np

from . import loading, metrics, weights
from .data.augmentation import random_view
from .data.folders import read_pair
from .data.transforms import preprocess
from .evaluation import evaluate
from .losses import median_frequency_weights, softmax_loss
from .models import fold_batch_norm
from .optimizers import SGD, poly_rate

CHECKPOINT, BEST, LOG = "checkpoint.h5", "best.h5", "log.csv"
VELOCITY = "velocity/"


class TrainingError(RuntimeError):
    """Training that cannot go on; the message is one line."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train: everything but the net and the data.

    Attributes
    ----------
    epochs, batch : int
    crop : (h, w) of the random views, in pixels
    rate : float
        Largest learning rate, after `warm_up` steps; then it falls by poly decay to zero.
    momentum, decay : float
    balance : bool
        Weigh classes by `losses.median_frequency_weights`.
    seed : int
    """

    epochs: int = 100
    batch: int = 4
    crop: tuple = (288, 384)
    rate: float = 0.05
    warm_up: int = 100
    momentum: float = 0.9
    decay: float = 5e-4
    balance: bool = False
    seed: int = 0


def train(net, train_pairs, val_pairs, ignore_label, recipe, folder, report=lambda row: None):
    """Train a net, going on from the folder's checkpoint if there is one.

    Parameters
    ----------
    net : Graph
        Built as when the run began; modified in place.
    train_pairs, val_pairs : sequences of folders.Pair
        Without val pairs the last net counts as the best.
    ignore_label : int
    recipe : Recipe
    folder : path
        Must exist.
    report : callable
        Called with each epoch's row of the log, a dict.

    Raises
    ------
    TrainingError
        If the loss is no longer finite, or there are fewer photos than a batch takes.
    DataError, ImageError, WeightsError
        If a file can't be read or written.
    """
    folder = pathlib.Path(folder)
    steps_per_epoch = len(train_pairs) // recipe.batch
    if not steps_per_epoch:
        raise TrainingError(f"{len(train_pairs)} photos do not make a batch of {recipe.batch}")
    steps = steps_per_epoch * recipe.epochs
    optimizer = SGD(net, recipe.momentum, recipe.decay)
    state = _resume(folder, net, optimizer)
    classes = net.arguments["classes"]
    photos = [read_pair(pair, classes, ignore_label) for pair in train_pairs]

    class_weights = None
    if recipe.balance:
        class_weights = median_frequency_weights((labels for _, labels in photos), classes)

    # One thread prepares the next batch while this one is in the kernels.
    with concurrent.futures.ThreadPoolExecutor(1) as loader:

        def load(step):
            return loader.submit(
                _load_batch, photos, step, steps_per_epoch, net.preprocessing, ignore_label, recipe
            )

        first = state["epoch"] * steps_per_epoch
        upcoming = load(first)
        for epoch in range(state["epoch"], recipe.epochs):
            began, total, waited = time.perf_counter(), 0.0, 0.0
            for step in range(epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch):
                asked = time.perf_counter()
                x, labels = upcoming.result()
                waited += time.perf_counter() - asked
                upcoming = load(step + 1)
                net.reseed(recipe.seed * steps + step)
                scores = net.forward(x, keep=True)
                loss, gscores = softmax_loss(scores, labels, ignore_label, class_weights)
                if not math.isfinite(loss):
                    raise TrainingError(f"the loss is {loss} at step {step}: try a lower rate")
                net.backward(gscores, input_gradient=False)
                optimizer.step(poly_rate(step, steps, recipe.rate, recipe.warm_up))
                total += loss
            seconds = time.perf_counter() - began
            row = {
                "epoch": epoch + 1,
                "loss": round(total / steps_per_epoch, 5),
                "rate": round(poly_rate(step, steps, recipe.rate, recipe.warm_up), 6),
                "images_per_second": round(steps_per_epoch * recipe.batch / seconds, 2),
                "seconds_waited_for_data": round(waited, 2),
            }
            if val_pairs:
                matrix = evaluate(fold_batch_norm(net), val_pairs, ignore_label)
                row["val_mean_iu"] = round(metrics.scores(matrix)["mean_iu"], 5)
            state["epoch"] = epoch + 1
            state["log"].append(row)
            if row.get("val_mean_iu", 0.0) >= state["best"]:
                state["best"] = row.get("val_mean_iu", 0.0)
                facts = {**dataclasses.asdict(recipe), "epoch": epoch + 1, **row}
                loading.save_model(net, folder / BEST, training=facts)
            _save(folder, net, optimizer, state)
            report(row)


def _load_batch(photos, step, steps_per_epoch, preprocessing, ignore_label, recipe):
    """The batch of a step: x (batch, crop_h, crop_w, 3) float32 and labels (batch, ...) uint8."""
    epoch, index = divmod(step, steps_per_epoch)
    order = np.random.default_rng([recipe.seed, epoch]).permutation(len(photos))
    rng = np.random.default_rng([recipe.seed, epoch, index])
    views = [
        random_view(*photos[i], recipe.crop, rng, ignore_label)
        for i in order[index * recipe.batch : (index + 1) * recipe.batch]
    ]
    x = np.stack([preprocess(photo, preprocessing) for photo, _ in views])
    return x, np.stack([labels for _, labels in views])


def _save(folder, net, optimizer, state):
    tensors = dict(net.params)
    tensors.update((VELOCITY + name, v) for name, v in optimizer.velocity.items())
    about = {"model": net.name, "arguments": net.arguments, "training": state}
    weights.write(folder / CHECKPOINT, tensors, about)
    temporary = folder / (LOG + ".part")
    with open(temporary, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, state["log"][0])
        table.writeheader()
        table.writerows(state["log"])
    os.replace(temporary, folder / LOG)


def _resume(folder, net, optimizer):
    """Fill net and optimizer from the folder's checkpoint, if any; return where it got to."""
    path = folder / CHECKPOINT
    if not path.exists():
        return {"epoch": 0, "best": -1.0, "log": []}
    targets = dict(net.params)
    targets.update((VELOCITY + name, v) for name, v in optimizer.velocity.items())
    shapes = {name: array.shape for name, array in targets.items()}
    loading.check_tensors(path, net.name, shapes, weights.shapes(path))
    weights.read_into(path, targets)
    return weights.describe(path)["training"]


def write_config(folder, config):
    """Write config.json; it must not be there yet."""
    with open(pathlib.Path(folder) / "config.json", "x", encoding="utf-8") as file:
        json.dump(config, file, indent=2)


def read_config(folder):
    """What the run in `folder` was started with.

    Raises
    ------
    TrainingError
        If there is no run in it.
    """
    path = pathlib.Path(folder) / "config.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path}: no run to go on with ({error})") from None
