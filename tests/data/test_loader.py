"""Batches made by threads: the same numbers whatever their number, and a clean end."""
import itertools
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from tinyfcn.data import loader
from tinyfcn.data.augmentation import random_view
from tinyfcn.data.folders import find_pairs
from tinyfcn.data.loader import Loader, PairReader
from tinyfcn.data.pairs import Pair
from tinyfcn.data.transforms import preprocess

CROP = (24, 32)
PREPROCESSING = {"channel_order": "RGB", "scale": 1 / 255, "mean": [0.5, 0.4, 0.3],
                 "std": [0.2, 0.25, 0.3]}


def prepare(photo):
    return preprocess(photo, PREPROCESSING)


def photos(count=7, size=(30, 40)):
    rng = np.random.default_rng(8)
    return [(rng.integers(0, 256, (*size, 3), np.uint8), rng.integers(0, 3, size, np.uint8))
            for _ in range(count)]


def make(source=None, **options):
    return Loader(photos() if source is None else source, 2, CROP, 5, prepare,
                  **{"ignore_label": 9, "steps": 10, **options})


def batches(**options):
    with make(**options) as found:
        return list(found)


def same(found, expected):
    return len(found) == len(expected) and all(
        np.array_equal(a, b) and a.dtype == b.dtype
        for pair, other in zip(found, expected) for a, b in zip(pair, other))


def test_batches_are_a_function_of_seed_and_step():
    """Written out once more: a run that was begun before goes on with the same numbers."""
    source, expected = photos(), []
    for step in range(10):
        epoch, index = step // 3, step % 3
        order = np.random.default_rng([5, epoch]).permutation(7)
        rng = np.random.default_rng([5, epoch, index])
        views = [random_view(*source[i], CROP, rng, 9) for i in order[2 * index:2 * index + 2]]
        expected.append((np.stack([prepare(photo) for photo, _ in views]),
                         np.stack([labels for _, labels in views])))
    found = batches()
    assert same(found, expected)
    x, labels = found[0]
    assert x.shape == (2, *CROP, 3) and x.dtype == np.float32 and x.flags.c_contiguous
    assert labels.shape == (2, *CROP) and labels.dtype == np.uint8
    assert not np.array_equal(found[0][0], found[3][0])


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_any_number_of_workers_gives_the_same(workers):
    assert same(batches(workers=workers), batches())


@pytest.mark.parametrize("first_step", [0, 1, 3, 7, 9, 10, 11])
def test_it_goes_on_from_any_step(first_step):
    assert same(batches(first_step=first_step, workers=2), batches()[first_step:])


def test_workers_that_end_in_another_order():
    """The first batch takes longest; it still comes first."""
    class Slow(list):
        def __getitem__(self, index):
            if threading.current_thread().name.endswith("_0"):
                time.sleep(0.02)
            return super().__getitem__(index)

    assert same(batches(source=Slow(photos()), workers=3), batches())


def test_epochs_are_slices_of_it():
    with make(steps=6) as found:
        epochs = [list(itertools.islice(found, found.epoch_steps)) for _ in range(2)]
        assert list(found) == []
    assert same(epochs[0] + epochs[1], batches(steps=6))


def test_without_an_end():
    with make(steps=None, workers=2) as found:
        assert same(list(itertools.islice(found, 10)), batches())


def test_each_photo_once_an_epoch():
    seen = []

    class Watched(list):
        def __getitem__(self, index):
            seen.append(index)
            return super().__getitem__(index)

    batches(source=Watched(photos()), steps=9)
    epochs = [seen[i:i + 6] for i in (0, 6, 12)]
    assert all(len(set(each)) == 6 and set(each) <= set(range(7)) for each in epochs)
    assert len(set(map(tuple, epochs))) == 3


def test_seed_and_view_decide():
    plain = batches()
    with Loader(photos(), 2, CROP, 6, prepare, ignore_label=9, steps=10) as other:
        assert not same(list(other), plain)
    assert not same(batches(view={"scales": (2, 3)}), plain)
    assert same(batches(view={"saturation": 0.5, "hue": 30}, workers=3),
                batches(view={"saturation": 0.5, "hue": 30}))


