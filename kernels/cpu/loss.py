"""Soft-max over the classes of each pixel, its cross-entropy loss, and the best class.

A vector holds the scores of one class at several pixels that are neighbours: then no lane is empty,
however few classes there are, and nothing is added up across lanes. Scores lie pixel by pixel in
memory, so some pixels' are turned at a time, in registers.
"""

import functools

import numpy as np
from numba import from_dtype, types

from . import memory
from .callables import call, pointer
from .checks import check_arrays, check_match, contiguous
from .compilation import inline
from .jobs import compile_task, do_jobs, task_types
from .micro_kernel import copy
from .simd import exponential, lanes, lanes_of, load, maximum, splat, store, where_equal
from .threads import thread_count
from .transposition import transposition

# Pixels of a job, which share a partial sum: the loss does not depend on the number of threads.
BLOCK_PIXELS = 4096

# Vectors in a worker's scratch memory after the scores: a number of each pixel's.
TOPS, SUMS, LABELS, WEIGHTS, VECTORS = range(5)


@inline
def _padded(classes, side):
    """The classes of a pixel in whole vectors."""
    return (classes + side - 1) // side * side


@inline
def _parts(scratch, classes):
    """A worker's memory for some pixels' scores, pixel by pixel and class by class, and the rest.

    ``rows[pixel * padded + c]``, ``columns[c * lanes + pixel]``, ``each[TOPS * lanes + pixel]``.
    """
    size = _padded(classes, lanes(scratch)) * lanes(scratch)
    return scratch[:size], scratch[size : 2 * size], scratch[2 * size :]


@inline
def _turn(transpose, scores, at, classes, count, rows, columns):
    """The scores of `count` pixels, from flat index `at` on, class by class."""
    side = lanes(rows)
    step = _padded(classes, side)
    for pixel in range(count):
        copy(scores, at + pixel * classes, rows, pixel * step, classes)
    call(transpose, pointer(rows, 0), 0, step, side, step, pointer(columns, 0), 0, side)


@inline
def _turn_back(transpose, columns, rows, classes, count, y, at):
    """The opposite, to y."""
    side = lanes(rows)
    step = _padded(classes, side)
    call(transpose, pointer(columns, 0), 0, side, step, side, pointer(rows, 0), 0, step)
    for pixel in range(count):
        copy(rows, pixel * step, y, at + pixel * classes, classes)


@inline
def _find_top(columns, classes, each):
    """The highest score of each pixel; NaN where one is."""
    top = load(columns, 0)
    for c in range(1, classes):
        top = maximum(load(columns, c * lanes(columns)), top)
    store(each, TOPS * lanes(columns), top)


@inline
def _find_powers(columns, classes, each):
    """e^(score - top), in place, and their sum."""
    side = lanes(columns)
    top, total = load(each, TOPS * side), splat(columns, columns.dtype.type(0))
    for c in range(classes):
        power = exponential(load(columns, c * side) - top)
        store(columns, c * side, power)
        total = total + power
    store(each, SUMS * side, total)


def _softmax_block(given, block, worker):
    """Soft-max of a block of pixels."""
    transpose, scores, classes, pixels, y, all_scratch = given[0]
    scratch, first = all_scratch[worker], block * BLOCK_PIXELS
    last = min(pixels, first + BLOCK_PIXELS)
    rows, columns, each = _parts(scratch, classes)
    side = lanes(scratch)
    for pixel in range(first, last, side):
        at, count = pixel * classes, min(side, last - pixel)
        _turn(transpose, scores, at, classes, count, rows, columns)
        _find_top(columns, classes, each)
        _find_powers(columns, classes, each)
        factor = splat(scratch, scratch.dtype.type(1)) / load(each, SUMS * side)
        for c in range(classes):
            store(columns, c * side, load(columns, c * side) * factor)
        _turn_back(transpose, columns, rows, classes, count, y, at)


def _cross_entropy_block(given, block, worker):
    """Loss and gradient of a block of pixels in one pass: both need the same exponentials.

    Loss, weight and highest label go to ``results[block]``.
    """
    (transpose, scores, classes, pixels, labels, ignore_label, class_weights, gscores, results,
     all_scratch) = given[0]
    scratch, first = all_scratch[worker], block * BLOCK_PIXELS
    last = min(pixels, first + BLOCK_PIXELS)
    rows, columns, each = _parts(scratch, classes)
    side = lanes(scratch)
    loss, total_weight, highest_label = 0.0, 0.0, 0
    for pixel in range(first, last, side):
        at, count = pixel * classes, min(side, last - pixel)
        _turn(transpose, scores, at, classes, count, rows, columns)
        _find_top(columns, classes, each)
        _find_powers(columns, classes, each)
        for lane in range(side):
            each[LABELS * side + lane] = -1
            each[WEIGHTS * side + lane] = 0
        for lane in range(count):
            label = labels[pixel + lane]
            if label == ignore_label or label < 0:
                continue
            highest_label = max(highest_label, label)
            if label < classes:
                weight = class_weights[label]
                below = each[TOPS * side + lane] - scores[at + lane * classes + label]
                loss += weight * (np.log(each[SUMS * side + lane]) + below)
                total_weight += weight
                each[LABELS * side + lane], each[WEIGHTS * side + lane] = label, weight
        label, weight = load(each, LABELS * side), load(each, WEIGHTS * side)
        zero, factor = splat(scratch, scratch.dtype.type(0)), weight / load(each, SUMS * side)
        for c in range(classes):
            power = load(columns, c * side) * factor
            target = where_equal(label, splat(scratch, scratch.dtype.type(c)), weight, zero)
            # Zeros where nothing is labelled, whatever the scores are.
            store(columns, c * side, where_equal(weight, zero, zero, power - target))
        _turn_back(transpose, columns, rows, classes, count, gscores, at)
    results[block, 0], results[block, 1], results[block, 2] = loss, total_weight, highest_label


