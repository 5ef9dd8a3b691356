"""How the learning rate changes from step to step."""

import math

SCHEDULES = ("poly", "cosine", "step", "constant")


def learning_rate(
    step, steps, base, schedule="poly", warm_up=0, power=0.9, gamma=0.1, drop_every=None
):
    """The learning rate of a step: a linear rise, then what the schedule says.

    With progress from 0, after the rise, to 1, where the training ends::

        poly       base * (1 - progress) ** power
        cosine     base * (1 + cos(pi * progress)) / 2
        step       base * gamma ** (step // drop_every)
        constant   base

    The names and formulas of poly and step are those of Caffe's solvers; cosine is that of
    Loshchilov and Hutter 2017 without restarts.

    Parameters
    ----------
    step : int
        From 0.
    steps : int
        Of the whole training; from there on the rates of poly and cosine are 0.
    base : float
        The largest rate, of the steps `warm_up` - 1 and `warm_up`.
    schedule : str
        One of `SCHEDULES`.
    warm_up : int
        Steps of the rise, from base / warm_up.
    power : float
    gamma : float
    drop_every : int, optional
        By default a third of all steps.
    """
    if step < warm_up:
        return base * (step + 1) / warm_up
    progress = min(1, (step - warm_up) / max(1, steps - warm_up))
    if schedule == "poly":
        return base * (1 - progress) ** power
    if schedule == "cosine":
        return base * (1 + math.cos(math.pi * progress)) / 2
    if schedule == "step":
        return base * gamma ** (step // (drop_every or max(1, -(-steps // 3))))
    return base
