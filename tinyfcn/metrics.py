"""The four measures of the paper, from a confusion matrix (section 5; the authors' score.py)."""

import numpy as np


def confusion_matrix(truth, predicted, classes):
    """Count pixels, matrix[true class, predicted class]; true labels outside the classes drop out.

    Parameters
    ----------
    truth, predicted : arrays of ints of one shape
    classes : int

    Returns
    -------
    array (classes, classes) of int64; add up those of several images
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape:
        raise ValueError(f"truth {truth.shape} and prediction {predicted.shape} differ in shape")
    counted = (truth >= 0) & (truth < classes)
    index = truth[counted].astype(np.int64) * classes + predicted[counted]
    return np.bincount(index, minlength=classes * classes).reshape(classes, classes)


def scores(matrix):
    """Pixel accuracy, mean accuracy, mean IU and frequency weighted IU of a confusion matrix.

    With n_ij pixels of class i predicted as j and t_i = sum_j n_ij, class i has accuracy n_ii / t_i
    and IU n_ii / (t_i + sum_j n_ji - n_ii). A class that is neither in the truth nor predicted is
    NaN and left out of the means; one predicted but never true has IU 0, which counts.

    Returns
    -------
    dict
        pixel_accuracy, mean_accuracy, mean_iu, frequency_weighted_iu: floats; iu, accuracy: arrays
        (classes,).
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
            "frequency_weighted_iu": float((share * iu)[true > 0].sum()),
            "iu": iu,
            "accuracy": accuracy,
        }


def _mean(values):
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")
