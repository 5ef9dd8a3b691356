"""Training in stages: FCN-32s, from it FCN-16s, and from that FCN-8s.

Each stage begins with the best net of the one before; what it has and that had not, the scores of
another pool, begins at zero, so that its first scores are those of the stage before, upsampled in
finer steps. (Long, Shelhamer and Darrell 2015, section 4.2.)
"""

import dataclasses
import os

from .runs import BEST

STAGES = ("fcn32s", "fcn16s", "fcn8s")

# Of the first stage's rate, where no rates are given. A net trained for weeks on ImageNet was
# refined at a hundredth each time; one trained from scratch has further to go.
FACTORS = (1.0, 0.3, 0.1)


def stages(model, rate, epochs, rates=None, stage_epochs=None):
    """The stages up to a model, each a dict of its model, rate and epochs.

    Parameters
    ----------
    model : str
        One of `STAGES`.
    rate : float
        Of the first stage; those of the others by `FACTORS`.
    epochs : int
        Of each stage.
    rates, stage_epochs : sequences, optional
        A rate and a number of epochs for each stage, instead.

    Raises
    ------
    ValueError
        If the model is none of them, or the sequences are not as long as there are stages.
    """
    if model not in STAGES:
        raise ValueError(f"the stages lead to {', '.join(STAGES)}, not to {model}")
    models = STAGES[: STAGES.index(model) + 1]
    rates = [rate * factor for factor in FACTORS[: len(models)]] if rates is None else rates
    stage_epochs = [epochs] * len(models) if stage_epochs is None else stage_epochs
    for what, values in ("rates", rates), ("epochs", stage_epochs):
        if len(values) != len(models):
            raise ValueError(f"{len(values)} {what} for the {len(models)} stages up to {model}")
    return [{"model": model, "rate": rate, "epochs": epochs}
            for model, rate, epochs in zip(models, rates, stage_epochs)]


def runs_of(config, folder):
    """The runs that a config asks for, in their order: (config, folder) of each.

    Parameters
    ----------
    config : dict
        As `runs.read_config` returns it.
    folder : str
        Its folder. Without stages it is that of the only run, else each stage has a folder in it
        that bears its model's name.
    """
    if not config["stages"]:
        return [(config, folder)]
    runs, init = [], config["init"]
    for stage in config["stages"]:
        recipe = dataclasses.replace(config["recipe"], rate=stage["rate"], epochs=stage["epochs"])
        inner = os.path.join(folder, stage["model"])
        runs.append((
            {**config, "model": stage["model"], "init": init, "recipe": recipe, "stages": []},
            inner,
        ))
        init = os.path.abspath(os.path.join(inner, BEST))
    return runs
