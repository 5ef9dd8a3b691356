"""Soft-max over the classes of each pixel, its cross-entropy loss, and the best class."""

import numpy as np
from numba import prange

from . import memory
from .checks import check_arrays, check_match, contiguous
from .compilation import inline, kernel
from .simd import (
    exponential,
    first_equal,
    highest,
    lanes,
    load_part,
    maximum,
    splat,
    store_part,
    total,
)

# Pixels that share a partial sum; the loss does not depend on the number of threads.
BLOCK_PIXELS = 4096


@inline
def _highest_score(scores, at, classes):
    """The largest of the scores that begin at flat index `at`."""
    best = load_part(scores, at, classes, -np.inf)
    for c in range(lanes(scores), classes, lanes(scores)):
        best = maximum(load_part(scores, at + c, classes - c, -np.inf), best)
    return highest(best)


@inline
def _powers(scores, at, classes, top, y):
    """e^(score - top) of a pixel, to y; their sum."""
    sum_of_powers = scores.dtype.type(0)
    for c in range(0, classes, lanes(scores)):
        number = load_part(scores, at + c, classes - c, -np.inf)
        power = exponential(number - splat(scores, top))
        store_part(y, at + c, classes - c, power)
        sum_of_powers += total(power)
    return sum_of_powers


@inline
def _scale_part(y, at, classes, factor):
    for c in range(0, classes, lanes(y)):
        scaled = load_part(y, at + c, classes - c, 0.0) * splat(y, factor)
        store_part(y, at + c, classes - c, scaled)


@kernel
def _softmax(scores, classes, y):
    for pixel in prange(scores.size // classes):
        at = pixel * classes
        top = _highest_score(scores, at, classes)
        sum_of_powers = _powers(scores, at, classes, top, y)
        _scale_part(y, at, classes, y.dtype.type(1) / sum_of_powers)


@kernel
def _cross_entropy(scores, classes, labels, ignore_label, class_weights, gscores, losses, weights,
                   highest_labels):
    """Loss and gradient in one pass: both need the same exponentials."""
    for block in prange(losses.size):
        for pixel in range(block * BLOCK_PIXELS, min(labels.size, (block + 1) * BLOCK_PIXELS)):
            label, at = labels[pixel], pixel * classes
            if label < 0 or label == ignore_label or label >= classes:
                if label != ignore_label:
                    highest_labels[block] = max(highest_labels[block], label)
                for c in range(at, at + classes):
                    gscores[c] = 0.0
                continue
            top = _highest_score(scores, at, classes)
            sum_of_powers = _powers(scores, at, classes, top, gscores)
            weight = class_weights[label]
            _scale_part(gscores, at, classes, gscores.dtype.type(weight / sum_of_powers))
            gscores[at + label] -= weight
            losses[block] += weight * (np.log(sum_of_powers) - (scores[at + label] - top))
            weights[block] += weight


@inline
def best_class(scores, at, classes):
    """The class of a pixel with the highest score, the first of equals, and its probability."""
    top = _highest_score(scores, at, classes)
    best, sum_of_powers = 0, scores.dtype.type(0)
    for c in range((classes - 1) // lanes(scores) * lanes(scores), -1, -lanes(scores)):
        number = load_part(scores, at + c, classes - c, -np.inf)
        sum_of_powers += total(exponential(number - splat(scores, top)))
        lane = first_equal(number, top)
        if lane < lanes(scores):
            best = c + lane
    return best, scores.dtype.type(1) / sum_of_powers


@kernel
def _classify(scores, classes, labels, confidence):
    for pixel in prange(labels.size):
        labels[pixel], confidence[pixel] = best_class(scores, pixel * classes, classes)


def softmax(scores):
    """Probabilities of the classes, the last axis: exp(s) / sum exp(s), safe for large scores."""
    scores = _check_scores("softmax", scores)
    y = memory.empty(scores.shape, scores.dtype)
    _softmax(scores.reshape(-1), scores.shape[-1], y.reshape(-1))
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
    class_weights = np.array(np.ones(classes) if class_weights is None else class_weights, float)
    check_match("softmax_cross_entropy: shape of class_weights", class_weights.shape, (classes,))
    gscores = memory.empty(scores.shape, scores.dtype)
    blocks = -(-labels.size // BLOCK_PIXELS)
    losses, weights = np.zeros(blocks), np.zeros(blocks)
    highest_labels = np.full(blocks, -1, np.int32)
    if labels.size:
        _cross_entropy(
            scores.reshape(-1),
            classes,
            labels.reshape(-1),
            int(ignore_label),
            class_weights,
            gscores.reshape(-1),
            losses,
            weights,
            highest_labels,
        )
        if highest_labels.max() >= classes:
            raise ValueError(
                f"softmax_cross_entropy: label {highest_labels.max()} with {classes} classes, "
                f"ignoring {ignore_label}"
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
    _classify(scores.reshape(-1), classes, labels.reshape(-1), confidence.reshape(-1))
    return labels, confidence


def _check_scores(name, scores):
    (scores,) = contiguous(scores)
    check_arrays(name, scores=(scores, scores.ndim))
    if scores.ndim == 0 or scores.shape[-1] == 0:
        raise ValueError(f"{name}: no classes in scores of shape {scores.shape}")
    return scores
