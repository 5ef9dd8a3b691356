"""A net that learns: forward, loss, backward and update as one step."""

import contextlib
import math

import numpy as np

from .arrays import to_device, to_host
from .kernels import backend
from .losses import softmax_loss
from .optimizers import SGD, AdamW, RunningAverage

AVERAGE = "average/"


class Learner:
    """A net and all that changes with it from step to step.

    Parameters
    ----------
    net : Graph
        What the recipe freezes is frozen from now on.
    recipe : Recipe
    ignore_label : int
    class_weights : sequence of floats, optional

    Raises
    ------
    ValueError
        If the recipe names a layer that there is not.
    """

    def __init__(self, net, recipe, ignore_label, class_weights=None):
        net.freeze(*recipe.freeze)
        rates = {"bias_rate": recipe.bias_rate, "layer_rates": recipe.layer_rates}
        if recipe.optimizer == "adamw":
            self.optimizer = AdamW(net, recipe.decay, **rates)
        else:
            self.optimizer = SGD(
                net, recipe.momentum, recipe.decay, nesterov=recipe.nesterov, **rates
            )
        self.average = RunningAverage(net, recipe.average) if recipe.average else None
        self.net, self.recipe = net, recipe
        self.ignore_label, self.class_weights = ignore_label, class_weights

    @property
    def arrays(self):
        """All that a checkpoint holds, by its names there."""
        arrays = {**self.net.params, **self.optimizer.state}
        if self.average:
            arrays.update((AVERAGE + name, array) for name, array in self.average.state.items())
        return arrays

    def begin(self, step, device):
        """Be ready for a step, on a device."""
        self.net.to(device)
        self.optimizer.to(device)
        self.optimizer.steps = step
        if self.average:
            self.average.to(device)
            self.average.steps = step

    def step(self, batches, rate):
        """One step of the net; returns the mean loss of its batches.

        Parameters
        ----------
        batches : list of (x, labels, seed)
            Whose mean gradient it follows; the seed is of their dropout.
        rate : float

        Raises
        ------
        FloatingPointError
            If the loss is not finite, with a line of where that began.
        """
        total, grads = 0.0, None
        for x, labels, seed in batches:
            self.net.reseed(seed)
            scores = self.net.forward(to_device(x, self.net.device), keep=True)
            loss, gscores = softmax_loss(
                scores, labels, self.ignore_label, self.class_weights, self.recipe.loss == "mean"
            )
            if len(batches) > 1:
                gscores = backend(gscores).scale(gscores, 1 / len(batches))
            self.net.backward(gscores, input_gradient=False)
            loss = float(loss)  # a GPU goes on with backward meanwhile
            if not math.isfinite(loss):
                where = first_not_finite(self.net, x, seed)
                raise FloatingPointError(f"the loss is {loss}, not finite first in {where}")
            total += loss / len(batches)
            grads = self.net.grads if grads is None else {
                name: backend(g).add(grads[name], g) for name, g in self.net.grads.items()
            }
        self.optimizer.step(rate, grads)
        if self.average:
            self.average.step()
        return total

    @contextlib.contextmanager
    def averaged(self):
        """The net as it is to be used: for as long, its parameters are the running average's."""
        if self.average:
            self.average.exchange()
        try:
            yield self.net
        finally:
            if self.average:
                self.average.exchange()


def broken_parameters(net):
    """The names of the parameters that hold a number that is not finite, in the net's order."""
    return [
        name for name, array in net.params.items() if not np.isfinite(to_host(array)).all()
    ]


def first_not_finite(net, x, seed):
    """The layer in which numbers first ceased to be finite, in words.

    An update brings them in from the side of the loss: of the layers whose parameters are not
    finite the last one was the first. Where all that learn are finite they began on the way from
    the net's input x, with the dropout of that seed.
    """
    broken = [name for name in broken_parameters(net) if name not in net.fixed]
    if broken:
        return f"the parameter {broken[-1]}"
    net.reseed(seed)
    names = [node.name for node in net.nodes]
    outputs = net.forward(to_device(x, net.device), keep=True, outputs=names)
    for name in names:
        if not np.isfinite(to_host(outputs[name])).all():
            return f"the output of {name}"
    return "the loss"
