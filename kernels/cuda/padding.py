"""Channels filled up with zeros to a multiple of 4, so that each pixel's begin on 16 bytes."""

from typing import NamedTuple

from numba import cuda
from numba.cuda.types import float32, int32

from . import launch, memory
from .compilation import FLOATS, INT, kernel
from .indexing import quotient, remainder
from .memory import DeviceArray


class Padded(NamedTuple):
    """Weights as `gathered_product` reads them: (taps, rows, groups, columns)."""

    numbers: DeviceArray
    rows: int
    columns: int


@kernel(FLOATS, FLOATS, *(INT,) * 6)
def _pad(source, target, size, rows_there, rows, groups, columns_there, columns):
    i = int32(cuda.grid(1))
    if i < size:
        column, rest = remainder(i, columns), quotient(i, columns)
        group, rest = remainder(rest, groups), quotient(rest, groups)
        row, tap = remainder(rest, rows), quotient(rest, rows)
        number = float32(0)
        if row < rows_there and column < columns_there:
            at = ((tap * rows_there + row) * groups + group) * columns_there + column
            number = source[at]
        target[i] = number


def padded(x, groups):
    """x (n, h, w, c) with each group's channels filled up, and how many these are then."""
    there = x.shape[3] // groups
    columns = -(-there // 4) * 4
    if columns == there:
        return x, columns
    result = memory.empty((*x.shape[:3], groups * columns))
    if result.size:
        _pad.launch(launch.blocks_for(result.size), x, result, result.size, 1, 1, groups, there,
                    columns)
    return result, columns


def pad_weights(w, groups, transposed=False):
    """w (kh, kw, in / groups, out) as `Padded`; with `transposed`, rows are results and stay."""
    kh, kw, rows_there, outputs = w.shape
    there = outputs // groups
    columns = -(-there // 4) * 4
    rows = rows_there if transposed else -(-rows_there // 4) * 4
    if (rows, columns) == (rows_there, there):
        return Padded(w, rows, columns)
    result = memory.empty((kh, kw, rows, groups * columns))
    if result.size:
        _pad.launch(launch.blocks_for(result.size), w, result, result.size, rows_there, rows,
                    groups, there, columns)
    return Padded(result, rows, columns)
