"""A step of training, forward, loss, backward and update, by us and by PyTorch in turns."""

import logging

from ..losses import softmax_loss
from ..optimizers import SGD
from ..peers import pytorch
from .timing import FORWARD_TOLERANCE, GRADIENT_TOLERANCE, compare, duel, in_turns, judged

RATE, MOMENTUM, DECAY, IGNORE_LABEL = 1e-5, 0.9, 5e-4, 255

_log = logging.getLogger(__name__)


def training(net, x, repeat, with_torch, rng):
    """The figures of a step of training, and a duel with each layout of PyTorch."""
    _log.info("%s, training", net.name)
    labels = random_labels(net.forward(x).shape, rng)
    gradients, ours = our_step(net, x, labels)
    duels = []
    for name, options in pytorch.VARIANTS.items() if with_torch else ():
        params, their_gradients, theirs = their_step(net, x, labels, **options)
        compare(f"{net.name}, {name}: loss", gradients(), their_gradients(), FORWARD_TOLERANCE)
        found = pytorch.gradients(net, params)
        for key, g in net.grads.items():
            compare(f"{net.name}, {name}: gradient of {key}", g, found[key], GRADIENT_TOLERANCE)
        del found
        ours()
        theirs()
        duels.append(duel(name, in_turns([ours, theirs], repeat)))
        _log.info("%s, training, %s: ratio %.2f", net.name, name, duels[-1]["ratio"])
        del params, their_gradients, theirs
    return judged(duels, ours, repeat)


def random_labels(scores_shape, rng):
    """Any labels will do; a tenth of the pixels has none."""
    labels = rng.integers(0, scores_shape[-1], scores_shape[:-1]).astype("uint8")
    labels[rng.random(labels.shape) < 0.1] = IGNORE_LABEL
    if (labels == IGNORE_LABEL).all():
        labels.flat[0] = 0
    return labels


def our_step(net, x, labels):
    """Functions: one finds the gradients and returns the loss, one does a whole step."""
    optimizer = SGD(net, MOMENTUM, DECAY)

    def gradients():
        loss, gscores = softmax_loss(net.forward(x, keep=True), labels, IGNORE_LABEL)
        net.backward(gscores, input_gradient=False)
        return loss

    def step():
        gradients()
        optimizer.step(RATE)

    return gradients, step


def their_step(net, x, labels, layout):
    """PyTorch's parameters, and the same two functions."""
    params, image = pytorch.parameters(net, layout, training=True), pytorch.image(x, layout)
    optimizer = pytorch.optimizer(params, RATE, MOMENTUM, DECAY)

    def gradients():
        loss = pytorch.loss(
            pytorch.forward(net, params, image, training=True), labels, IGNORE_LABEL)
        loss.backward()
        return loss.item()

    def step():
        optimizer.zero_grad()
        gradients()
        optimizer.step()

    return params, gradients, step
