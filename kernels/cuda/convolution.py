"""Convolution: forward and the gradients of input, weights and bias.

The equations are those of `cpu/convolution.py`. Everything but the bias's gradient is one of the
two products of `gathered_product`, or Winograd's algorithm around them: `algorithms` chooses.
"""

import math
from typing import NamedTuple

from ..taps import check_gradient, check_weights, convolution_taps, output_size, scatter_phases
from . import algorithms, gathered_product, memory, pooling, winograd
from .checks import check_arrays, check_match, check_size
from .column_sums import column_sums
from .padding import Padded, pad_weights


class PreparedWeights(NamedTuple):
    """Weights as an algorithm reads them; `shape` is (kh, kw, in / groups, out)."""

    numbers: Padded
    shape: tuple
    algorithm: str


def prepare_weights(
    w, input_shape, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1, algorithm=None
):
    """Fill up the weights' channels, or transform them, once for many calls of
    `convolution_forward`.

    Parameters
    ----------
    w : DeviceArray (kh, kw, in / groups, out)
        Must not change as long as the result is used.
    input_shape : (n, h, w, in)
        The shape of x that the algorithm is chosen for. Others give the same results, maybe slower.
    stride, padding, dilation, groups, algorithm
        As for `convolution_forward`.

    Returns
    -------
    PreparedWeights
    """
    check_arrays("prepare_weights", w=(w, 4))
    size = output_size(input_shape[1:3], w.shape[:2], stride, padding, dilation)
    y_shape = input_shape[0], *size, w.shape[3]
    return _prepare(w, y_shape, stride, dilation, groups, algorithm, ready=True)


def _prepare(w, y_shape, stride, dilation, groups, algorithm, ready):
    task = algorithms.Task(*y_shape[:3], w.shape[2] * groups, y_shape[3], w.shape[:2],
                           tuple(stride), tuple(dilation), groups, ready)
    algorithm = algorithms.choose(task, algorithm=algorithm)
    tile = algorithms.tile_of(algorithm)
    numbers = winograd.transform_weights(w, tile) if tile else pad_weights(w, groups)
    return PreparedWeights(numbers, w.shape, algorithm)


def convolution_forward(
    x, w, b=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1, relu=False, pool=False,
    algorithm=None,
):
    """Convolve x with w, add the bias and, with `relu`, clip at zero.

    Parameters
    ----------
    x : DeviceArray (n, h, w, in)
    w : DeviceArray (kh, kw, in / groups, out), or what `prepare_weights` returned
    b : DeviceArray (out,), optional
    stride, padding, dilation : pairs of ints, (y, x)
    groups : int
        Divides the channels; group g of the outputs sees group g of the inputs.
    pool : bool
        Return the maxima of 2 x 2 pixels, with stride 2 and the size rounded up.
    algorithm : str, optional
        One of `algorithms.NAMES`.

    Returns
    -------
    DeviceArray (n, out_h, out_w, out)

    Raises
    ------
    ValueError
        If shapes don't fit together, the kernel is larger than the padded image, or the algorithm
        cannot compute it.
    """
    check_arrays("convolution", x=(x, 4), b=(b, 1))
    if not isinstance(w, PreparedWeights):
        check_arrays("convolution", w=(w, 4))
    kh, kw, _, outputs = check_weights(x, w, groups)
    check_match("bias", None if b is None else b.shape, (outputs,))
    out_h, out_w = output_size(x.shape[1:3], (kh, kw), stride, padding, dilation)
    y_shape = x.shape[0], out_h, out_w, outputs
    check_size("convolution: the result", y_shape, math.prod(y_shape))
    if not isinstance(w, PreparedWeights):
        w = _prepare(w, y_shape, stride, dilation, groups, algorithm, ready=False)
    tile = algorithms.tile_of(w.algorithm)
    if tile:
        return winograd.forward(x, w.numbers, b, y_shape, tile, kh, padding, relu, pool)
    y = memory.empty(y_shape)
    taps = convolution_taps((kh, kw), tuple(padding), tuple(dilation))
    phases = ((0, len(taps), 0, 0, out_h, out_w),)
    gathered_product.product(x, w.numbers, y, b, phases, taps, tuple(stride), (1, 1), groups,
                             relu=relu, algorithm=w.algorithm)
    if pool:
        y, _ = pooling.max_pooling_forward(y, (2, 2), (2, 2), ceil=True, keep_argmax=False)
    return y


