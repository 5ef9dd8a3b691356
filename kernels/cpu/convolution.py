"""Convolution: forward and the gradients of input, weights and bias.

Channels-last, x (n, h, w, in), w (kh, kw, in / groups, out), y (n, out_h, out_w, out)::

    y[oy, ox, k] = b[k] + sum x[oy * sy - py + ky * dy, ox * sx - px + kx * dx, c] w[ky, kx, c, k]

It is computed by `gathered_product` (im2col) or, where it pays, by `winograd`: `algorithms`
chooses, unless ``algorithm="im2col"`` or ``"winograd-M"``, for tiles of M x M outputs, pins one.
"""

from typing import NamedTuple

import numpy as np

from ..taps import (
    check_gradient,
    check_weights,
    convolution_taps,
    output_size,
    scatter_phases,
)
from . import (
    algorithms,
    gathered_gradient,
    gathered_product,
    in_place_gradient,
    memory,
    pooling,
    winograd,
    winograd_gradient,
    winograd_weights,
)
from .checks import check_arrays, check_match, contiguous
from .column_sums import column_sums


class PreparedWeights(NamedTuple):
    """Weights as an algorithm reads them; `shape` is (kh, kw, in / groups, out)."""

    numbers: np.ndarray
    shape: tuple
    algorithm: str


def prepare_weights(
    w, input_shape, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1, algorithm=None
):
    """Transform weights once, for many calls of `convolution_forward` with those options.

    Parameters
    ----------
    w : array (kh, kw, in / groups, out)
        Must not change as long as the result is used.
    input_shape : (n, h, w, in)
        The shape of x that the algorithm is chosen for. Others give the same results, maybe slower.
    stride, padding, dilation, groups, algorithm
        As for `convolution_forward`.

    Returns
    -------
    PreparedWeights
    """
    (w,) = contiguous(w)
    check_arrays("prepare_weights", w=(w, 4))
    size = output_size(input_shape[1:3], w.shape[:2], stride, padding, dilation)
    y_shape = input_shape[0], *size, w.shape[3]
    return _prepare(w, input_shape, y_shape, stride, dilation, groups, algorithm, ready=True)


def _prepare(w, x_shape, y_shape, stride, dilation, groups, algorithm, ready):
    task = _task(y_shape, x_shape[3], w.shape[:2], stride, dilation, groups, ready)
    tile = _choose_tile(algorithm, task, w.dtype)
    numbers = w
    if ready:
        numbers = (gathered_product.pack_weights(w, groups) if tile is None
                   else winograd_weights.transform_weights(w, tile))
    return PreparedWeights(numbers, w.shape, algorithms.name_of(tile))


def convolution_forward(
    x, w, b=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1, relu=False, pool=False,
    algorithm=None,
):
    """Convolve x with w, add the bias and, with `relu`, clip at zero.

    Parameters
    ----------
    x : array (n, h, w, in), float32 or float64
    w : array (kh, kw, in / groups, out), or what `prepare_weights` returned
    b : array (out,), optional
    stride, padding, dilation : pairs of ints, (y, x)
    groups : int
        Divides the channels; group g of the outputs sees group g of the inputs.
    pool : bool
        Return the maxima of 2 x 2 pixels, with stride 2 and the size rounded up.
    algorithm : str, optional
        "im2col" or "winograd-M", which needs a square kernel, stride, dilation and groups of 1.

    Returns
    -------
    array (n, out_h, out_w, out)

    Raises
    ------
    ValueError
        If shapes or dtypes don't fit together, the kernel is larger than the padded image, or the
        algorithm cannot compute it.
    """
    x, b = contiguous(x, b)
    numbers = w.numbers if isinstance(w, PreparedWeights) else contiguous(w)[0]
    check_arrays("convolution", x=(x, 4), w=(numbers, numbers.ndim), b=(b, 1))
    kh, kw, _, outputs = check_weights(x, w if isinstance(w, PreparedWeights) else numbers, groups)
    check_match("bias", None if b is None else b.shape, (outputs,))
    out_h, out_w = output_size(x.shape[1:3], (kh, kw), stride, padding, dilation)
    y_shape = x.shape[0], out_h, out_w, outputs
    if not isinstance(w, PreparedWeights):
        w = _prepare(numbers, x.shape, y_shape, stride, dilation, groups, algorithm, ready=False)
    tile = algorithms.tile_of(w.algorithm)
    pools = pool and tile is not None and tile % 2 == 0
    if tile is not None:
        y = winograd.forward(x, w.numbers, b, y_shape, tile, kh, tuple(padding), relu, pools)
    else:
        y = memory.empty(y_shape, x.dtype)
        taps = convolution_taps((kh, kw), tuple(padding), tuple(dilation))
        phases = ((0, len(taps), 0, 0, out_h, out_w),)
        gathered_product.product(
            x, w.numbers, w.shape, y, b, phases, taps, tuple(stride), (1, 1), groups, relu=relu)
    if pool and not pools:
        y, _ = pooling.max_pooling_forward(y, (2, 2), (2, 2), ceil=True, keep_argmax=False)
    return y


