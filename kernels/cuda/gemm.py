"""The matrix product: a convolution of one tap on an image one pixel high."""

from . import memory
from .checks import check_arrays, check_match
from .convolution import convolution_backward_weights, convolution_forward
from .transposition import transposed


def matrix_product(a, b, transpose_a=False, transpose_b=False):
    """c = a b, with either operand transposed first.

    Parameters
    ----------
    a : DeviceArray (m, k), or (k, m) with `transpose_a`
    b : DeviceArray (k, n), or (n, k) with `transpose_b`

    Returns
    -------
    DeviceArray (m, n)

    Raises
    ------
    ValueError
        If shapes don't fit together.
    """
    check_arrays("matrix_product", a=(a, 2), b=(b, 2))
    depth = a.shape[0] if transpose_a else a.shape[1]
    check_match("matrix_product: b's depth", b.shape[1 if transpose_b else 0], depth)
    shape = a.shape[1 if transpose_a else 0], b.shape[0 if transpose_b else 1]
    if a.size == 0 or b.size == 0:
        return memory.zeros(shape)
    if transpose_b:
        b = transposed(b)
    a, b = a.reshape(1, 1, *a.shape), b.reshape(1, 1, *b.shape)
    if transpose_a:
        return convolution_backward_weights(a, b, (1, 1)).reshape(shape)
    return convolution_forward(a, b).reshape(shape)
