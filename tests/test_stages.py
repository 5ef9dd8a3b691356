"""Stages: what they are, and that each begins where the one before ended."""
import numpy as np
import pytest

from tinyfcn import loading, models, stages
from tinyfcn.recipes import Recipe


def test_stages_up_to_a_model():
    found = stages.stages("fcn8s", 1.0, 7)
    assert [each["model"] for each in found] == ["fcn32s", "fcn16s", "fcn8s"]
    assert [each["epochs"] for each in found] == [7, 7, 7]
    assert [each["rate"] for each in found] == [1, 0.3, 0.1]
    assert stages.stages("fcn16s", 1.0, 7, [3, 2], [5, 4]) == [
        {"model": "fcn32s", "rate": 3, "epochs": 5}, {"model": "fcn16s", "rate": 2, "epochs": 4}]


@pytest.mark.parametrize("arguments, message", [
    (("fcn8s-atonce", 1, 1), "the stages lead to fcn32s, fcn16s, fcn8s, not to fcn8s-atonce"),
    (("fcn8s", 1, 1, [1]), "1 rates for the 3 stages up to fcn8s"),
    (("fcn16s", 1, 1, None, [1, 2, 3]), "3 epochs for the 2 stages up to fcn16s"),
])
def test_stages_that_there_are_not(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        stages.stages(*arguments)


def test_runs_of_a_config(tmp_path):
    recipe = Recipe(rate=10.0, epochs=2, momentum=0.5)
    config = {"model": "fcn16s", "init": "first.h5", "recipe": recipe, "stages": []}
    assert stages.runs_of(config, "run") == [(config, "run")]
    config["stages"] = stages.stages("fcn16s", 10.0, 2, stage_epochs=[2, 5])
    (first, folder), (second, inner) = stages.runs_of(config, str(tmp_path))
    assert (folder, inner) == (str(tmp_path / "fcn32s"), str(tmp_path / "fcn16s"))
    assert first == {"model": "fcn32s", "init": "first.h5", "recipe": recipe, "stages": []}
    assert second == {"model": "fcn16s", "init": str(tmp_path / "fcn32s/best.h5"), "stages": [],
                      "recipe": Recipe(rate=3.0, epochs=5, momentum=0.5)}


@pytest.mark.parametrize("before, after", [("fcn32s", "fcn16s"), ("fcn16s", "fcn8s")])
def test_a_stage_begins_with_the_scores_of_the_one_before(tmp_path, before, after):
    """Its own scores begin at zero; the others are upsampled in two steps instead of one."""
    options = {"classes": 3, "width": 1 / 32, "fc_channels": 6, "batch_norm": True}
    coarse = models.BY_NAME[before](**options, init="scratch", seed=1)
    loading.save_model(coarse, tmp_path / "coarse.h5")
    fine = models.BY_NAME[after](**options, init="classifier", seed=2)
    loading.load_weights(fine, tmp_path / "coarse.h5", start=True)
    for name, array in fine.params.items():
        if name in coarse.params:
            np.testing.assert_array_equal(array, coarse.params[name])
        elif name.startswith("score"):
            assert not array.any()
    # A constant score is the same however it is upsampled, away from the border.
    for net in (coarse, fine):
        for name in net.params:
            if name.startswith("score"):
                net.params[name][...] = 0
        net.params["score_fr/bias"][...] = [1, 2, -3]
    x = np.random.default_rng(0).standard_normal((1, 96, 128, 3)).astype(np.float32)
    for net in (coarse, fine):
        np.testing.assert_allclose(net.forward(x)[0, 40:-40, 40:-40] - [1, 2, -3], 0, atol=1e-5)