def convolution_backward_input(
    gy, w, input_size, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1, algorithm=None
):
    """The gradient of x, (n, h, w, in), from that of y; `input_size` is x's (h, w)."""
    gy, w = contiguous(gy, w)
    check_arrays("convolution_backward_input", gy=(gy, 4), w=(w, 4))
    check_gradient(gy, w.shape[3], input_size, w.shape[:2], stride, padding, dilation, groups)
    gx_shape = gy.shape[0], *input_size, w.shape[2] * groups
    task = _task(gx_shape, gy.shape[3], w.shape[:2], stride, dilation, groups)
    tile = _choose_tile(algorithm, task, gy.dtype)
    if tile is not None:
        # A convolution of gy with the kernel turned by 180 degrees.
        padding = tuple(w.shape[0] - 1 - p for p in padding)
        return winograd.forward(gy, w, None, gx_shape, tile, w.shape[0], padding, transposed=True)
    gx = memory.empty(gx_shape, gy.dtype)
    scatter_product(gy, w, gx, stride, padding, dilation, groups, transposed=True)
    return gx


def convolution_backward_weights(
    x, gy, kernel_size, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1, algorithm=None
):
    """The gradient of w, (kh, kw, in / groups, out), from x and the gradient of y."""
    x, gy = contiguous(x, gy)
    check_arrays("convolution_backward_weights", x=(x, 4), gy=(gy, 4))
    if gy.shape[0] != x.shape[0] or groups < 1 or x.shape[3] % groups:
        raise ValueError(f"convolution: x {x.shape} and gy {gy.shape} don't fit, groups={groups}")
    check_gradient(
        gy, gy.shape[3], x.shape[1:3], kernel_size, stride, padding, dilation, groups
    )
    task = _task(gy.shape, x.shape[3], kernel_size, stride, dilation, groups)
    tile = _choose_tile(algorithm, task, x.dtype, gradient=True)
    if tile is not None:
        return winograd_gradient.weight_gradient(x, gy, tile, kernel_size[0], tuple(padding))
    if algorithms.reads_in_place(task, x.dtype):
        return in_place_gradient.gradient(x, gy, tuple(kernel_size), tuple(stride), tuple(padding))
    gw = memory.empty((*kernel_size, x.shape[3] // groups, gy.shape[3]), x.dtype)
    taps = convolution_taps(tuple(kernel_size), tuple(padding), tuple(dilation))
    gathered_gradient.gradient(x, gy, gw, taps, tuple(stride), groups)
    return gw


def _task(output_shape, inputs, kernel_size, stride, dilation, groups, ready=False):
    return algorithms.Task(*output_shape[:3], inputs, output_shape[3], tuple(kernel_size),
                           tuple(stride), tuple(dilation), groups, ready)


def _choose_tile(algorithm, task, dtype, gradient=False):
    """The tile of Winograd's algorithm, or None for im2col."""
    if algorithm is None:
        algorithm = algorithms.choose(task, gradient, dtype)
    tile = algorithms.tile_of(algorithm)
    if tile is not None and not algorithms.winograd_fits(task):
        raise ValueError(f"convolution: {algorithm} needs a square kernel, stride and dilation 1 "
                         "and one group, got kernel "
                         f"{task.kernel_size}, stride {task.stride}, dilation "
                         f"{task.dilation}, groups={task.groups}")
    return tile


def convolution_backward_bias(gy):
    """The gradient of the bias, (out,): gy (n, h, w, out) summed over images and pixels."""
    (gy,) = contiguous(gy)
    check_arrays("convolution_backward_bias", gy=(gy, 4))
    return column_sums(gy).astype(gy.dtype)


def scatter_product(x, w, y, stride, padding, dilation, groups, transposed, bias=None):
    """y[i * stride - padding + k * dilation] += x[i] w[k] over all i and k: convolution's adjoint.

    Written the other way round, each y gathers from the x that reach it, phase by phase.
    """
    phases, taps = scatter_phases(
        y.shape[1:3], w.shape[:2], tuple(stride), tuple(padding), tuple(dilation)
    )
    gathered_product.product(
        x, w, w.shape, y, bias, phases, taps, (1, 1), tuple(stride), groups, transposed
    )
