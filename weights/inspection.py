"""Looks at tensors: their extremes, what is not finite among them, how far two of them differ.

Everything goes block by block, and mapped memory is given back: a file may be larger than memory.
"""
from typing import NamedTuple

import numpy as np

from tinyfcn.weights.conversion import same_numbers
from tinyfcn.weights.tensors import forget

BLOCK_NUMBERS = 1 << 22


class Statistics(NamedTuple):
    """Of one tensor: the extremes of its finite numbers (None if it has none), and the others."""

    low: float | int | None
    high: float | int | None
    nan: int
    infinite: int


def statistics(array):
    """Compute the `Statistics` of an array."""
    low, high, nan, infinite = [], [], 0, 0
    for block in _blocks(array):
        if block.dtype.kind == "f":
            finite = np.isfinite(block)
            if not finite.all():
                nan += int(np.isnan(block).sum())
                block = block[finite]
                infinite += int(finite.size - finite.sum())
        if block.size:
            low.append(block.min())
            high.append(block.max())
        forget(array)
    return Statistics(min(low).item() if low else None, max(high).item() if high else None,
                      nan, infinite - nan)


def difference(first, second):
    """The largest absolute difference of two arrays of one shape; 0 only if they are equal.

    NaN equals NaN and differs infinitely from any number.
    """
    largest = 0.0
    axis = int(np.argmax(first.shape)) if first.ndim else None
    for a, b in zip(_blocks(first, axis), _blocks(second, axis)):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        with np.errstate(invalid="ignore"):
            apart = np.abs(a - b)
        apart[(a == b) | np.isnan(a) & np.isnan(b)] = 0
        apart[np.isnan(apart)] = np.inf
        if apart.size:
            largest = max(largest, float(apart.max()))
        forget(first)
        forget(second)
    return largest


def _blocks(array, axis=None):
    """Parts of an array along an axis, by default the one whose neighbours lie furthest apart."""
    if array.ndim == 0:
        yield array.reshape(1)
        return
    if axis is None:
        axis = int(np.argmax(array.strides))
    moved = np.moveaxis(array, axis, 0)
    step = max(1, BLOCK_NUMBERS * len(moved) // max(1, array.size))
    for start in range(0, len(moved), step):
        yield moved[start:start + step]


class Comparison(NamedTuple):
    """Of the tensors of two files.

    Attributes
    ----------
    only_first, only_second : list of str
    misshaped : list of (str, tuple, tuple)
    differences : dict of str to float
        The largest absolute difference of each tensor that is in both.
    """

    only_first: list
    only_second: list
    misshaped: list
    differences: dict

    @property
    def same(self):
        return not (self.only_first or self.only_second or self.misshaped
                    or any(self.differences.values()))


def compare(first, second, flipped=None):
    """Compare two mappings of names to arrays; dense layers may be convolutions in one of them.

    Parameters
    ----------
    first, second : mapping of str to ndarray
    flipped : str, optional
        The name of convolution weights whose input channels the second has the other way round.

    Returns
    -------
    Comparison
    """
    misshaped, differences = [], {}
    for name in first:
        if name not in second:
            continue
        a, b = first[name], second[name]
        if not same_numbers(name, a.shape, b.shape):
            misshaped.append((name, a.shape, b.shape))
            continue
        b = b.reshape(a.shape)
        differences[name] = difference(a, b[:, :, ::-1] if name == flipped else b)
    return Comparison([name for name in first if name not in second],
                      [name for name in second if name not in first], misshaped, differences)
