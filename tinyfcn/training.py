"""Training a net on a data set, epoch after epoch, in a folder from which it can go on.

The folder holds ``checkpoint.h5`` (parameters, momentum and how far it got, after each epoch),
``best.h5`` (the net with the best mean IU on the val split so far, ready for use), ``config.json``
(how it was started) and ``log.csv`` (a row an epoch). All randomness is a function of the seed, the
epoch and the step, so a run that goes on from a checkpoint makes the same steps as one that was
never stopped. Each file is replaced in one step: there is always a whole checkpoint to go on from.
"""

import concurrent.futures
import contextlib
import csv
import dataclasses
import io
import json
import math
import os
import pathlib
import time

import numpy as np

from . import loading, metrics, weights
from .arrays import CPU, synchronize, to_device, to_host
from .data.augmentation import random_view
from .data.folders import DataError
from .data.images import ImageError, printable
from .data.outputs import staged_files
from .data.transforms import preprocess
from .evaluation import evaluate
from .losses import median_frequency_weights, softmax_loss
from .models import fold_batch_norm
from .optimizers import SGD, AdamW, RunningAverage, poly_rate
from .weights.errors import weights_error

CHECKPOINT, BEST, CONFIG, LOG = "checkpoint.h5", "best.h5", "config.json", "log.csv"
AVERAGE = "average/"


class TrainingError(RuntimeError):
    """Training that cannot go on; the message is one line."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train: everything but the net and the data. A ValueError says what makes no sense.

    Attributes
    ----------
    epochs, batch : int
    crop : (h, w) of the random views, in pixels
    rate : float
        Largest learning rate, after `warm_up` steps; then it falls by poly decay to zero.
    optimizer : "sgd" or "adamw"
    momentum, decay : float
        SGD's momentum, the decay of either.
    average : float
        0, or how much of the running average of the parameters each step keeps: the average is
        then what is scored on val and kept as the best net.
    balance : bool
        Weigh classes by `losses.median_frequency_weights`.
    seed : int
    """

    epochs: int = 100
    batch: int = 4
    crop: tuple = (288, 384)
    rate: float = 0.05
    warm_up: int = 100
    optimizer: str = "sgd"
    momentum: float = 0.9
    average: float = 0.0
    decay: float = 5e-4
    balance: bool = False
    seed: int = 0

    def __post_init__(self):
        sides = self.crop if isinstance(self.crop, (list, tuple)) else ()
        fits = {
            "epochs": _is_whole(self.epochs, 1),
            "batch": _is_whole(self.batch, 1),
            "crop": len(sides) == 2 and all(_is_whole(side, 1) for side in sides),
            "rate": _is_number(self.rate) and self.rate > 0,
            "warm_up": _is_whole(self.warm_up, 0),
            "momentum": _is_number(self.momentum) and 0 <= self.momentum < 1,
            "optimizer": self.optimizer in ("sgd", "adamw"),
            "average": _is_number(self.average) and 0 <= self.average < 1,
            "decay": _is_number(self.decay) and self.decay >= 0,
            "balance": isinstance(self.balance, bool),
            "seed": _is_whole(self.seed, 0),
        }
        for name, fit in fits.items():
            if not fit:
                raise ValueError(f"{name} cannot be {getattr(self, name)!r}")


def _is_whole(value, low):
    return isinstance(value, int) and not isinstance(value, bool) and value >= low


def _is_number(value):
    # Neither NaN nor an int that no float holds.
    return isinstance(value, (int, float)) and -1e30 < value < 1e30


def steps_per_epoch(photos, recipe):
    """How many batches an epoch has; photos that fill no batch wait for another epoch.

    Raises
    ------
    TrainingError
        If the photos do not make a single batch.
    """
    steps = len(photos) // recipe.batch
    if not steps:
        raise TrainingError(f"{len(photos)} photos do not make a batch of {recipe.batch}")
    return steps


