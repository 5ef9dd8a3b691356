"""Recipes, plans, and the settings of the paper."""
import pytest

from tinyfcn import models, recipes
from tinyfcn.recipes import PRESETS, Recipe, plan


@pytest.mark.parametrize("settings, message", [
    ({"epochs": 0}, "epochs cannot be 0"),
    ({"epochs": 1.5}, "epochs cannot be 1.5"),
    ({"batch": 0}, "batch cannot be 0"),
    ({"batch": True}, "batch cannot be True"),
    ({"crop": (0, 5)}, r"crop cannot be \(0, 5\)"),
    ({"crop": [5]}, r"crop cannot be \[5\]"),
    ({"crop": 5}, "crop cannot be 5"),
    ({"rate": 0}, "rate cannot be 0"),
    ({"rate": float("nan")}, "rate cannot be nan"),
    ({"rate": float("inf")}, "rate cannot be inf"),
    ({"rate": "1"}, "rate cannot be '1'"),
    ({"warm_up": -1}, "warm_up cannot be -1"),
    ({"momentum": 1}, "momentum cannot be 1"),
    ({"momentum": -0.1}, "momentum cannot be -0.1"),
    ({"decay": -1e-9}, "decay cannot be -1e-09"),
    ({"balance": 1}, "balance cannot be 1"),
    ({"seed": -1}, "seed cannot be -1"),
    ({"iterations": 0}, "iterations cannot be 0"),
    ({"accumulate": 0}, "accumulate cannot be 0"),
    ({"loss": "median"}, "loss cannot be 'median'"),
    ({"optimizer": "lion"}, "optimizer cannot be 'lion'"),
    ({"average": 1}, "average cannot be 1"),
    ({"schedule": "steps"}, "schedule cannot be 'steps'"),
    ({"power": -1}, "power cannot be -1"),
    ({"gamma": "x"}, "gamma cannot be 'x'"),
    ({"drop_every": 0}, "drop_every cannot be 0"),
    ({"nesterov": None}, "nesterov cannot be None"),
    ({"bias_rate": -2}, "bias_rate cannot be -2"),
    ({"layer_rates": {"fc6": -1}}, "layer_rates cannot be {'fc6': -1}"),
    ({"layer_rates": []}, r"layer_rates cannot be \[\]"),
    ({"freeze": "conv1"}, "freeze cannot be 'conv1'"),
    ({"freeze": [1]}, r"freeze cannot be \[1\]"),
    ({"class_weights": []}, r"class_weights cannot be \[\]"),
    ({"class_weights": [1, -1]}, r"class_weights cannot be \[1, -1\]"),
    ({"class_weights": "mean"}, "class_weights cannot be 'mean'"),
    ({"early_stop": -1}, "early_stop cannot be -1"),
    ({"balance": True, "class_weights": "median"},
     "balance and class_weights both weigh the classes: choose one"),
])
def test_recipe_that_makes_no_sense(settings, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Recipe(**settings)


@pytest.mark.parametrize("photos, settings, expected", [
    (10, {"epochs": 3, "batch": 4}, [[(0,), (1,)], [(2,), (3,)], [(4,), (5,)]]),
    (5, {"epochs": 2, "batch": 1, "accumulate": 2},
     [[(0, 1), (2, 3), (4,)], [(5, 6), (7, 8), (9,)]]),
    (3, {"iterations": 5, "batch": 1}, [[(0,), (1,), (2,)], [(3,), (4,)]]),
    (2, {"iterations": 1, "batch": 1, "accumulate": 20}, [[(0, 1)]]),
    (4, {"epochs": 1, "batch": 4}, [[(0,)]]),
])
def test_plan(photos, settings, expected):
    """Which batches make each step of each epoch."""
    found = plan(photos, Recipe(**settings))
    assert (found.epochs, found.steps) == (len(expected), sum(map(len, expected)))
    step = 0
    for epoch, steps in enumerate(expected):
        assert found.epoch_end(epoch) == step + len(steps)
        for batches in steps:
            assert tuple(found.batches(step)) == batches
            step += 1


def test_too_few_photos():
    with pytest.raises(ValueError, match="^3 photos do not make a batch of 4$"):
        plan(3, Recipe(batch=4))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_of_nets_and_recipes(name):
    settings = dict(PRESETS[name])
    fields = {field for field in settings if field in vars(Recipe())}
    recipe = Recipe(**{field: settings.pop(field) for field in fields})
    assert (recipe.batch, recipe.crop, recipe.decay, recipe.bias_rate) == (1, None, 5e-4, 2)
    model = settings.pop("model")
    assert settings.pop("width") == 1 and settings.pop("fc_channels") == 4096
    settings.pop("staged", None), settings.pop("stage_rates", None)
    net = models.BY_NAME[model](**settings, width=1 / 64, fc_channels=1, init=None)
    assert net.arguments["geometry"] == "caffe"


@pytest.mark.parametrize("name, rate, momentum, iterations, accumulate, loss", [
    ("voc-fcn32s", 1e-10, 0.99, 100_000, 1, "sum"),
    ("voc-fcn16s", 1e-12, 0.99, 100_000, 1, "sum"),
    ("voc-fcn8s", 1e-14, 0.99, 100_000, 1, "sum"),
    ("voc-fcn8s-atonce", 1e-10, 0.99, 300_000, 1, "sum"),
    ("voc-fcn-alexnet", 1e-4, 0.9, 100_000, 20, "mean"),
    ("cvpr-fcn32s", 1e-4, 0.9, None, 20, "mean"),
])
def test_presets_against_the_papers_settings(name, rate, momentum, iterations, accumulate, loss):
    settings = {"iterations": None, "accumulate": 1, **PRESETS[name]}
    assert [settings[key] for key in ("rate", "momentum", "iterations", "accumulate", "loss")] == [
        rate, momentum, iterations, accumulate, loss]
    assert settings["schedule"] == "constant" and settings["warm_up"] == 0
    assert recipes.PRESETS["voc-staged"]["stage_rates"] == [1e-10, 1e-12, 1e-14]
