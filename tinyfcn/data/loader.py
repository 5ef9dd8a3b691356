"""Batches of random views, made by threads while the net is busy with the ones before."""

import collections
import concurrent.futures
import threading
import time

import numpy as np

from .augmentation import random_view
from .pairs import read_pair


class PairReader:
    """The photos and labels of a data set: kept in memory while they fit, else read each time.

    ``len(reader)`` is the number of pairs and ``reader[i]`` the arrays (photo, labels) of pair i,
    as `pairs.read_pair` gives them, with its errors. Any thread may read.

    Parameters
    ----------
    pairs : sequence of pairs.Pair
    classes : int
    ignore_label : int
    keep_bytes : int
        At most so many bytes of arrays are kept.
    """

    def __init__(self, pairs, classes, ignore_label, keep_bytes=2 << 30):
        self.pairs, self.classes, self.ignore_label = pairs, classes, ignore_label
        self._room, self._kept, self._lock = keep_bytes, {}, threading.Lock()

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        arrays = self._kept.get(index)
        if arrays is None:
            arrays = read_pair(self.pairs[index], self.classes, self.ignore_label)
            size = sum(array.nbytes for array in arrays)
            with self._lock:
                if index not in self._kept and size <= self._room:
                    self._room -= size
                    self._kept[index] = arrays
        return arrays


class Loader:
    """The batches of a training, in the order of its steps.

        with Loader(photos, 4, (288, 384), seed, prepare, ignore_label=255, steps=9000) as loader:
            for x, labels in loader:
                ...

    The batch of a step is a function of the seed and the step alone, whatever the number of
    workers and wherever the run begins. An epoch has ``len(source) // batch`` steps and takes the
    photos in an order of its own; those that fill no batch wait for another epoch.

    The workers are threads: decoding, resizing and arithmetic leave Python to them. Each makes
    a whole batch, and there is always one more under way than there are workers. Leaving the
    block, for whatever reason, waits for the batches under way and drops them.

    Parameters
    ----------
    source : sequence of (photo, labels)
        Arrays (h, w, 3) and (h, w) of uint8: a list, or a `PairReader`.
    batch : int
    crop : (h, w)
    seed : int
    prepare : callable
        prepare(view) -> array (h, w, channels) of float32 that the net takes; called by several
        threads.
    ignore_label : int
        Label of what lies outside a photo.
    workers : int
    first_step : int
        Where to begin; the steps of the whole training count from 0.
    steps : int, optional
        Of the whole training: the last one is steps - 1. Without it there is no end.
    view : dict, optional
        Further arguments of `augmentation.random_view`.

    Attributes
    ----------
    seconds_waited : float
        How long taking batches has waited for the workers so far.

    Raises
    ------
    ValueError
        If the photos do not make a single batch.
    """

    def __init__(self, source, batch, crop, seed, prepare, *, ignore_label, workers=1,
                 first_step=0, steps=None, view=None):
        self.epoch_steps = len(source) // batch
        if not self.epoch_steps:
            raise ValueError(f"{len(source)} photos do not make a batch of {batch}")
        self.source, self.batch, self.crop, self.seed = source, batch, tuple(crop), seed
        self.prepare, self.ignore_label, self.view = prepare, ignore_label, view or {}
        self.workers, self.steps = workers, steps
        self.seconds_waited = 0.0
        self._next_step = first_step
        self._pool, self._upcoming = None, collections.deque()

    def __enter__(self):
        self._pool = concurrent.futures.ThreadPoolExecutor(self.workers, "tinyfcn-loader")
        for _ in range(self.workers + 1):
            self._begin_next()
        return self

    def __exit__(self, *error):
        self._upcoming.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __iter__(self):
        return self

    def __next__(self):
        """The next step's x (batch, h, w, channels) float32 and labels (batch, h, w) uint8.

        Raises what reading a photo or preparing it raises.
        """
        if not self._upcoming:
            raise StopIteration
        asked = time.perf_counter()
        batch = self._upcoming.popleft().result()
        self.seconds_waited += time.perf_counter() - asked
        self._begin_next()
        return batch

    def load(self, step):
        """The batch of any step, made here and now."""
        epoch, index = divmod(step, self.epoch_steps)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.source))
        rng = np.random.default_rng([self.seed, epoch, index])
        xs, labels = [], []
        for i in order[index * self.batch : (index + 1) * self.batch]:
            photo, marks = random_view(*self.source[int(i)], self.crop, rng, self.ignore_label,
                                       **self.view)
            xs.append(self.prepare(photo))
            labels.append(marks)
        return np.stack(xs), np.stack(labels)

    def _begin_next(self):
        if self.steps is None or self._next_step < self.steps:
            self._upcoming.append(self._pool.submit(self.load, self._next_step))
            self._next_step += 1
