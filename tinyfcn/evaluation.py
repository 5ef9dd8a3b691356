"""A net against the ground truth of a data set."""

import numpy as np

from .data.folders import DataError, read_pair
from .data.images import ImageError
from .inference import segment
from .metrics import confusion_matrix


def evaluate(net, pairs, ignore_label, progress=None, failed=None):
    """The confusion matrix of a net over pairs of photos and label maps.

    Parameters
    ----------
    net : Graph
    pairs : sequence of folders.Pair
    ignore_label : int
        Pixels with this label are left out.
    progress : callable, optional
        Called with the number of pairs done.
    failed : callable, optional
        Called with the error of a pair that can't be read, which is left out then; without it the
        error is raised.

    Returns
    -------
    array (classes, classes) of int64, [true class, predicted class]

    Raises
    ------
    DataError, ImageError
        If a pair can't be read.
    ValueError
        If the net's scores are not finite.
    """
    classes = net.arguments["classes"]
    total = np.zeros((classes, classes), np.int64)
    for done, pair in enumerate(pairs, 1):
        try:
            photo, labels = read_pair(pair, classes, ignore_label)
        except (DataError, ImageError) as error:
            if failed is None:
                raise
            failed(error)
        else:
            truth = labels.astype(np.int64)
            truth[labels == ignore_label] = -1
            total += confusion_matrix(truth, segment(net, photo).labels, classes)
        if progress:
            progress(done)
    return total
