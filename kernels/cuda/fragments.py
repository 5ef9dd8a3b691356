"""How a lane reads, multiplies and stores its share of a tile on tensor cores.

Which row or column and which place in the depth a lane's numbers are of is free, as long as both
factors agree about the depth. So a lane has neighbours: four of the depth, of lines (rows of the
left factor, columns of the right) that are neighbours by fours; it reads and stores by 128 bits
then. Lanes that read at once must meet all banks of shared memory: `along_place` and `across_place`
see to that.
"""

from numba.cuda.types import int32

from . import algorithms
from .compilation import inline
from .target import (
    copy4_async,
    load4,
    multiply_bf16,
    multiply_tf32,
    to_bf16_pair,
    to_tf32,
)
from .tiles import put_quad

DEPTH = 16  # of a part in shared memory
PARTS = 3  # there at a time
NOWHERE = -1  # in place of where a number is: there is none, zeros are meant


# ---- where a factor's part lies in shared memory


@inline
def part_after(place, count):
    """The place of the part that comes so many after another; the first follows the last."""
    place = int32(place + count)
    return int32(place - PARTS) if place >= PARTS else place


@inline
def along_place(line, k):
    """Depth by depth: the line's 16 numbers, after lines in the order 0 4 1 5 2 6 3 7."""
    return int32(((line & -8) + 2 * (line & 3) + (line >> 2 & 1)) * DEPTH + k)


@inline
def across_place(line, k, width):
    """Line by line: all of a place in the depth, in quads whose order changes every four places."""
    return int32(k * width + ((line >> 2 ^ 2 * (k >> 2)) << 2))


@inline
def copy_quad(part, to, source, at):
    """Begin part[to:to+4] = source[at:at+4], or zeros if that is nowhere."""
    copy4_async(part, to, source, max(int32(at), int32(0)), int32(16) if at >= 0 else int32(0))


# ---- how a lane reads lines, four numbers of the depth each, and rounds them to operands


@inline
def read_along_tf32(operands, part, at, step, count):
    for e in range(count):
        x0, x1, x2, x3 = load4(part, at + e * step)
        operands[e, 0], operands[e, 1] = to_tf32(x0), to_tf32(x1)
        operands[e, 2], operands[e, 3] = to_tf32(x2), to_tf32(x3)


@inline
def read_across_tf32(operands, part, at, step, count):
    for k in range(4):
        x0, x1, x2, x3 = load4(part, at + k * step)
        operands[0, k], operands[1, k] = to_tf32(x0), to_tf32(x1)
        operands[2, k], operands[3, k] = to_tf32(x2), to_tf32(x3)


@inline
def read_along_bf16(operands, part, at, step, count):
    for e in range(count):
        x0, x1, x2, x3 = load4(part, at + e * step)
        operands[e, 0], operands[e, 1] = to_bf16_pair(x0, x1), to_bf16_pair(x2, x3)


@inline
def read_across_bf16(operands, part, at, step, count):
    for k in range(2):
        x0, x1, x2, x3 = load4(part, at + 2 * k * step)
        y0, y1, y2, y3 = load4(part, at + (2 * k + 1) * step)
        operands[0, k], operands[1, k] = to_bf16_pair(x0, y0), to_bf16_pair(x1, y1)
        operands[2, k], operands[3, k] = to_bf16_pair(x2, y2), to_bf16_pair(x3, y3)


# ---- how the operands of two rows and four columns of each lane are multiplied


@inline
def multiply_rows_tf32(sums, i, left, e, right):
    """sums[i] += rows e and e + 1 of the left factor times the right, along a part."""
    for k in range(0, 4, 2):
        for j in range(4):
            sums[i, j, 0], sums[i, j, 1], sums[i, j, 2], sums[i, j, 3] = multiply_tf32(
                left[e, k], left[e + 1, k], left[e, k + 1], left[e + 1, k + 1],
                right[j, k], right[j, k + 1],
                sums[i, j, 0], sums[i, j, 1], sums[i, j, 2], sums[i, j, 3])


@inline
def multiply_rows_bf16(sums, i, left, e, right):
    for j in range(4):
        sums[i, j, 0], sums[i, j, 1], sums[i, j, 2], sums[i, j, 3] = multiply_bf16(
            left[e, 0], left[e + 1, 0], left[e, 1], left[e + 1, 1], right[j, 0], right[j, 1],
            sums[i, j, 0], sums[i, j, 1], sums[i, j, 2], sums[i, j, 3])


# And into how many operands four numbers of the depth go.
MULTIPLY = {algorithms.TF32: (read_along_tf32, read_across_tf32, multiply_rows_tf32, 4),
            algorithms.BF16: (read_along_bf16, read_across_bf16, multiply_rows_bf16, 2)}


# ---- where the results go


@inline
def result_row(lane, line):
    """The row of a warp's tile that is line 0 to 7 of a lane."""
    return int32((line >> 2) * 32 + (lane >> 2) * 4 + (line & 3))


@inline
def put_rows(y, rows_at, i, column, outputs, whole_quads, sums):
    """Store two rows of a lane's results at rows_at, unless that is negative."""
    at = rows_at[2 * i]
    if at >= 0:
        put_quad(y, at, column, outputs, whole_quads,
                 sums[i, 0, 0], sums[i, 1, 0], sums[i, 2, 0], sums[i, 3, 0])
        put_quad(y, at + 4, column + 4, outputs, whole_quads,
                 sums[i, 0, 1], sums[i, 1, 1], sums[i, 2, 1], sums[i, 3, 1])
    at = rows_at[2 * i + 1]
    if at >= 0:
        put_quad(y, at, column, outputs, whole_quads,
                 sums[i, 0, 2], sums[i, 1, 2], sums[i, 2, 2], sums[i, 3, 2])
        put_quad(y, at + 4, column + 4, outputs, whole_quads,
                 sums[i, 0, 3], sums[i, 1, 3], sums[i, 2, 3], sums[i, 3, 3])


@inline
def put_tile(y, rows_at, column, outputs, whole_quads, sums):
    """Store a lane's results. Written out: an index that is no constant moves sums to memory."""
    put_rows(y, rows_at, 0, column, outputs, whole_quads, sums)
    put_rows(y, rows_at, 1, column, outputs, whole_quads, sums)
    put_rows(y, rows_at, 2, column, outputs, whole_quads, sums)
    put_rows(y, rows_at, 3, column, outputs, whole_quads, sums)
