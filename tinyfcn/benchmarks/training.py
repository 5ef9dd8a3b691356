"""A step of training, forward, loss, backward and update, by us and by PyTorch in turns."""

import copy
import logging

from ..arrays import CPU, synchronize, to_device, to_host
from ..losses import softmax_loss
from ..optimizers import SGD
from ..peers import pytorch
from .timing import TOLERANCES, compare, duel, in_turns, judged

RATE, MOMENTUM, DECAY, IGNORE_LABEL = 1e-5, 0.9, 5e-4, 255

_log = logging.getLogger(__name__)


def training(net, x, repeat, with_torch, rng, device=CPU, precision="float32"):
    """The figures of a step of training, and a duel with each layout of PyTorch.

    On a GPU a copy of `net` is trained.
    """
    _log.info("%s, training", net.name)
    if device != CPU:
        net = copy.deepcopy(net).to(device)
    labels = random_labels(net.forward(to_device(x, device)).shape, rng)
    gradients, ours = our_step(net, x, labels)
    forward_tolerance, gradient_tolerance = TOLERANCES[precision]
    batch_norm = net.arguments.get("batch_norm", False)
    if batch_norm:
        # Its numbers lie around zero, where rounding decides more ReLUs and maxima than elsewhere:
        # 7 of 3.7 million, decided otherwise, moved a gradient by 6% of its largest number. In
        # float64 none were, and the same algorithms agreed to 1e-13.
        gradient_tolerance *= 10
    duels = []
    for name, options in pytorch.VARIANTS.items() if with_torch else ():
        params, their_gradients, theirs = their_step(net, x, labels, device=device, **options)
        compare(f"{net.name}, {name}: loss", float(gradients()), float(their_gradients()),
                forward_tolerance)
        found = pytorch.gradients(net, params)
        for key, g in net.grads.items():
            if batch_norm and key.startswith("conv") and key.endswith("/bias"):
                continue  # batch norm takes any bias away: its gradient is zero but for rounding
            compare(f"{net.name}, {name}: gradient of {key}", to_host(g), found[key],
                    gradient_tolerance)
        del found
        ours()
        theirs()
        duels.append(duel(name, in_turns([ours, theirs], repeat, device)))
        _log.info("%s, training, %s: ratio %.2f", net.name, name, duels[-1]["ratio"])
        del params, their_gradients, theirs
    return judged(duels, ours, repeat, device)


def random_labels(scores_shape, rng):
    """Any labels will do; a tenth of the pixels has none."""
    labels = rng.integers(0, scores_shape[-1], scores_shape[:-1]).astype("uint8")
    labels[rng.random(labels.shape) < 0.1] = IGNORE_LABEL
    if (labels == IGNORE_LABEL).all():
        labels.flat[0] = 0
    return labels


def our_step(net, x, labels):
    """Functions: one finds the gradients and returns the loss, one does a whole step."""
    optimizer, x = SGD(net, MOMENTUM, DECAY), to_device(x, net.device)

    def gradients():
        loss, gscores = softmax_loss(net.forward(x, keep=True), labels, IGNORE_LABEL)
        net.backward(gscores, input_gradient=False)
        return loss

    def step():
        gradients()
        optimizer.step(RATE)
        synchronize()

    return gradients, step


def their_step(net, x, labels, layout, device=CPU):
    """PyTorch's parameters, and the same two functions."""
    params = pytorch.parameters(net, layout, training=True, device=device)
    image, labels = pytorch.image(x, layout, device), pytorch.labels(labels, device)
    optimizer = pytorch.optimizer(params, RATE, MOMENTUM, DECAY)

    def gradients():
        loss = pytorch.loss(
            pytorch.forward(net, params, image, training=True), labels, IGNORE_LABEL)
        loss.backward()
        return loss.detach()

    def step():
        optimizer.zero_grad()
        gradients()
        optimizer.step()
        pytorch.synchronize(device)

    return params, gradients, step
