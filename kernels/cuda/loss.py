"""Soft-max over the classes of each pixel, its cross-entropy loss, and the best class."""

import math

import numpy as np
from numba import cuda
from numba.cuda.types import float32, float64, int32

from . import launch, memory
from .checks import check_arrays, check_match
from .compilation import BYTES, DOUBLES, FLOATS, INT, INTS, SHORTS, kernel

THREADS = 128
# Blocks that add up the loss; each has a partial sum.
MOST_BLOCKS = 1024


@kernel(FLOATS, FLOATS, INT, INT)
def _softmax(scores, y, pixels, classes):
    pixel = int32(cuda.grid(1))
    if pixel < pixels:
        first = pixel * classes
        top = scores[first]
        for c in range(1, classes):
            top = max(top, scores[first + c])
        total = float32(0)
        for c in range(classes):
            power = math.exp(scores[first + c] - top)
            y[first + c] = power
            total += power
        for c in range(classes):
            y[first + c] /= total


@kernel(FLOATS, INTS, FLOATS, FLOATS, DOUBLES, INT, INT, INT, threads=THREADS)
def _cross_entropy(scores, labels, class_weights, gscores, losses, ignore_label, pixels, classes):
    """Loss and gradient in one pass: both need the same exponentials."""
    shared = cuda.shared.array(THREADS, float64)
    thread = int32(cuda.threadIdx.x)
    loss = float64(0)
    pixel = int32(cuda.grid(1))
    while pixel < pixels:
        first = pixel * classes
        label = labels[pixel]
        if label < 0 or label == ignore_label:
            for c in range(classes):
                gscores[first + c] = float32(0)
        else:
            top = scores[first]
            for c in range(1, classes):
                top = max(top, scores[first + c])
            total = float32(0)
            for c in range(classes):
                power = math.exp(scores[first + c] - top)
                gscores[first + c] = power
                total += power
            weight = class_weights[label]
            for c in range(classes):
                gscores[first + c] *= weight / total
            gscores[first + label] -= weight
            loss += float64(weight * (math.log(total) - (scores[first + label] - top)))
        pixel = int32(pixel + cuda.gridsize(1))
    shared[thread] = loss
    cuda.syncthreads()
    half = THREADS // 2
    while half > 0:
        if thread < half:
            shared[thread] += shared[thread + half]
        cuda.syncthreads()
        half //= 2
    if thread == 0:
        losses[cuda.blockIdx.x] = shared[0]


def _classify(scores, labels, confidence, pixels, classes):
    pixel = int32(cuda.grid(1))
    if pixel < pixels:
        first = pixel * classes
        best, top = int32(0), scores[first]
        for c in range(1, classes):
            if scores[first + c] > top:
                best, top = int32(c), scores[first + c]
        total = float32(0)
        for c in range(classes):
            total += math.exp(scores[first + c] - top)
        labels[pixel] = best
        confidence[pixel] = float32(1) / total


_classify_kernels = {
    np.dtype(np.uint8): kernel(FLOATS, BYTES, FLOATS, INT, INT)(_classify),
    np.dtype(np.uint16): kernel(FLOATS, SHORTS, FLOATS, INT, INT)(_classify),
}


class PendingSum:
    """A number that the GPU may still be computing; ``float(number)`` waits for it."""

    def __init__(self, parts, divisor=1.0):
        self._parts = parts
        self._divisor = divisor

    def __truediv__(self, divisor):
        return PendingSum(self._parts, self._divisor * divisor)

    def __float__(self):
        return float(self._parts.numbers().sum()) / self._divisor


def softmax(scores):
    """Probabilities of the classes, the last axis: exp(s) / sum exp(s), safe for large scores."""
    pixels, classes = _check_scores("softmax", scores)
    y = memory.empty(scores.shape)
    if y.size:
        _softmax.launch(launch.blocks_for(pixels), scores, y, pixels, classes)
    return y


def softmax_cross_entropy(scores, labels, ignore_label, class_weights=None):
    """The loss -log softmax(scores)[label], summed over the labelled pixels, and its gradient.

    Parameters
    ----------
    scores : DeviceArray (..., classes)
    labels : NumPy array of ints (...)
        Pixels labelled `ignore_label` or below 0 count for nothing.
    ignore_label : int
    class_weights : sequence of floats (classes,), optional
        How much a pixel of each class counts; by default 1.

    Returns
    -------
    loss : PendingSum
        The sum; divide it and `gscores` by `weight` for the mean. ``float(loss)`` waits for it.
    weight : float
        What the labelled pixels weigh together, by default their number.
    gscores : DeviceArray like scores
        weight of the label * (softmax(scores) - one-hot(labels)), or 0.

    Raises
    ------
    ValueError
        If shapes don't fit together or a label names no class.
    """
    pixels, classes = _check_scores("softmax_cross_entropy", scores)
    if not np.issubdtype(np.asarray(labels).dtype, np.integer):
        raise ValueError(f"softmax_cross_entropy: labels are {np.asarray(labels).dtype}, not ints")
    labels = np.ascontiguousarray(labels, np.int32)
    check_match("softmax_cross_entropy: shape of labels", labels.shape, scores.shape[:-1])
    named = labels[(labels != ignore_label) & (labels >= 0)]
    if named.size and named.max() >= classes:
        raise ValueError(
            f"softmax_cross_entropy: label {named.max()} with {classes} classes, "
            f"ignoring {ignore_label}"
        )
    class_weights = np.array(np.ones(classes) if class_weights is None else class_weights, float)
    check_match("softmax_cross_entropy: shape of class_weights", class_weights.shape, (classes,))
    # What the GPU need not be asked for: the labels are here.
    weight = float(np.bincount(named, minlength=classes) @ class_weights)
    gscores = memory.empty(scores.shape)
    blocks = max(1, min(MOST_BLOCKS, -(-pixels // THREADS)))
    losses = memory.empty((blocks,), np.float64)
    _cross_entropy.launch(
        blocks, scores, memory.upload(labels), memory.upload(class_weights.astype(np.float32)),
        gscores, losses, int(ignore_label), pixels, classes)
    return PendingSum(memory.Download(losses)), weight, gscores


def classify(scores):
    """The class with the highest score at each pixel, the first of equals, and its probability.

    Returns
    -------
    labels : DeviceArray (...) of uint8, or uint16 for more than 256 classes
    confidence : DeviceArray (...) of float32
    """
    pixels, classes = _check_scores("classify", scores)
    labels = memory.empty(scores.shape[:-1], np.uint8 if classes <= 256 else np.uint16)
    confidence = memory.empty(scores.shape[:-1])
    if scores.size:
        _classify_kernels[labels.dtype].launch(
            launch.blocks_for(pixels), scores, labels, confidence, pixels, classes)
    return labels, confidence


def _check_scores(name, scores):
    """How many pixels and classes there are."""
    check_arrays(name, scores=(scores, getattr(scores, "ndim", 0)))
    if scores.ndim == 0 or scores.shape[-1] == 0:
        raise ValueError(f"{name}: no classes in scores of shape {scores.shape}")
    return math.prod(scores.shape[:-1]), scores.shape[-1]
