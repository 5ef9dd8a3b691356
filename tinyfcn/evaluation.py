"""A net against the ground truth of a data set."""

from .data.folders import read_pair
from .inference import segment
from .metrics import confusion_matrix


def evaluate(net, pairs, ignore_label, progress=None):
    """The confusion matrix of a net over pairs of photos and label maps.

    Parameters
    ----------
    net : Graph
    pairs : sequence of folders.Pair
    ignore_label : int
        Pixels with this label are left out.
    progress : callable, optional
        Called with the number of photos done.

    Returns
    -------
    array (classes, classes) of int64, [true class, predicted class]
    """
    classes = net.arguments["classes"]
    total = 0
    for done, pair in enumerate(pairs, 1):
        photo, labels = read_pair(pair, classes, ignore_label)
        truth = labels.astype(int)
        truth[labels == ignore_label] = -1
        total = total + confusion_matrix(truth, segment(net, photo).labels, classes)
        if progress:
            progress(done)
    return total
