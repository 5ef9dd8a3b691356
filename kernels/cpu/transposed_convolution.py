"""Strided transposed convolution, learned upsampling: the adjoint of a strided convolution.

Channels-last, x (n, h, w, in), w (kh, kw, in, out), y (n, out_h, out_w, out)::

    y[iy * sy - py + ky, ix * sx - px + kx, k] += x[iy, ix, c] w[ky, kx, c, k]

Each y is gathered from the x that reach it (`gathered_product`), so there are no atomics and the
bits are the same from run to run. The output size may be given: a smaller one leaves out the bottom
and right, a larger one has zeros there. (Long, Shelhamer, Darrell 2015, section 3.3; Caffe's
deconv_layer.cpp, whose weights are (in, out, kh, kw).)
"""

import numpy as np

from ..taps import convolution_taps, transposed_output_size
from . import gathered_gradient, gathered_product, memory
from .checks import check_arrays, check_match, contiguous
from .convolution import scatter_product


def transposed_convolution_forward(x, w, stride=(1, 1), padding=(0, 0), output_size=None):
    """Upsample x by `stride` with the filters w.

    Parameters
    ----------
    x : array (n, h, w, in), float32 or float64
    w : array (kh, kw, in, out)
    stride, padding : pairs of ints, (y, x)
    output_size : pair of ints, optional
        (out_h, out_w); by default stride * (h - 1) + kh - 2 * padding.

    Returns
    -------
    array (n, out_h, out_w, out)

    Raises
    ------
    ValueError
        If shapes or dtypes don't fit together or the output would be empty.
    """
    x, w = contiguous(x, w)
    check_arrays("transposed_convolution", x=(x, 4), w=(w, 4))
    check_match("transposed_convolution: channels of w", w.shape[2], x.shape[3])
    if output_size is None:
        output_size = transposed_output_size(x.shape[1:3], w.shape[:2], stride, padding)
    if min(output_size) < 1:
        raise ValueError(f"transposed_convolution: output size {tuple(output_size)} is empty")
    y = memory.empty((x.shape[0], *output_size, w.shape[3]), x.dtype)
    scatter_product(x, w, y, stride, padding, (1, 1), 1, transposed=False)
    return y


def transposed_convolution_backward_input(gy, w, input_size, stride=(1, 1), padding=(0, 0)):
    """The gradient of x, (n, h, w, in), from that of y: a convolution; `input_size` is x's."""
    gy, w = contiguous(gy, w)
    check_arrays("transposed_convolution_backward_input", gy=(gy, 4), w=(w, 4))
    check_match("channels of gy", gy.shape[3], w.shape[3])
    gx = memory.empty((gy.shape[0], *input_size, w.shape[2]), gy.dtype)
    taps = convolution_taps(w.shape[:2], tuple(padding), (1, 1))
    phases = ((0, len(taps), 0, 0, *input_size),)
    gathered_product.product(
        gy, w, w.shape, gx, None, phases, taps, tuple(stride), (1, 1), transposed=True
    )
    return gx


def transposed_convolution_backward_weights(x, gy, kernel_size, stride=(1, 1), padding=(0, 0)):
    """The gradient of w, (kh, kw, in, out), from x and the gradient of y."""
    x, gy = contiguous(x, gy)
    check_arrays("transposed_convolution_backward_weights", x=(x, 4), gy=(gy, 4))
    check_match("images", gy.shape[0], x.shape[0])
    adjoint = memory.empty((*kernel_size, gy.shape[3], x.shape[3]), x.dtype)
    taps = convolution_taps(tuple(kernel_size), tuple(padding), (1, 1))
    gathered_gradient.gradient(gy, x, adjoint, taps, tuple(stride))
    return np.ascontiguousarray(adjoint.transpose(0, 1, 3, 2))