def test_no_more_than_needed_is_read_ahead():
    seen, go = [], threading.Event()

    class Watched(list):
        def __getitem__(self, index):
            go.wait(20)
            seen.append(index)
            return super().__getitem__(index)

    with make(source=Watched(photos()), steps=None, workers=2) as found:
        go.set()
        next(found)
        deadline = time.monotonic() + 20
        while len(seen) < 8 and time.monotonic() < deadline:
            time.sleep(0.001)
        # The one taken, three more; each of two photos.
        time.sleep(0.05)
        assert len(seen) == 8


def test_waiting_is_measured(monkeypatch):
    clock = iter([10, 13, 20, 24.5])
    with make(steps=2) as found:
        monkeypatch.setattr(loader.time, "perf_counter", lambda: next(clock))
        assert found.seconds_waited == 0
        next(found)
        assert found.seconds_waited == 3
        next(found)
        assert list(found) == [] and found.seconds_waited == 7.5


def test_too_few_photos():
    with pytest.raises(ValueError, match="^1 photos do not make a batch of 2$"):
        make(source=photos(1))


@pytest.mark.parametrize("workers", [1, 3])
def test_what_a_worker_raises_comes_out(tmp_path, workers):
    (tmp_path / "a.png").write_bytes(b"")
    reader = PairReader([Pair("a", tmp_path / "a.png", tmp_path / "a.png")] * 4, 2, 9)
    with pytest.raises(ValueError, match=r"a\.png: the file is empty$"):
        with make(source=reader, workers=workers) as found:
            next(found)
    check_no_threads()


def check_no_threads():
    assert not [each for each in threading.enumerate() if each.name.startswith("tinyfcn-loader")]


class Stop(BaseException):
    """As an interrupt: nothing catches it."""


def test_leaving_ends_the_threads():
    with pytest.raises(Stop):
        with make(steps=None, workers=3) as found:
            next(found)
            raise Stop
    check_no_threads()


INTERRUPTED = """
import sys, time
import numpy as np
from tinyfcn.data.loader import Loader

def prepare(view):
    time.sleep({seconds})
    return view.astype(np.float32)

photos = [(np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), np.uint8))] * 8
try:
    with Loader(photos, 2, (8, 8), 0, prepare, ignore_label=9, workers=3) as loader:
        print("ready", flush=True)
        for x, labels in loader:
            pass
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("seconds", [0, 0.5])
def test_interrupt(seconds):
    """While it waits for a batch, or is given one after the other."""
    running = subprocess.Popen([sys.executable, "-c", INTERRUPTED.format(seconds=seconds)],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout.readline() == "ready\n"
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert (out, err, running.returncode) == ("interrupted\n", "", 0)


# --- reading pairs ------------------------------------------------------------------------------

@pytest.fixture
def read(monkeypatch):
    """The names of the pairs that were read, of 120 bytes each."""
    names = []

    def reading(pair, classes, ignore_label):
        names.append(pair.name)
        return np.zeros((5, 6, 3), np.uint8), np.full((5, 6), classes, np.uint8)

    monkeypatch.setattr(loader, "read_pair", reading)
    return names


def pairs(count):
    return [Pair(str(i), None, None) for i in range(count)]


@pytest.mark.parametrize("keep_bytes, again", [(0, "012"), (119, "012"), (120, "12"),
                                               (359, "2"), (360, ""), (2 << 30, "")])
def test_pairs_are_kept_while_they_fit(read, keep_bytes, again):
    reader = PairReader(pairs(3), 7, 9, keep_bytes)
    assert len(reader) == 3
    first = [reader[i] for i in range(3)]
    assert read == ["0", "1", "2"]
    second = [reader[i] for i in range(3)]
    assert read[3:] == list(again)
    assert first[0][1].max() == 7 and same(second, first)


def test_real_photos_from_memory_and_from_the_disk(test_data):
    found = find_pairs(test_data("camvid"), "train")[:6]
    made = [batches(source=PairReader(found, 11, 11, keep_bytes), steps=4, workers=2)
            for keep_bytes in (0, 2 << 30)]
    assert same(*made)
    labels = np.concatenate([labels for _, labels in made[0]])
    assert labels.max() <= 11 and len(np.unique(labels)) > 4
    assert all(0.5 < x.std() < 3 for x, _ in made[0])


def test_pair_that_cannot_be_read(tmp_path):
    reader = PairReader([Pair("a", tmp_path / "a.png", tmp_path / "a.png")], 2, 9)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"a\.png: No such file or directory$"):
            reader[0]
