"""What the products' kernels share: which results a block computes, and where its numbers lie.

A row of `gathered_product.product` is a pixel of a phase's grid, one of its `gradient` a channel of
a tap; a block computes some rows and columns, and of the depth its share.
"""

from numba.cuda.types import int32, uint32

from .compilation import inline
from .indexing import quotient, remainder
from .target import store4

OUTSIDE = -(1 << 30)  # no tap leads from there into an image


@inline
def block_place(x, y, column_tiles, parts, rows, columns):
    """Group and part of block (x, y), and the first row and column of its tile."""
    return (quotient(y, parts), remainder(y, parts), int32(quotient(x, column_tiles) * rows),
            int32(remainder(x, column_tiles) * columns))


@inline
def read_phase(phases, phase):
    """(first_tap, last_tap, origin_y, origin_x, grid_h, grid_w) of a phase."""
    at = int32(6 * phase)
    return (phases[at], phases[at + 1], phases[at + 2], phases[at + 3], phases[at + 4],
            phases[at + 5])


@inline
def read_tap(taps, tap, last_tap):
    """(offset_y, offset_x, index) of a tap, zeros from the last one on."""
    if tap < last_tap:
        return taps[3 * tap], taps[3 * tap + 1], taps[3 * tap + 2]
    return int32(0), int32(0), int32(0)


@inline
def share(depth, at_once, parts, part):
    """The first step of a block's share of the depth, of so many numbers each, and the end."""
    steps = quotient(depth + at_once - 1, at_once)
    each = quotient(steps + parts - 1, parts)
    first = int32(part * each)
    return first, int32(min(steps, first + each))


@inline
def source_pixel(row, grid_h, grid_w, step_y, step_x, x_h, x_w):
    """Row and column in the image, and number of all, of the pixel that a row's taps start from."""
    image, q = quotient(row, grid_h * grid_w), remainder(row, grid_h * grid_w)
    y, x = int32(quotient(q, grid_w) * step_y), int32(remainder(q, grid_w) * step_x)
    return y, x, int32((image * x_h + y) * x_w + x)


@inline
def is_inside(y, x, x_h, x_w):
    """Whether a pixel is in the image."""
    return uint32(y) < uint32(x_h) and uint32(x) < uint32(x_w)  # negative ones are large then


@inline
def product_place(row, grid, image):
    """Where a thread's results of a row of `product`, a pixel of a phase's grid, go; or -1."""
    count, grid_h, grid_w, origin_y, origin_x, step_y, step_x = grid
    y_h, y_w, y_stride, first = image
    if row >= count:
        return int32(-1)
    n, q = quotient(row, grid_h * grid_w), remainder(row, grid_h * grid_w)
    y = int32(origin_y + quotient(q, grid_w) * step_y)
    x = int32(origin_x + remainder(q, grid_w) * step_x)
    return int32(((n * y_h + y) * y_w + x) * y_stride + first)


@inline
def gradient_place(row, taps, matrix):
    """The same of `gradient`, for a channel of a tap."""
    tap_count, depth, channels, gw_stride, first = matrix
    tap, channel = quotient(row, depth), remainder(row, depth)
    if tap < tap_count and channel < channels:
        return int32((taps[3 * tap + 2] * channels + channel) * gw_stride + first)
    return int32(-1)


@inline
def put_quad(y, at, column, outputs, whole_quads, x0, x1, x2, x3):
    """Store those of four neighbours in a row that are in the matrix of results."""
    if whole_quads:
        if column < outputs:
            store4(y, at, x0, x1, x2, x3)
    else:
        if column < outputs:
            y[at] = x0
        if column + 1 < outputs:
            y[at + 1] = x1
        if column + 2 < outputs:
            y[at + 2] = x2
        if column + 3 < outputs:
            y[at + 3] = x3


@inline
def wrapped(tap, channel, depth):
    """The same place in the depth, if that lies in the tap or the one after it."""
    if channel >= depth:
        return int32(tap + 1), int32(channel - depth)
    return int32(tap), int32(channel)