def convolution_backward_input(
    gy, w, input_size, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1, algorithm=None
):
    """The gradient of x, (n, h, w, in), from that of y; `input_size` is x's (h, w)."""
    check_arrays("convolution_backward_input", gy=(gy, 4), w=(w, 4))
    check_gradient(gy, w.shape[3], input_size, w.shape[:2], stride, padding, dilation, groups)
    gx_shape = gy.shape[0], *input_size, w.shape[2] * groups
    check_size("convolution_backward_input: the result", gx_shape, math.prod(gx_shape))
    algorithm = algorithms.choose(
        algorithms.Task(*gx_shape[:3], gy.shape[3], gx_shape[3], w.shape[:2], tuple(stride),
                        tuple(dilation), groups), algorithm=algorithm)
    tile = algorithms.tile_of(algorithm)
    if tile:
        # A convolution of gy with the kernel turned by 180 degrees.
        r, u = w.shape[0], winograd.transform_weights(w, tile, turned=True)
        return winograd.forward(gy, u, None, gx_shape, tile, r, [r - 1 - p for p in padding])
    gx = memory.empty(gx_shape)
    scatter_product(gy, w, gx, stride, padding, dilation, groups, transposed=True,
                    algorithm=algorithm)
    return gx


def convolution_backward_weights(
    x, gy, kernel_size, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1, algorithm=None
):
    """The gradient of w, (kh, kw, in / groups, out), from x and the gradient of y."""
    check_arrays("convolution_backward_weights", x=(x, 4), gy=(gy, 4))
    if gy.shape[0] != x.shape[0] or groups < 1 or x.shape[3] % groups:
        raise ValueError(f"convolution: x {x.shape} and gy {gy.shape} don't fit, groups={groups}")
    check_gradient(
        gy, gy.shape[3], x.shape[1:3], kernel_size, stride, padding, dilation, groups
    )
    gw_shape = *kernel_size, x.shape[3] // groups, gy.shape[3]
    check_size("convolution_backward_weights: the result", gw_shape, math.prod(gw_shape))
    algorithm = algorithms.choose(
        algorithms.Task(*gy.shape[:3], x.shape[3], gy.shape[3], tuple(kernel_size), tuple(stride),
                        tuple(dilation), groups), gradient=True, algorithm=algorithm)
    tile = algorithms.tile_of(algorithm)
    if tile:
        return winograd.weight_gradient(x, gy, tile, kernel_size[0], padding)
    gw = memory.empty(gw_shape)
    taps = convolution_taps(tuple(kernel_size), tuple(padding), tuple(dilation))
    gathered_product.gradient(x, gy, gw, taps, tuple(stride), groups, algorithm=algorithm)
    return gw


def convolution_backward_bias(gy):
    """The gradient of the bias, (out,): gy (n, h, w, out) summed over images and pixels."""
    check_arrays("convolution_backward_bias", gy=(gy, 4))
    return column_sums(gy)


def scatter_product(x, w, y, stride, padding, dilation, groups, transposed,
                    algorithm=algorithms.IM2COL):
    """y[i * stride - padding + k * dilation] += x[i] w[k] over all i and k: convolution's adjoint.

    Written the other way round, each y gathers from the x that reach it, phase by phase.
    """
    phases, taps = scatter_phases(
        y.shape[1:3], w.shape[:2], tuple(stride), tuple(padding), tuple(dilation)
    )
    gathered_product.product(
        x, w, y, None, phases, taps, (1, 1), tuple(stride), groups, transposed,
        algorithm=algorithm
    )
