"""What training minimizes."""

import numpy as np

from .kernels import backend


def softmax_loss(scores, labels, ignore_label, class_weights=None, average=True):
    """Soft-max cross-entropy over the labelled pixels.

    Parameters
    ----------
    scores : array (n, h, w, classes)
    labels : array of ints (n, h, w)
        Pixels of `ignore_label` or below 0 count for nothing.
    ignore_label : int
    class_weights : sequence of floats (classes,), optional
        How much a pixel of each class counts.
    average : bool
        Divide by what the labelled pixels weigh; the authors' nets train on the sum.

    Returns
    -------
    loss : float
        From a GPU, a number that may still be under way there: ``float(loss)`` waits for it.
    gscores : array like scores

    Raises
    ------
    ValueError
        If a label names no class, or shapes don't fit together.
    """
    ops = backend(scores)
    loss, weight, gscores = ops.softmax_cross_entropy(scores, labels, ignore_label, class_weights)
    if average and weight:
        return loss / weight, ops.scale(gscores, 1 / weight)
    return loss, gscores


def median_frequency_weights(label_maps, classes):
    """Weights that bring rare classes up: median frequency / frequency (Eigen and Fergus 2015).

    The frequency of a class is its share of the pixels of the images that show it, unlabelled ones
    included; the median is over the classes.

    Parameters
    ----------
    label_maps : iterable of arrays (h, w) of unsigned ints
    classes : int

    Returns
    -------
    array (classes,) of float64; 1 for a class that never occurs
    """
    pixels, seen_among = np.zeros(classes), np.zeros(classes)
    for labels in label_maps:
        counts = np.bincount(labels.ravel(), minlength=classes)[:classes]
        pixels += counts
        seen_among[counts > 0] += labels.size
    present = pixels > 0
    weights = np.ones(classes)
    if present.any():
        frequency = pixels[present] / seen_among[present]
        weights[present] = np.median(frequency) / frequency
    return weights


def moderate_weights(weights):
    """The roots of weights, within 0.3 to 3, which bring rare classes up with moderation.

    The few pixels of a rare class then do not outshout all others.
    """
    return np.sqrt(weights).clip(0.3, 3)
