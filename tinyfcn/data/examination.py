"""Looking through the pairs of a data set before they are used."""

import concurrent.futures
from typing import NamedTuple

import numpy as np

from .errors import DataError
from .images import ImageError


class Examined(NamedTuple):
    """What one pair is like: either has a `fault`, or `size` and `histogram`.

    Attributes
    ----------
    fault : str or None
        A line that says why it can't be used.
    size : (height, width)
    histogram : array (256,) of int
        How many pixels have each label.
    """

    fault: str | None
    size: tuple | None = None
    histogram: np.ndarray | None = None


def examine(source, progress=None, workers=4):
    """Read all pairs and say of each what it is like.

    Parameters
    ----------
    source : loader.PairReader
    progress : callable, optional
        Called with the number of pairs done.
    workers : int
        Threads that read.

    Yields
    ------
    Examined
        In the order of the pairs.
    """
    def look(index):
        try:
            _, labels = source[index]
        except (DataError, ImageError) as error:
            return Examined(str(error))
        return Examined(None, labels.shape, np.bincount(labels.ravel(), minlength=256))

    pool = concurrent.futures.ThreadPoolExecutor(workers, "tinyfcn-examination")
    try:
        for done, examined in enumerate(pool.map(look, range(len(source))), 1):
            yield examined
            if progress:
                progress(done)
    finally:
        pool.shutdown(cancel_futures=True)
