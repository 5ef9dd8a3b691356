"""Training a net on a data set, step after step, in a folder from which it can go on.

The folder holds ``checkpoint.h5``, all there is to go on from; ``last.h5`` and ``best.h5``, the net
as it is and as it scored best on val, both ready for use; ``log.csv``, a row an epoch, and
``curve.png``, which draws it; and in ``samples/`` what the net sees on some val photos, epoch by
epoch. All randomness is a function of the seed and the step, so a run that goes on from a
checkpoint makes the same steps as one that was never stopped. Each file is replaced in one step:
there is always a whole checkpoint to go on from.
"""

import contextlib
import dataclasses
import io
import pathlib
import time
from typing import NamedTuple

import numpy as np
from PIL import Image

from . import checkpoints, curves, loading, recipes, runs, weights
from .arrays import CPU, synchronize
from .data.errors import DataError
from .data.images import ImageError
from .data.loader import Loader
from .data.transforms import preprocess
from .interrupts import Interrupts
from .learner import Learner, broken_parameters
from .losses import median_frequency_weights, moderate_weights
from .runs import TrainingError
from .schedules import learning_rate


class Progress(NamedTuple):
    """Where a training is.

    Attributes
    ----------
    epoch, epochs, step, steps : int
        The epoch under way, from 1, and the steps done of those of the whole training.
    loss : float
        Mean of the epoch so far.
    images_per_second : float
    seconds_left : float or None
        Of the whole training, scoring included; None before anything is done.
    scoring : int
        How many val photos are scored, between epochs; else 0.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    images_per_second: float
    seconds_left: float | None
    scoring: int


def train(net, photos, task, ignore_label, recipe, folder, *, device=CPU, workers=1,
          save_minutes=10.0, report=lambda row: None, show=lambda progress: None,
          say=lambda line: None):
    """Train a net, going on from the folder's checkpoint if there is one.

    An interrupt (Ctrl-C, SIGTERM) saves a checkpoint after the step under way and ends it with a
    KeyboardInterrupt; a second one ends it at once.

    Parameters
    ----------
    net : Graph
        Built as when the run began; modified in place.
    photos : sequence of (photo, labels)
        To train on: a list of arrays (h, w, 3) and (h, w) of uint8, or a `loader.PairReader`.
    task : tasks.Segmentation
        Or anything with its `measure`, `targets` and `score`.
    ignore_label : int
    recipe : Recipe
    folder : path
        Must exist, and be this process's own: see `runs.locked`.
    device : str
        Where to train, "cpu" or "cuda:N"; the net comes back at the end.
    workers : int
        Threads that make the batches.
    save_minutes : float
        Within an epoch a checkpoint is written whenever so much time has passed since the last.
    report : callable
        Called with each epoch's row of the log, a dict.
    show : callable
        Called with a `Progress` after each step and each val photo.
    say : callable
        Called with a line when the first interrupt arrives.

    Returns
    -------
    list of dict
        The rows of all epochs, those before the checkpoint too. The net has the parameters of the
        last step.

    Raises
    ------
    TrainingError
        If there are fewer photos than a batch takes, numbers are no longer finite, the checkpoint
        is of other data, or a file can't be written. The last checkpoint is still there.
    WeightsError
        If the checkpoint is damaged or of another net.
    DataError, ImageError
        If a photo or label map can't be read.
    KeyboardInterrupt
    """
    folder = pathlib.Path(folder)
    try:
        plan = recipes.plan(len(photos), recipe)
        learner = Learner(net, recipe, ignore_label, _class_weights(recipe, photos, net))
    except (DataError, ImageError):
        raise
    except ValueError as error:
        raise TrainingError(str(error)) from None
    state = checkpoints.load(folder, net, learner.arrays, len(photos), plan)
    if state.log:  # what an end between two files may have left behind
        _write_log(folder, state.log, task.measure)
    learner.begin(state.step, device)
    run = _Run(learner, task, folder, plan, state, report, show)

    loader = Loader(
        photos, recipe.batch, recipe.crop, recipe.seed,
        lambda photo: preprocess(photo, net.preprocessing), ignore_label=ignore_label,
        workers=workers, first_step=plan.batches(state.step).start,
        steps=plan.batches(plan.steps - 1).stop,
    )
    # What overflows is found by looking at the loss and the parameters.
    with Interrupts(say) as interrupts, np.errstate(all="ignore"):
        if not run.finished():
            with loader:
                run.to_the_end(loader, interrupts, 60 * save_minutes)
    net.to(CPU)
    return state.log


def _class_weights(recipe, photos, net):
    """What a pixel of each class counts, or None for all the same."""
    classes = net.arguments["classes"]
    if recipe.balance or recipe.class_weights == "median":
        found = median_frequency_weights((labels for _, labels in photos), classes)
        return moderate_weights(found) if recipe.balance else found
    if recipe.class_weights is not None and len(recipe.class_weights) != classes:
        raise ValueError(f"{len(recipe.class_weights)} class weights for {classes} classes")
    return recipe.class_weights


class _Run:
    """The steps of a training from a state to the end, and what is written on the way."""

    def __init__(self, learner, task, folder, plan, state, report, show):
        self.learner, self.task, self.folder, self.plan, self.state = (
            learner, task, folder, plan, state)
        self.report, self.show = report, show
        self.recipe = learner.recipe
        self.began, self.first_step = time.monotonic(), state.step
        self.saved = time.monotonic()

    def finished(self):
        """Whether all epochs are done, or as many without a better score as the recipe allows."""
        log, patience = self.state.log, self.recipe.early_stop
        scores = [_score(row, self.task.measure) for row in log if self.task.measure in row]
        waited = len(scores) - 1 - scores.index(max(scores)) if scores else 0
        return len(log) >= self.plan.epochs or 0 < patience <= waited

    def to_the_end(self, loader, interrupts, save_seconds):
        while not self.finished():
            epoch = len(self.state.log)
            while self.state.step < self.plan.epoch_end(epoch):
                self.step(loader)
                if interrupts.asked or time.monotonic() - self.saved > save_seconds:
                    self.save()
                interrupts.check()
            self.end_epoch(interrupts)
            interrupts.check()

    def step(self, loader):
        state, recipe, plan = self.state, self.recipe, self.plan
        began, waited = time.monotonic(), loader.seconds_waited
        total = plan.batches(plan.steps - 1).stop
        batches = []
        for number in plan.batches(state.step):
            x, labels = _next_batch(loader)
            batches.append((x, self.task.targets(labels), recipe.seed * total + number))
        try:
            loss = self.learner.step(batches, self.rate(state.step))
        except FloatingPointError as error:
            raise TrainingError(
                f"{error} at step {state.step + 1} of {plan.steps}: try a lower rate"
            ) from None
        state.step += 1
        state.loss += loss
        if state.step == plan.epoch_end(len(state.log)):
            synchronize()
        state.seconds += time.monotonic() - began
        state.waited += loader.seconds_waited - waited
        self.show(self.progress())

    def rate(self, step):
        recipe = self.recipe
        return learning_rate(step, self.plan.steps, recipe.rate, recipe.schedule, recipe.warm_up,
                             recipe.power, recipe.gamma, recipe.drop_every)

    def progress(self, scoring=0):
        state, plan, epoch = self.state, self.plan, len(self.state.log)
        done = state.step - epoch * plan.epoch_steps
        batches = min(done * plan.accumulate, plan.epoch_batches)
        here = state.step - self.first_step
        left = (time.monotonic() - self.began) / here * (plan.steps - state.step) if here else None
        return Progress(
            epoch + 1, plan.epochs, state.step, plan.steps, state.loss / max(1, done),
            batches * self.recipe.batch / max(1e-9, state.seconds), left, scoring)

    def end_epoch(self, interrupts):
        """Score the net, note what came out, and keep it."""
        state, measure = self.state, self.task.measure
        self.check_finite()
        progress = self.progress()
        row = {
            "epoch": progress.epoch,
            "loss": float(f"{progress.loss:.6g}"),
            "rate": float(f"{self.rate(state.step - 1):.6g}"),
            "images_per_second": round(progress.images_per_second, 2),
            "seconds_waited_for_data": round(state.waited, 2),
        }

        def tick(done):
            if interrupts.asked:
                raise _Stopped
            self.show(self.progress(done))

        try:
            with self.learner.averaged() as net:
                columns, picture = self.task.score(net, tick)
                row.update(columns)
                if all(_score(row, measure) >= _score(each, measure) for each in state.log):
                    _save_net(net, self.folder / runs.BEST, self.facts(row))
        except _Stopped:  # the epoch is scored anew when the run goes on
            self.save()
            raise KeyboardInterrupt from None
        except (DataError, ImageError):
            raise
        except ValueError as error:  # the net's scores are not finite
            raise TrainingError(f"{error}: try a lower rate") from None
        state.log.append(row)
        state.loss = state.seconds = state.waited = 0.0
        if picture is not None:
            _write_picture(self.folder / runs.SAMPLES / f"epoch_{row['epoch']:04}.jpg", picture)
        self.save()
        _write_log(self.folder, state.log, measure)
        self.report(row)

    def save(self):
        """Write last.h5 and the checkpoint."""
        self.check_finite()
        row = self.state.log[-1] if self.state.log else {}
        with self.learner.averaged() as net:
            _save_net(net, self.folder / runs.LAST, self.facts(row))
        checkpoints.save(self.folder, self.learner.net, self.learner.arrays, self.state)
        self.saved = time.monotonic()

    def facts(self, row):
        """How a net that is kept came to be."""
        return {**dataclasses.asdict(self.recipe), "steps": self.state.step, **row}

    def check_finite(self):
        """A checkpoint from which nothing can be learned must not replace a good one."""
        broken = broken_parameters(self.learner.net)
        if broken:
            raise TrainingError(
                f"{broken[-1]} is no longer finite after step {self.state.step} of "
                f"{self.plan.steps}: try a lower rate"
            )


class _Stopped(Exception):
    """An interrupt arrived while the net was scored."""


def _score(row, measure):
    return row.get(measure) or 0.0


def _next_batch(loader):
    try:
        return next(loader)
    except (DataError, ImageError):
        raise
    except ValueError as error:  # whole photos of different sizes make no batch
        raise TrainingError(f"no batch can be made: {error}") from None


def _save_net(net, path, facts):
    try:
        loading.save_model(net, path, training=facts)
    except weights.WeightsError as error:
        raise TrainingError(str(error)) from None


def _write_log(folder, rows, measure):
    runs.write_log(folder, rows)
    _write_picture(folder / runs.CURVE, curves.draw(rows, measure))


def _write_picture(path, pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG" if path.suffix == ".png" else "JPEG", quality=90)
    with contextlib.suppress(OSError):  # what is wrong is said when the file is written
        path.parent.mkdir(exist_ok=True)
    runs.write_file(path, file.getvalue())
