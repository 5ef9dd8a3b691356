"""The four measures of the paper, from a confusion matrix (section 5; the authors' score.py)."""

import numpy as np


def confusion_matrix(truth, predicted, classes, ignore_label=None):
    """Count pixels, matrix[true class, predicted class].

    Pixels whose true label is below 0, not below `classes`, or `ignore_label` drop out.

    Parameters
    ----------
    truth, predicted : arrays of ints of one shape
    classes : int
    ignore_label : int, optional

    Returns
    -------
    array (classes, classes) of int64; add up those of several images

    Raises
    ------
    ValueError
        If the shapes differ, or a counted pixel is predicted as no class.
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape:
        raise ValueError(f"truth {truth.shape} and prediction {predicted.shape} differ in shape")
    counted = (truth >= 0) & (truth < classes)
    if ignore_label is not None:
        counted &= truth != ignore_label
    rows, columns = truth[counted].astype(np.int64), predicted[counted].astype(np.int64)
    if columns.size and not 0 <= columns.min() <= columns.max() < classes:
        strange = columns[(columns < 0) | (columns >= classes)][0]
        raise ValueError(f"class {strange} is predicted, of {classes} classes")
    cells = np.bincount(rows * classes + columns, minlength=classes * classes)
    return cells.reshape(classes, classes)


def scores(matrix):
    """Pixel accuracy, mean accuracy, mean IU and frequency weighted IU of a confusion matrix.

    With n_ij pixels of class i predicted as j and t_i = sum_j n_ij, class i has accuracy n_ii / t_i
    and IU n_ii / (t_i + sum_j n_ji - n_ii). A class that is neither in the truth nor predicted is
    NaN and left out of the means; one predicted but never true has IU 0, which counts.

    Parameters
    ----------
    matrix : array (classes, classes), [true class, predicted class]

    Returns
    -------
    dict
        pixel_accuracy, mean_accuracy, mean_iu, frequency_weighted_iu: floats, NaN if no pixel was
        counted; iu, accuracy, share (of the true pixels): arrays (classes,).
    """
    matrix = np.asarray(matrix, np.float64)
    right, true, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        accuracy = right / true
        iu = right / (true + predicted - right)
        share = true / true.sum()
        return {
            "pixel_accuracy": float(right.sum() / true.sum()),
            "mean_accuracy": _mean(accuracy),
            "mean_iu": _mean(iu),
            # The share of a class without true pixels is 0, whatever its IU.
            "frequency_weighted_iu": float(np.where(true == 0, share, share * iu).sum()),
            "iu": iu,
            "accuracy": accuracy,
            "share": share,
        }


def _mean(values):
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")