@inline
def find_classes(transpose, scores, classes, first, last, labels, confidence, scratch):
    """The first of the classes with the highest score, of the pixels first : last, and its
    probability."""
    rows, columns, each = _parts(scratch, classes)
    side = lanes(scratch)
    for pixel in range(first, last, side):
        count = min(side, last - pixel)
        _turn(transpose, scores, pixel * classes, classes, count, rows, columns)
        _find_top(columns, classes, each)
        top, best = load(each, TOPS * side), splat(scratch, scratch.dtype.type(0))
        for c in range(classes - 1, -1, -1):
            number = splat(scratch, scratch.dtype.type(c))
            best = where_equal(load(columns, c * side), top, number, best)
        store(each, LABELS * side, best)
        _find_powers(columns, classes, each)
        for lane in range(count):
            labels[pixel + lane] = each[LABELS * side + lane]
            confidence[pixel + lane] = 1 / each[SUMS * side + lane]


def _classify_block(given, block, worker):
    """`find_classes` of a block of pixels."""
    transpose, scores, classes, pixels, labels, confidence, all_scratch = given[0]
    first = block * BLOCK_PIXELS
    find_classes(transpose, scores, classes, first, min(pixels, first + BLOCK_PIXELS), labels,
                 confidence, all_scratch[worker])


@functools.cache
def _softmax_task(dtype):
    numbers, scratch = task_types(dtype)
    return compile_task(_softmax_block, (
        types.intp, numbers, types.intp, types.intp, numbers, scratch))


@functools.cache
def _cross_entropy_task(dtype):
    numbers, scratch = task_types(dtype)
    return compile_task(_cross_entropy_block, (
        types.intp, numbers, types.intp, types.intp, types.CPointer(types.int32), types.intp,
        types.CPointer(types.float64), numbers, types.Array(types.float64, 2, "C"), scratch))


@functools.cache
def _classify_task(dtype, label_dtype):
    numbers, scratch = task_types(dtype)
    return compile_task(_classify_block, (
        types.intp, numbers, types.intp, types.intp, types.CPointer(from_dtype(label_dtype)),
        types.CPointer(types.float32), scratch))


def classes_scratch(classes, dtype):
    """How many numbers of scratch memory the blocks need."""
    side = lanes_of(dtype)
    return (-(-classes // side) * side * 2 + VECTORS) * side


# ---- launchers


def softmax(scores):
    """Probabilities of the classes, the last axis: exp(s) / sum exp(s), safe for large scores."""
    scores = _check_scores("softmax", scores)
    y = memory.empty(scores.shape, scores.dtype)
    _do_blocks(_softmax_task(scores.dtype), scores, y)
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
    results = np.zeros((blocks, 3))
    if labels.size:
        _do_blocks(_cross_entropy_task(scores.dtype), scores, labels, int(ignore_label),
                   class_weights, gscores, results)
        highest_label = int(results[:, 2].max())
        if highest_label >= classes:
            raise ValueError(
                f"softmax_cross_entropy: label {highest_label} with {classes} classes, "
                f"ignoring {ignore_label}"
            )
    loss, weight, _ = results.sum(axis=0).tolist()
    return loss, weight, gscores


def classify(scores):
    """The class with the highest score at each pixel, the first of equals, and its probability.

    Where a score is NaN, so is the probability, and the class is 0.

    Returns
    -------
    labels : array (...) of uint8, or uint16 for more than 256 classes
    confidence : array (...) of float32
    """
    scores = _check_scores("classify", scores)
    classes = scores.shape[-1]
    labels = memory.empty(scores.shape[:-1], np.uint8 if classes <= 256 else np.uint16)
    confidence = memory.empty(scores.shape[:-1], np.float32)
    _do_blocks(_classify_task(scores.dtype, labels.dtype), scores, labels, confidence)
    return labels, confidence


def _check_scores(name, scores):
    (scores,) = contiguous(scores)
    check_arrays(name, scores=(scores, scores.ndim))
    if scores.ndim == 0 or scores.shape[-1] == 0:
        raise ValueError(f"{name}: no classes in scores of shape {scores.shape}")
    return scores


def _do_blocks(task, scores, *more):
    classes, workers = scores.shape[-1], thread_count()
    pixels = scores.size // classes
    scratch = memory.scratch(workers, classes_scratch(classes, scores.dtype), scores.dtype)
    do_jobs(task, -(-pixels // BLOCK_PIXELS), workers, transposition(scores.dtype), scores, classes,
            pixels, *more, scratch)
