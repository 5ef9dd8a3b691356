"""The matrix product: a convolution of one tap on an image one pixel high."""

import numpy as np

from .checks import check_arrays, check_match
from .convolution import convolution_backward_weights, convolution_forward


def matrix_product(a, b, transpose_a=False, transpose_b=False):
    """c = a b, with either operand transposed first.

    Parameters
    ----------
    a : array (m, k), or (k, m) with `transpose_a`
    b : array (k, n), or (n, k) with `transpose_b`

    Returns
    -------
    array (m, n) of the operands' dtype, float32 or float64

    Raises
    ------
    ValueError
        If shapes or dtypes don't fit together.
    """
    a, b = np.asarray(a), np.asarray(b)
    check_arrays("matrix_product", a=(a, 2), b=(b, 2))
    depth = a.shape[0] if transpose_a else a.shape[1]
    check_match("matrix_product: b's depth", b.shape[1 if transpose_b else 0], depth)
    if a.size == 0 or b.size == 0:
        shape = a.shape[1 if transpose_a else 0], b.shape[0 if transpose_b else 1]
        return np.zeros(shape, a.dtype)
    if transpose_b:
        b = np.ascontiguousarray(b.T)
    if transpose_a:
        rows, columns = a[None, None], b[None, None]
        return convolution_backward_weights(rows, columns, (1, 1))[0, 0]
    return convolution_forward(a[None, None], b[None, None])[0, 0]
