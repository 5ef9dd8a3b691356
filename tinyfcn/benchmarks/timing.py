"""Timing in turns, and comparing what was computed first."""

import statistics
import time

from ..arrays import CPU
from ..console import FAILED, CommandError

# Largest differences allowed, as a share of the largest number. Among the millions of ReLUs and
# maxima of a full-sized net rounding decides some, and lets whole terms of a gradient differ.
FORWARD_TOLERANCE, GRADIENT_TOLERANCE = 1e-4, 1e-2
# The same of other precisions than float32: factors of 10 or 7 bits, through all of a net.
TOLERANCES = {"float32": (FORWARD_TOLERANCE, GRADIENT_TOLERANCE), "tf32": (2e-2, 0.2),
              "bf16": (0.1, 0.5)}
# Threads that wait for work in a loop, OpenBLAS's for 0.1 s, would take the cores from the next.
PAUSE_SECONDS = 0.2
# No more turns are begun after so many seconds, once there were enough for a median.
PATIENCE_SECONDS, ENOUGH_TURNS = 20, 3


def in_turns(functions, repeat, device=CPU):
    """Run the functions one after the other, `repeat` times; their seconds, a list for each.

    Each must have run before, to be warm, and wait for all that it began. Where runs take long
    there are fewer turns. On a GPU each turn begins with a run that does not count: in a pause its
    clock would fall.
    """
    seconds = [[] for _ in functions]
    began = time.perf_counter()
    for turn in range(repeat):
        if turn >= ENOUGH_TURNS and time.perf_counter() - began > PATIENCE_SECONDS:
            break
        for function, each in zip(functions, seconds):
            if device == CPU:
                time.sleep(PAUSE_SECONDS)
            else:
                function()
            started = time.perf_counter()
            function()
            each.append(time.perf_counter() - started)
    return seconds


def summary(seconds):
    return {"median": statistics.median(seconds), "min": min(seconds), "max": max(seconds),
            "runs": len(seconds)}


def duel(other, seconds):
    """The figures of `in_turns([ours, theirs])`."""
    ours, theirs = map(summary, seconds)
    return {"against": other, "ours": ours, "other": theirs,
            "ratio": theirs["median"] / ours["median"]}


def judged(duels, ours, repeat, device=CPU):
    """The duels and the one with the lowest ratio; our figures alone if there was none."""
    if not duels:
        ours()
        alone = summary(in_turns([ours], repeat, device)[0])
        return {"against": None, "ours": alone, "other": None, "ratio": None, "duels": []}
    return {**hardest(duels), "duels": duels}


def hardest(duels):
    """The duel with the lowest ratio.

    Not the one with the lowest time: a machine's speed drifts from duel to duel, but both sides of
    one are measured in turns.
    """
    return min(duels, key=lambda each: each["ratio"])


def compare(what, ours, theirs, tolerance):
    """Fail unless both are finite, not all zero, and agree."""
    import numpy as np

    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if ours.shape != theirs.shape:
        raise CommandError(
            f"{what}: shapes differ, {ours.shape} here and {theirs.shape} there", FAILED)
    largest = float(np.abs(theirs).max())
    difference = float(np.abs(ours - theirs).max())
    # Written so that NaN fails too.
    if not (0 < largest < np.inf and difference <= tolerance * largest):
        raise CommandError(
            f"{what}: results differ by {difference:.3g} where the largest is {largest:.3g}; "
            f"allowed is {tolerance:g} of that", FAILED)
