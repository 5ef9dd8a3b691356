"""How to train: every setting but the net and the data, and the settings of the paper."""

import dataclasses
from typing import NamedTuple

from .schedules import SCHEDULES

LOSSES = ("mean", "sum")
OPTIMIZERS = ("sgd", "adamw")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train: everything but the net and the data. A ValueError says what makes no sense.

    Attributes
    ----------
    epochs : int
        How often each photo is seen.
    iterations : int, optional
        Train for so many steps instead.
    batch : int
        Photos whose gradients are found at once.
    accumulate : int
        Batches whose mean gradient makes a step, as Caffe's iter_size.
    crop : (h, w) or None
        Of the random views, in pixels; None trains on whole photos as they are.
    loss : "mean" or "sum"
        Over the labelled pixels; the authors' nets train on the sum.
    rate : float
        Largest learning rate, after `warm_up` steps; then it follows the schedule.
    schedule, power, gamma, drop_every
        As `schedules.learning_rate` takes them.
    optimizer : "sgd" or "adamw"
    momentum, decay : float
        SGD's momentum, the decay of either.
    nesterov : bool
        Of SGD.
    bias_rate : float
        By how much faster biases learn.
    layer_rates : dict
        By how much faster some layers learn: a factor by a pattern as `Graph.matching` takes it.
    freeze : list of str
        Patterns of the layers that do not learn.
    average : float
        0, or how much of the running average of the parameters each step keeps: the average is
        then what is scored on val and kept as the best net.
    balance : bool
        Weigh classes by `losses.moderate_weights`.
    class_weights : "median", list of floats or None
        Weigh classes by `losses.median_frequency_weights` or as given.
    early_stop : int
        End after so many epochs without a better score on val; 0 never does.
    seed : int
    """

    epochs: int = 100
    batch: int = 4
    crop: tuple | None = (288, 384)
    rate: float = 0.05
    warm_up: int = 100
    optimizer: str = "sgd"
    momentum: float = 0.9
    average: float = 0.0
    decay: float = 5e-4
    balance: bool = False
    seed: int = 0
    iterations: int | None = None
    accumulate: int = 1
    loss: str = "mean"
    schedule: str = "poly"
    power: float = 0.9
    gamma: float = 0.1
    drop_every: int | None = None
    nesterov: bool = False
    bias_rate: float = 1.0
    layer_rates: dict = dataclasses.field(default_factory=dict)
    freeze: list = dataclasses.field(default_factory=list)
    class_weights: list | str | None = None
    early_stop: int = 0

    def __post_init__(self):
        fits = {
            "epochs": _is_whole(self.epochs, 1),
            "batch": _is_whole(self.batch, 1),
            "crop": self.crop is None
            or _is_list(self.crop, lambda side: _is_whole(side, 1)) and len(self.crop) == 2,
            "rate": _is_number(self.rate) and self.rate > 0,
            "warm_up": _is_whole(self.warm_up, 0),
            "optimizer": self.optimizer in OPTIMIZERS,
            "momentum": _is_number(self.momentum) and 0 <= self.momentum < 1,
            "average": _is_number(self.average) and 0 <= self.average < 1,
            "decay": _is_positive(self.decay),
            "balance": isinstance(self.balance, bool),
            "seed": _is_whole(self.seed, 0),
            "iterations": self.iterations is None or _is_whole(self.iterations, 1),
            "accumulate": _is_whole(self.accumulate, 1),
            "loss": self.loss in LOSSES,
            "schedule": self.schedule in SCHEDULES,
            "power": _is_positive(self.power),
            "gamma": _is_positive(self.gamma),
            "drop_every": self.drop_every is None or _is_whole(self.drop_every, 1),
            "nesterov": isinstance(self.nesterov, bool),
            "bias_rate": _is_positive(self.bias_rate),
            "layer_rates": isinstance(self.layer_rates, dict)
            and all(map(_is_positive, self.layer_rates.values())),
            "freeze": _is_list(self.freeze, lambda pattern: isinstance(pattern, str)),
            "class_weights": self.class_weights in (None, "median")
            or _is_list(self.class_weights, _is_positive) and len(self.class_weights) > 0,
            "early_stop": _is_whole(self.early_stop, 0),
        }
        for name, fit in fits.items():
            if not fit:
                raise ValueError(f"{name} cannot be {getattr(self, name)!r}")
        if self.balance and self.class_weights is not None:
            raise ValueError("balance and class_weights both weigh the classes: choose one")


def _is_whole(value, low):
    return isinstance(value, int) and not isinstance(value, bool) and value >= low


def _is_number(value):
    # Neither NaN nor an int that no float holds.
    return isinstance(value, (int, float)) and -1e30 < value < 1e30


def _is_positive(value):
    return _is_number(value) and value >= 0


def _is_list(value, test):
    return isinstance(value, (list, tuple)) and all(map(test, value))


class Plan(NamedTuple):
    """How the steps of a training fall into epochs and batches.

    Attributes
    ----------
    steps, epochs : int
        Of the whole training; the last epoch may be shorter than the others.
    epoch_steps, epoch_batches : int
        Of an epoch. Its last step takes the batches that are left.
    accumulate : int
        Batches of every other step.
    """

    steps: int
    epochs: int
    epoch_steps: int
    epoch_batches: int
    accumulate: int

    def batches(self, step):
        """The numbers of a step's batches, counted over the whole training."""
        epoch, index = divmod(step, self.epoch_steps)
        first = index * self.accumulate
        end = min(first + self.accumulate, self.epoch_batches)
        return range(epoch * self.epoch_batches + first, epoch * self.epoch_batches + end)

    def epoch_end(self, epoch):
        """The number of the step with which the epoch after `epoch` would begin."""
        return min((epoch + 1) * self.epoch_steps, self.steps)


