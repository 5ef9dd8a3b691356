"""Soft-max over the classes of each pixel, its cross-entropy loss, and the best class.

A vector holds the scores of one class at several pixels that are neighbours: then no lane is empty,
however few classes there are, and nothing is added up across lanes. Scores lie pixel by pixel in
memory, so some pixels' are turned at a time, in registers.
"""

import functools

import numpy as np
from numba import from_dtype, prange, types

from . import memory
from .callables import call, compile_callable, number_types, pointer
from .checks import check_arrays, check_match, contiguous
from .compilation import inline, kernel
from .jobs import counter, take_job
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


def _softmax_block(transpose, scores, classes, first, last, y, scratch):
    """Soft-max of the pixels first : last."""
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


def _cross_entropy_block(transpose, scores, classes, labels, ignore_label, class_weights, first,
                         last, gscores, results, block, scratch):
    """Loss and gradient of the pixels first : last in one pass: both need the same exponentials.

    Loss, weight and highest label go to ``results[block]``.
    """
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


def _classify_block(transpose, scores, classes, first, last, labels, confidence, scratch):
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


@functools.cache
def _softmax_address(dtype):
    numbers, scratch = number_types(dtype)
    return compile_callable(_softmax_block, (
        types.intp, numbers, *(types.intp,) * 3, numbers, scratch))


@functools.cache
def _cross_entropy_address(dtype):
    numbers, scratch = number_types(dtype)
    return compile_callable(_cross_entropy_block, (
        types.intp, numbers, types.intp, types.CPointer(types.int32), types.intp,
        types.CPointer(types.float64), types.intp, types.intp, numbers,
        types.Array(types.float64, 2, "C"), types.intp, scratch))


@functools.cache
def classify_address(dtype, label_dtype):
    """The address of `_classify_block`."""
    numbers, scratch = number_types(dtype)
    return compile_callable(_classify_block, (
        types.intp, numbers, *(types.intp,) * 3, types.CPointer(from_dtype(label_dtype)),
        types.CPointer(types.float32), scratch))


def classes_scratch(classes, dtype):
    """How many numbers of scratch memory the blocks need."""
    side = lanes_of(dtype)
    return (-(-classes // side) * side * 2 + VECTORS) * side


@kernel
def _softmax(run, transpose, scores, classes, y, jobs_taken, scratch):
    workers, pixels = scratch.shape[0], scores.size // classes
    for worker in prange(workers):
        first = take_job(jobs_taken) * BLOCK_PIXELS
        while first < pixels:
            call(run, transpose, pointer(scores, 0), classes, first,
                 min(pixels, first + BLOCK_PIXELS), pointer(y, 0), scratch[worker])
            first = take_job(jobs_taken) * BLOCK_PIXELS


@kernel
def _cross_entropy(run, transpose, scores, classes, labels, ignore_label, class_weights, gscores,
                   results, jobs_taken, scratch):
    workers = scratch.shape[0]
    for worker in prange(workers):
        block = take_job(jobs_taken)
        while block < results.shape[0]:
            call(run, transpose, pointer(scores, 0), classes, pointer(labels, 0), ignore_label,
                 pointer(class_weights, 0), block * BLOCK_PIXELS,
                 min(labels.size, (block + 1) * BLOCK_PIXELS), pointer(gscores, 0), results, block,
                 scratch[worker])
            block = take_job(jobs_taken)


@kernel
def _classify(run, transpose, scores, classes, labels, confidence, jobs_taken, scratch):
    workers = scratch.shape[0]
    for worker in prange(workers):
        first = take_job(jobs_taken) * BLOCK_PIXELS
        while first < labels.size:
            call(run, transpose, pointer(scores, 0), classes, first,
                 min(labels.size, first + BLOCK_PIXELS), pointer(labels, 0),
                 pointer(confidence, 0), scratch[worker])
            first = take_job(jobs_taken) * BLOCK_PIXELS


# ---- launchers


def softmax(scores):
    """Probabilities of the classes, the last axis: exp(s) / sum exp(s), safe for large scores."""
    scores = _check_scores("softmax", scores)
    y = memory.empty(scores.shape, scores.dtype)
    _softmax(_softmax_address(scores.dtype), *_turned(scores), y.reshape(-1), counter(),
             _scratch(scores))
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
        _cross_entropy(_cross_entropy_address(scores.dtype), *_turned(scores), labels.reshape(-1),
                       int(ignore_label), class_weights, gscores.reshape(-1), results, counter(),
                       _scratch(scores))
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
    _classify(classify_address(scores.dtype, labels.dtype), *_turned(scores), labels.reshape(-1),
              confidence.reshape(-1), counter(), _scratch(scores))
    return labels, confidence


def _check_scores(name, scores):
    (scores,) = contiguous(scores)
    check_arrays(name, scores=(scores, scores.ndim))
    if scores.ndim == 0 or scores.shape[-1] == 0:
        raise ValueError(f"{name}: no classes in scores of shape {scores.shape}")
    return scores


def _turned(scores):
    """What the kernels need to turn scores."""
    return transposition(scores.dtype), scores.reshape(-1), scores.shape[-1]


def _scratch(scores):
    return memory.scratch(thread_count(), classes_scratch(scores.shape[-1], scores.dtype),
                          scores.dtype)
