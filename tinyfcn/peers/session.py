"""What the peers' conversions share."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Session(NamedTuple):
    """A net loaded by a peer, its input in place.

    Attributes
    ----------
    run : callable
        Runs the net and returns its output as the peer has it.
    scores : callable
        Such an output as an array of ours, channels last.
    """

    run: Callable
    scores: Callable


def channels_first(x):
    """An array (n, h, w, c) copied as (n, c, h, w)."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))


def channels_last(y):
    """An array (n, c, ...) copied as (n, ..., c)."""
    return np.array(np.moveaxis(y, 1, -1), order="C")
