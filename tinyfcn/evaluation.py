"""A net against the ground truth of a data set."""

import collections
import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from .data.errors import DataError
from .data.images import ImageError, printable
from .data.pairs import Pair, read_pair
from .inference import segment
from .metrics import confusion_matrix

# Photos are decoded and scored beside the net. Decoding takes a tenth of the time of a small net
# on two cores; a GPU or large photos need more hands. Each holds a photo.
HANDS = min(4, os.cpu_count() or 1)


class Scored(NamedTuple):
    """One photo and what came of it.

    Attributes
    ----------
    pair : pairs.Pair
    photo : (h, w, 3) uint8
    truth, predicted : (h, w) uint8
    matrix : (classes, classes) int64
        Its confusion matrix.
    """

    pair: Pair
    photo: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    matrix: np.ndarray


def evaluate(net, pairs, ignore_label, progress=None, failed=None, each=None, **views):
    """The confusion matrix of a net over pairs of photos and label maps.

    The next photos are decoded and the last one is scored while the net runs; some photos are held
    at a time, however many there are.

    Parameters
    ----------
    net : Graph
    pairs : sequence of pairs.Pair
    ignore_label : int
        Pixels with this label are left out.
    progress : callable, optional
        Called with the number of pairs done.
    failed : callable, optional
        Called with the error of a pair that can't be read, or that memory is not enough for, which
        is left out then; its text is one line that names the file. Without it the error is raised.
    each : callable, optional
        Called with a :class:`Scored` for each pair that could be read, in their order.
    **views
        `flip` and `scales` of :func:`inference.segment`.

    Returns
    -------
    array (classes, classes) of int64, [true class, predicted class]

    Raises
    ------
    DataError, ImageError
        If a pair can't be read.
    MemoryError
        If there is too little for a pair.
    ValueError
        If the net's scores are not finite.
    """
    classes = net.arguments["classes"]
    total = np.zeros((classes, classes), np.int64)

    def read(pair):
        return (pair, *read_pair(pair, classes, ignore_label))

    def score(pair, photo, labels, predicted):
        matrix = confusion_matrix(labels, predicted, classes, ignore_label)
        return Scored(pair, photo, labels, predicted, matrix)

    def finish(scoring):
        scored = scoring.result()
        total[...] += scored.matrix
        if each:
            each(scored)

    pool = ThreadPoolExecutor(HANDS)
    try:
        scoring = None
        for done, reading in enumerate(_ahead(pool, read, pairs), 1):
            try:
                pair, photo, labels = reading.result()
                predicted = _predict(net, pair, photo, views)
            except (DataError, ImageError, MemoryError) as error:
                if failed is None:
                    raise
                failed(error)
            else:
                if scoring:
                    finish(scoring)
                scoring = pool.submit(score, pair, photo, labels, predicted)
            if progress:
                progress(done)
        if scoring:
            finish(scoring)
    finally:
        pool.shutdown(cancel_futures=True)
    return total


def _predict(net, pair, photo, views):
    try:
        return segment(net, photo, **views).labels
    except MemoryError as error:
        raise MemoryError(f"{printable(pair.image)}: not enough memory") from error


def _ahead(pool, read, pairs):
    """Yield a future of read(pair) for each pair, with the next ones under way."""
    waiting = collections.deque()
    for pair in pairs:
        waiting.append(pool.submit(read, pair))
        if len(waiting) > HANDS:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()