def plan(photos, recipe):
    """The plan for so many photos; those that fill no batch wait for another epoch.

    Raises
    ------
    ValueError
        If the photos do not make a single batch.
    """
    epoch_batches = photos // recipe.batch
    if not epoch_batches:
        raise ValueError(f"{photos} photos do not make a batch of {recipe.batch}")
    epoch_steps = -(-epoch_batches // recipe.accumulate)
    steps = recipe.iterations or recipe.epochs * epoch_steps
    epochs = -(-steps // epoch_steps)
    return Plan(steps, epochs, epoch_steps, epoch_batches, recipe.accumulate)


# Settings by which nets of the paper were trained (Long, Shelhamer and Darrell 2015, section 4.3,
# and the solver files of shelhamer/fcn.berkeleyvision.org): of a Recipe, of the net, and the net
# itself. The "voc" ones are the authors' released nets: one photo a step, whole, the loss summed
# over its pixels. The "cvpr" ones are the paper's first version: 20 photos a step, the loss
# averaged; for how long is not said there. The VGG nets start from a classifier on ImageNet, each
# further stage from the one before (--init), those at once from the classifier.
_ALIKE = {
    "batch": 1, "crop": None, "warm_up": 0, "schedule": "constant", "decay": 5e-4, "bias_rate": 2.0,
    "width": 1.0, "fc_channels": 4096, "dropout": 0.5, "geometry": "caffe",
}
_VOC = {**_ALIKE, "iterations": 100_000, "momentum": 0.99, "loss": "sum"}
_CVPR = {**_ALIKE, "accumulate": 20, "momentum": 0.9, "loss": "mean"}
PRESETS = {
    "voc-fcn32s": {**_VOC, "model": "fcn32s", "rate": 1e-10},
    "voc-fcn16s": {**_VOC, "model": "fcn16s", "rate": 1e-12},
    "voc-fcn8s": {**_VOC, "model": "fcn8s", "rate": 1e-14},
    "voc-staged": {**_VOC, "model": "fcn8s", "staged": True, "rate": 1e-10,
                   "stage_rates": [1e-10, 1e-12, 1e-14]},
    "voc-fcn8s-atonce": {**_VOC, "model": "fcn8s-atonce", "rate": 1e-10, "iterations": 300_000},
    "voc-fcn-alexnet": {**_CVPR, "model": "fcn_alexnet", "rate": 1e-4, "iterations": 100_000},
    "cvpr-fcn32s": {**_CVPR, "model": "fcn32s", "rate": 1e-4},
    "cvpr-fcn16s": {**_CVPR, "model": "fcn16s", "rate": 1e-6},
}
