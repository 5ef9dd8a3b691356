"""Convolution by Winograd's minimal filtering: fewer multiplications, the same but for rounding.

Tiles of m x m outputs (`winograd_matrices` has the equations, `cpu/winograd.py` how it is used)::

    Y = A^T [ sum over c of  U[c] * V[c] ] A        V = B^T d B,  U = G w G^T

V (tile, tap, c) and U (c, tap, output) are written to memory. What follows is a matrix product for
each of the (m + r - 1)^2 taps, together a convolution of 1 x 1 with as many groups: a product of
`gathered_product`. The weights' gradient, G^T [ sum over tiles of V (A gY A^T) ] G, has another.

Tiles are done some at a time, so that what lies between takes bounded memory.
"""

from ..taps import convolution_taps
from . import gathered_product, launch, memory
from .elementwise import add
from .padding import Padded
from .winograd_transforms import THREADS, transforms

POINT = convolution_taps((1, 1), (0, 0), (1, 1))


def transform_weights(w, m, turned=False):
    """U for `forward`, from w (r, r, in, out).

    With `turned`, of the convolution that is the input's gradient: the kernel turned by 180
    degrees, from out to in.
    """
    r, _, inputs, outputs = w.shape
    rows, columns = (outputs, inputs) if turned else (inputs, outputs)
    rows, columns = _filled(rows), _filled(columns)
    u = memory.empty((rows, (m + r - 1) ** 2, columns))
    _each(transforms(m, r).weights, rows * columns, w, u, rows * columns, columns, inputs, outputs,
          turned)
    return Padded(u, rows, columns)


def forward(x, u, bias, y_shape, m, r, padding, relu=False, pool=False):
    """The convolution, (n, out_h, out_w, out).

    Parameters
    ----------
    x : DeviceArray (n, h, w, in)
    u : Padded
        From `transform_weights`.
    bias : DeviceArray (out,) or None
    y_shape : tuple
    padding : (y, x)
    pool : bool
        Return y's maxima over 2 x 2 pixels; m must be even.
    """
    y = memory.empty((y_shape[0], -(-y_shape[1] // 2), -(-y_shape[2] // 2), y_shape[3]) if pool
                     else y_shape)
    if y.size == 0:
        return y
    taps, outputs = (m + r - 1) ** 2, y_shape[3]
    tiles = -(-y_shape[1] // m), -(-y_shape[2] // m)
    for first, count in _some_tiles(y_shape[0], tiles, taps, x.shape[3], outputs):
        v = _gather(transforms(m, r).input, x, tiles, first, count, taps, padding)
        products = memory.empty((1, 1, count, taps * outputs))
        gathered_product.product(v, u, products, None, ((0, 1, 0, 0, 1, count),), POINT, (1, 1),
                                 (1, 1), groups=taps)
        _each(transforms(m, r).output, count * outputs, products, bias, y, count * outputs, first,
              *tiles, *y_shape[1:3], outputs, bias is not None, relu, pool)
    return y


def weight_gradient(x, gy, m, r, padding):
    """The gradient of w (r, r, in, out), from x and that of y."""
    inputs, outputs = x.shape[3], gy.shape[3]
    if gy.size == 0:
        return memory.zeros((r, r, inputs, outputs))
    gw, taps = memory.empty((r, r, inputs, outputs)), (m + r - 1) ** 2
    tiles = -(-gy.shape[1] // m), -(-gy.shape[2] // m)
    total = None
    for first, count in _some_tiles(gy.shape[0], tiles, taps, inputs, outputs):
        v = _gather(transforms(m, r).input, x, tiles, first, count, taps, padding)
        g = _gather(transforms(m, r).output_gradient, gy, tiles, first, count, taps, (0, 0))
        gu = memory.empty((1, 1, inputs, taps * outputs))
        gathered_product.gradient(v, g, gu, POINT, (1, 1), groups=taps)
        total = gu if total is None else add(total, gu)
    size = inputs * outputs
    _each(transforms(m, r).weights_gradient, size, total, gw, size, outputs)
    return gw


def _gather(kernel, x, tiles, first, count, taps, padding):
    """The transformed squares of x (1, 1, tile, tap * channel), channels filled up with zeros."""
    channels = _filled(x.shape[3])
    v = memory.empty((1, 1, count, taps * channels))
    _each(kernel, count * channels, x, v, count * channels, first, *tiles, *x.shape[1:], channels,
          *padding)
    return v


def _some_tiles(images, tiles, taps, inputs, outputs):
    """(first, count) of tiles for which there is room at a time."""
    total = images * tiles[0] * tiles[1]
    room = max(1, launch.WORKSPACE_BYTES // (4 * taps * (_filled(inputs) + _filled(outputs))))
    count = -(-total // -(-total // room))
    return [(first, min(count, total - first)) for first in range(0, total, count)]


def _filled(channels):
    return -(-channels // 4) * 4


def _each(kernel, size, *arguments):
    kernel.launch(-(-size // THREADS), *arguments)