def train(net, photos, val_pairs, ignore_label, recipe, folder, report=lambda row: None,
          device=CPU):
    """Train a net, going on from the folder's checkpoint if there is one.

    Parameters
    ----------
    net : Graph
        Built as when the run began; modified in place.
    photos : list of (photo, labels)
        To train on: arrays (h, w, 3) and (h, w) of uint8, as `folders.read_pair` gives them.
    val_pairs : sequence of folders.Pair
        Without any the last net counts as the best.
    ignore_label : int
    recipe : Recipe
    folder : path
        Must exist.
    report : callable
        Called with each epoch's row of the log, a dict.
    device : str
        Where to train, "cpu" or "cuda:N"; the net comes back at the end.

    Returns
    -------
    list of dict
        The rows of all epochs, those before the checkpoint too.

    Raises
    ------
    TrainingError
        If there are fewer photos than a batch takes, the net is no longer finite, the checkpoint
        is of other data, or a file can't be written. The last checkpoint is still there.
    WeightsError
        If the checkpoint is damaged or of another net.
    DataError, ImageError
        If a val pair can't be read.
    """
    folder = pathlib.Path(folder)
    epoch_steps = steps_per_epoch(photos, recipe)
    steps = epoch_steps * recipe.epochs
    if recipe.optimizer == "adamw":
        optimizer = AdamW(net, recipe.decay)
    else:
        optimizer = SGD(net, recipe.momentum, recipe.decay)
    average = RunningAverage(net, recipe.average) if recipe.average else None
    state = _resume(folder, net, optimizer, average, len(photos))
    optimizer.steps = state["epoch"] * epoch_steps
    net.to(device)
    optimizer.to(device)
    if average:
        average.steps = optimizer.steps
        average.to(device)

    class_weights = None
    if recipe.balance:
        classes = net.arguments["classes"]
        class_weights = median_frequency_weights((labels for _, labels in photos), classes)

    # One thread prepares the next batch while this one is in the kernels. What overflows is found
    # by looking at the loss and the parameters.
    with concurrent.futures.ThreadPoolExecutor(1) as loader, np.errstate(all="ignore"):

        def load(step):
            if step == steps:
                return None
            return loader.submit(
                _load_batch, photos, step, epoch_steps, net.preprocessing, ignore_label, recipe
            )

        upcoming = load(min(state["epoch"] * epoch_steps, steps))
        for epoch in range(state["epoch"], recipe.epochs):
            began, total, waited = time.perf_counter(), 0.0, 0.0
            for step in range(epoch * epoch_steps, (epoch + 1) * epoch_steps):
                asked = time.perf_counter()
                x, labels = upcoming.result()
                waited += time.perf_counter() - asked
                upcoming = load(step + 1)
                net.reseed(recipe.seed * steps + step)
                scores = net.forward(to_device(x, device), keep=True)
                loss, gscores = softmax_loss(scores, labels, ignore_label, class_weights)
                net.backward(gscores, input_gradient=False)
                loss = float(loss)  # a GPU goes on with backward meanwhile
                if not math.isfinite(loss):
                    raise TrainingError(
                        f"the loss is {loss} at step {step + 1} of {steps}: try a lower rate"
                    )
                optimizer.step(poly_rate(step, steps, recipe.rate, recipe.warm_up))
                if average:
                    average.step()
                total += loss
            synchronize()
            seconds = time.perf_counter() - began
            # A checkpoint from which nothing can be learned must not replace a good one.
            for name, array in net.params.items():
                if not np.isfinite(to_host(array)).all():
                    raise TrainingError(
                        f"{name} is no longer finite after epoch {epoch + 1}: try a lower rate"
                    )
            row = {
                "epoch": epoch + 1,
                "loss": round(total / epoch_steps, 5),
                "rate": round(poly_rate(step, steps, recipe.rate, recipe.warm_up), 6),
                "images_per_second": round(epoch_steps * recipe.batch / seconds, 2),
                "seconds_waited_for_data": round(waited, 2),
            }
            if average:
                average.exchange()
            if val_pairs:
                row["val_mean_iu"] = _mean_iu(net, val_pairs, ignore_label)
            state["epoch"] = epoch + 1
            state["log"].append(row)
            score = row.get("val_mean_iu") or 0.0
            if score >= state["best"]:
                state["best"] = score
                _save_best(folder, net, {**dataclasses.asdict(recipe), **row})
            if average:
                average.exchange()
            _save(folder, net, optimizer, average, state)
            report(row)
    net.to(CPU)
    return state["log"]


def _mean_iu(net, pairs, ignore_label):
    """Of the whole val split; None where it has no labelled pixel."""
    try:
        matrix = evaluate(fold_batch_norm(net), pairs, ignore_label)
    except (DataError, ImageError):
        raise
    except ValueError as error:  # the net's scores are not finite
        raise TrainingError(f"{error}: try a lower rate") from None
    mean_iu = metrics.scores(matrix)["mean_iu"]
    return None if math.isnan(mean_iu) else round(mean_iu, 5)


def _load_batch(photos, step, epoch_steps, preprocessing, ignore_label, recipe):
    """The batch of a step: x (batch, crop_h, crop_w, 3) float32 and labels (batch, ...) uint8."""
    epoch, index = divmod(step, epoch_steps)
    order = np.random.default_rng([recipe.seed, epoch]).permutation(len(photos))
    rng = np.random.default_rng([recipe.seed, epoch, index])
    views = [
        random_view(*photos[i], recipe.crop, rng, ignore_label)
        for i in order[index * recipe.batch : (index + 1) * recipe.batch]
    ]
    x = np.stack([preprocess(photo, preprocessing) for photo, _ in views])
    return x, np.stack([labels for _, labels in views])


