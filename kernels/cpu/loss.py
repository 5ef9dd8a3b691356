"""Soft-max over the classes of each pixel, its cross-entropy loss, and the best class."""

import numpy as np
from numba import prange

from . import memory
from .checks import check_arrays, check_match, contiguous
from .compilation import kernel

# Pixels that share a partial sum; the loss does not depend on the number of threads.
BLOCK_PIXELS = 4096


@kernel
def _softmax(scores, y):
    for pixel in prange(scores.shape[0]):
        top = scores[pixel].max()
        total = 0.0
        for c in range(scores.shape[1]):
            power = np.exp(scores[pixel, c] - top)
            y[pixel, c] = power
            total += power
        for c in range(scores.shape[1]):
            y[pixel, c] /= total


@kernel
def _cross_entropy(scores, labels, ignore_label, class_weights, gscores, losses, weights):
    """Loss and gradient in one pass: both need the same exponentials."""
    pixels, classes = scores.shape
    for block in prange(losses.size):
        for pixel in range(block * BLOCK_PIXELS, min(pixels, (block + 1) * BLOCK_PIXELS)):
            label = labels[pixel]
            if label < 0 or label == ignore_label:
                for c in range(classes):
                    gscores[pixel, c] = 0.0
                continue
            top = scores[pixel].max()
            total = 0.0
            for c in range(classes):
                power = np.exp(scores[pixel, c] - top)
                gscores[pixel, c] = power
                total += power
            weight = class_weights[label]
            for c in range(classes):
                gscores[pixel, c] *= weight / total
            gscores[pixel, label] -= weight
            losses[block] += weight * (np.log(total) - (scores[pixel, label] - top))
            weights[block] += weight


@kernel
def _classify(scores, labels, confidence):
    for pixel in prange(scores.shape[0]):
        best = 0
        for c in range(1, scores.shape[1]):
            if scores[pixel, c] > scores[pixel, best]:
                best = c
        total = 0.0
        for c in range(scores.shape[1]):
            total += np.exp(scores[pixel, c] - scores[pixel, best])
        labels[pixel] = best
        confidence[pixel] = 1 / total


def softmax(scores):
    """Probabilities of the classes, the last axis: exp(s) / sum exp(s), safe for large scores."""
    scores = _check_scores("softmax", scores)
    y = memory.empty(scores.shape, scores.dtype)
    rows = (-1, scores.shape[-1])
    if scores.size:
        _softmax(scores.reshape(rows), y.reshape(rows))
    return y


def softmax_cross_entropy(scores, labels, ignore_label, class_weights=None):
    """The loss -log softmax(scores)[label], summed over the labelled pixels, and its gradient.

    Parameters
    ----------
    scores : array (..., classes), float32 or float64
    labels : array of ints (...)
        Pixels labelled `ignore_label` or below 0 count for nothing.
    ignore_label : int
    class_weights : sequence of floats (classes,), optional
        How much a pixel of each class counts; by default 1.

    Returns
    -------
    loss : float
        The sum; divide it and `gscores` by `weight` for the mean.
    weight : float
        What the labelled pixels weigh together, by default their number.
    gscores : array like scores
        weight of the label * (softmax(scores) - one-hot(labels)), or 0.

    Raises
    ------
    ValueError
        If shapes don't fit together or a label names no class.
    """
    scores = _check_scores("softmax_cross_entropy", scores)
    if not np.issubdtype(np.asarray(labels).dtype, np.integer):
        raise ValueError(f"softmax_cross_entropy: labels are {np.asarray(labels).dtype}, not ints")
    labels = np.ascontiguousarray(labels, np.int32)
    check_match("softmax_cross_entropy: shape of labels", labels.shape, scores.shape[:-1])
    classes = scores.shape[-1]
    named = labels[labels != ignore_label]
    if named.size and named.max() >= classes:
        raise ValueError(
            f"softmax_cross_entropy: label {named.max()} with {classes} classes, "
            f"ignoring {ignore_label}"
        )
    class_weights = np.array(np.ones(classes) if class_weights is None else class_weights, float)
    check_match("softmax_cross_entropy: shape of class_weights", class_weights.shape, (classes,))
    gscores = memory.empty(scores.shape, scores.dtype)
    blocks = -(-labels.size // BLOCK_PIXELS)
    losses, weights = np.zeros(blocks), np.zeros(blocks)
    if labels.size:
        rows = (-1, classes)
        _cross_entropy(
            scores.reshape(rows),
            labels.reshape(-1),
            int(ignore_label),
            class_weights,
            gscores.reshape(rows),
            losses,
            weights,
        )
    return float(losses.sum()), float(weights.sum()), gscores


def classify(scores):
    """The class with the highest score at each pixel, the first of equals, and its probability.

    Returns
    -------
    labels : array (...) of uint8, or uint16 for more than 256 classes
    confidence : array (...) of float32
    """
    scores = _check_scores("classify", scores)
    classes = scores.shape[-1]
    labels = memory.empty(scores.shape[:-1], np.uint8 if classes <= 256 else np.uint16)
    confidence = memory.empty(scores.shape[:-1], np.float32)
    if scores.size:
        _classify(scores.reshape(-1, classes), labels.reshape(-1), confidence.reshape(-1))
    return labels, confidence


def _check_scores(name, scores):
    (scores,) = contiguous(scores)
    check_arrays(name, scores=(scores, scores.ndim))
    if scores.ndim == 0 or scores.shape[-1] == 0:
        raise ValueError(f"{name}: no classes in scores of shape {scores.shape}")
    return scores
