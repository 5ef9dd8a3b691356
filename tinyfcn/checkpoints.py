"""Checkpoints: all that a training needs to go on, bit for bit, as if it had never stopped.

The file holds the parameters, the optimizer's arrays and the running average, and in its
description how far the training got. What is random is a function of the seed and the step, so
there is no state of it to keep.
"""

import contextlib
import dataclasses
import pathlib

from . import loading, weights
from .arrays import to_host
from .data.images import printable
from .runs import BEST, CHECKPOINT, LAST, TrainingError
from .weights.errors import weights_error


@dataclasses.dataclass
class State:
    """How far a training got.

    Attributes
    ----------
    photos : int
        That it trains on.
    step : int
        The next one.
    log : list of dict
        A row for each epoch that is done and scored.
    loss, seconds, waited : float
        Of the epoch under way: the sum of its steps' losses, the time they took, and the part of
        it in which the next batch was not there yet.
    """

    photos: int
    step: int = 0
    log: list = dataclasses.field(default_factory=list)
    loss: float = 0.0
    seconds: float = 0.0
    waited: float = 0.0


def save(folder, net, arrays, state):
    """Replace the folder's checkpoint in one step.

    Parameters
    ----------
    folder : path
    net : Graph
    arrays : dict of arrays
        The net's parameters, by their names, and whatever else changes from step to step.
    state : State

    Raises
    ------
    TrainingError
        If it can't be written; the one before is still there.
    """
    about = {
        "model": net.name,
        "arguments": net.arguments,
        "preprocessing": net.preprocessing,
        "training": dataclasses.asdict(state),
    }
    tensors = {name: to_host(array) for name, array in arrays.items()}
    try:
        weights.write(pathlib.Path(folder) / CHECKPOINT, tensors, about)
    except weights.WeightsError as error:
        raise TrainingError(str(error)) from None


def load(folder, net, arrays, photos, plan):
    """Fill arrays from the folder's checkpoint, if there is one; return how far it got.

    Parameters
    ----------
    folder : path
    net : Graph
        Takes the checkpoint's preprocessing.
    arrays : dict of arrays
        As for `save`, of the host; modified in place.
    photos : int
        That there are to train on.
    plan : recipes.Plan

    Returns
    -------
    State

    Raises
    ------
    WeightsError
        The checkpoint is damaged or of another net. Nothing is modified.
    TrainingError
        It is of other photos.
    """
    folder = pathlib.Path(folder)
    # What a process that was killed had not finished writing.
    for pattern in (*(f".{name}.*.tmp" for name in (CHECKPOINT, LAST, BEST)), ".tinyfcn-*.part",
                    "*/.tinyfcn-*.part"):
        for leftover in folder.glob(pattern):
            with contextlib.suppress(OSError):
                leftover.unlink()
    path = folder / CHECKPOINT
    if not path.exists():
        return State(photos)
    about = weights.describe(path)
    shapes = {name: array.shape for name, array in arrays.items()}
    loading.check_tensors(path, net.name, shapes, weights.shapes(path))
    state = _state(path, about.get("training"), photos, plan)
    if state.photos != photos:
        raise TrainingError(
            f"{printable(path)}: the run began with {state.photos} photos, now there are "
            f"{photos}: it cannot go on as it would have"
        )
    weights.read_into(path, arrays)
    net.preprocessing = about.get("preprocessing", net.preprocessing)
    return state


def _state(path, stored, photos, plan):
    """The state that a checkpoint's description holds, checked."""
    stored = dict(stored) if isinstance(stored, dict) else {}
    if "step" not in stored and isinstance(stored.get("epoch"), int):
        # Version 0.1.0 wrote checkpoints between epochs alone, and counted those.
        stored["step"] = stored["epoch"] * plan.epoch_steps
    stored.setdefault("photos", photos)
    fields = {field.name: stored.get(field.name, field.default)
              for field in dataclasses.fields(State)}
    counts, log = (fields["photos"], fields["step"]), fields["log"]
    times = fields["loss"], fields["seconds"], fields["waited"]
    if (
        not all(isinstance(count, int) and count > 0 for count in counts)
        or not all(isinstance(time, (int, float)) for time in times)
        or not isinstance(log, list)
        or not all(isinstance(row, dict) for row in log)
        # The row of an epoch may still be missing when all its steps are done.
        or not 0 <= -(-fields["step"] // plan.epoch_steps) - len(log) <= 1
    ):
        raise weights_error(path, "does not say how far its training got")
    return State(**fields)