def _save_best(folder, net, facts):
    try:
        loading.save_model(net, folder / BEST, training=facts)
    except weights.WeightsError as error:
        raise TrainingError(str(error)) from None


def _all_arrays(net, optimizer, average):
    """All that a checkpoint holds, by its names there."""
    arrays = {**net.params, **optimizer.state}
    if average:
        arrays.update((AVERAGE + name, array) for name, array in average.state.items())
    return arrays


def _save(folder, net, optimizer, average, state):
    arrays = _all_arrays(net, optimizer, average)
    tensors = {name: to_host(array) for name, array in arrays.items()}
    about = {
        "model": net.name,
        "arguments": net.arguments,
        "preprocessing": net.preprocessing,
        "training": state,
    }
    try:
        weights.write(folder / CHECKPOINT, tensors, about)
    except weights.WeightsError as error:
        raise TrainingError(str(error)) from None
    _write_log(folder, state["log"])


def _write_log(folder, rows):
    text = io.StringIO(newline="")
    columns = dict.fromkeys(name for row in rows for name in row)
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    _write_text(folder / LOG, text.getvalue())


def _write_text(path, text):
    try:
        with staged_files() as stage:
            stage(os.fspath(path), text.encode())
    except OSError as error:
        raise TrainingError(f"{printable(path)}: {error.strerror or error}") from None


def _resume(folder, net, optimizer, average, photos):
    """Fill net, optimizer and average from the folder's checkpoint, if any; return where it got to."""
    # What a process that was killed had not finished writing.
    for name in (CHECKPOINT, BEST):
        for leftover in folder.glob(f".{name}.*.tmp"):
            with contextlib.suppress(OSError):
                leftover.unlink()
    path = folder / CHECKPOINT
    if not path.exists():
        return {"epoch": 0, "best": -1.0, "log": [], "photos": photos}
    targets = _all_arrays(net, optimizer, average)
    shapes = {name: array.shape for name, array in targets.items()}
    about = weights.describe(path)
    loading.check_tensors(path, net.name, shapes, weights.shapes(path))
    state = about.get("training")
    if not _is_state(state):
        raise weights_error(path, "does not say how far its training got")
    if state.setdefault("photos", photos) != photos:
        raise TrainingError(
            f"{printable(path)}: the run began with {state['photos']} photos, now there are "
            f"{photos}: it cannot go on as it would have"
        )
    weights.read_into(path, targets)
    net.preprocessing = about.get("preprocessing", net.preprocessing)
    _write_log(folder, state["log"])  # the last row may be missing
    return state


def _is_state(state):
    return (
        isinstance(state, dict)
        and _is_whole(state.get("epoch"), 1)
        and _is_number(state.get("best"))
        and isinstance(state.get("log"), list)
        and len(state["log"]) == state["epoch"]
        and all(isinstance(row, dict) for row in state["log"])
    )


def has_run(folder):
    """Whether there is a run in a folder, begun or further."""
    return any(os.path.lexists(os.path.join(folder, name)) for name in (CONFIG, CHECKPOINT))


def write_config(folder, config):
    """Keep in the folder what a run is started with.

    Raises
    ------
    TrainingError
        If there is a run already, or the file can't be written.
    """
    if has_run(folder):
        raise TrainingError(f"{printable(folder)}: there is a run already")
    _write_text(pathlib.Path(folder) / CONFIG, json.dumps(config, indent=2) + "\n")


def read_config(folder):
    """What the run in `folder` was started with; its "recipe" as a `Recipe`.

    Raises
    ------
    TrainingError
        If there is no run in it, or its config.json is damaged.
    """
    path = pathlib.Path(folder) / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(
            f"{printable(path)}: no run to go on with ({error.strerror})"
        ) from None
    except (ValueError, RecursionError) as error:
        raise TrainingError(f"{printable(path)}: damaged ({error})") from None
    kinds = {"model": str, "data": str, "init": (str, type(None)), "net": dict, "recipe": dict}
    for name, kind in kinds.items():
        if not isinstance(config, dict) or not isinstance(config.get(name), kind):
            raise TrainingError(f"{printable(path)}: damaged (it does not say its {name})")
    try:
        config["recipe"] = Recipe(**config["recipe"])
    except (TypeError, ValueError) as error:
        raise TrainingError(f"{printable(path)}: damaged ({printable(str(error))})") from None
    return config
