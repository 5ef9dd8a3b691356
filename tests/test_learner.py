"""Steps of a net that learns."""
import numpy as np
import pytest

from tinyfcn import models
from tinyfcn.learner import Learner, broken_parameters, first_not_finite
from tinyfcn.recipes import Recipe


def small_net(**options):
    return models.FCN8s(**{"classes": 3, "width": 1 / 32, "fc_channels": 4, "batch_norm": False,
                           "dropout": 0.0, "init": "scratch", "dtype": np.float64, **options})


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return rng.standard_normal((4, 32, 40, 3)), rng.integers(0, 4, (4, 32, 40)).astype(np.uint8)


@pytest.mark.parametrize("loss", ["sum", "mean"])
def test_steps_of_several_batches_follow_their_mean_gradient(batch, loss):
    """Where each batch has as many labelled pixels, that is the gradient of all at once."""
    x, labels = batch
    labels[labels == 3] = 0
    moved = []
    for parts in (1, 4):
        net = small_net()
        recipe = Recipe(loss=loss, momentum=0, decay=0)
        learner = Learner(net, recipe, 9)
        share = 4 if loss == "sum" and parts == 1 else 1   # a mean over batches, a sum over pixels
        batches = [(x[i::parts], labels[i::parts], 0) for i in range(parts)]
        total = learner.step(batches, 0.001 / share)
        moved.append((total / share, net.params))
    assert moved[0][0] == pytest.approx(moved[1][0], rel=1e-10)
    for name, w in moved[0][1].items():
        np.testing.assert_allclose(w, moved[1][1][name], rtol=1e-9, atol=1e-12)


def test_labels_that_are_ignored_and_weights_of_classes(batch):
    x, labels = batch
    losses = []
    for ignore, weights, average in (3, None, "mean"), (3, [1, 1, 1], "sum"), (3, [2, 2, 2], "sum"):
        learner = Learner(small_net(), Recipe(loss=average, momentum=0, decay=0), ignore, weights)
        losses.append(learner.step([(x, labels, 0)], 0.001))
    labelled = (labels != 3).sum()
    assert losses[1] == pytest.approx(losses[0] * labelled) == pytest.approx(losses[2] / 2)


def test_frozen_layers_stay_and_have_no_state(batch):
    net = small_net(batch_norm=True)
    learner = Learner(net, Recipe(optimizer="adamw", freeze=["conv1", "fc7"], average=0.5), 3)
    before = {name: w.copy() for name, w in net.params.items()}
    learner.step([(*batch, 0)], 0.01)
    still = {name for name, w in net.params.items() if np.array_equal(w, before[name])}
    frozen = {"conv1_1", "bn1_1", "conv1_2", "bn1_2", "fc7", "upscore2", "upscore_pool4",
              "upscore8"}
    assert still == {name for name in before if name.rpartition("/")[0] in frozen}
    assert {name.split("/", 1)[1] for name in learner.optimizer.state} == {
        name for name in before if name not in still and "running" not in name}
    assert {name for name in learner.arrays if name.startswith("average/")} == {
        f"average/{name}" for name in before}


def test_the_net_as_it_is_to_be_used(batch):
    net = small_net()
    start = net.params["fc6/weights"].copy()
    learner = Learner(net, Recipe(average=0.9), 3)
    learner.step([(*batch, 0)], 0.01)
    now = net.params["fc6/weights"].copy()
    with learner.averaged() as same:
        assert same is net
        np.testing.assert_allclose(net.params["fc6/weights"], start + 0.9 * (now - start))
    np.testing.assert_array_equal(net.params["fc6/weights"], now)


def test_layers_that_there_are_not():
    for settings in {"freeze": ["conv7"]}, {"layer_rates": {"conv7": 2.0}}:
        with pytest.raises(ValueError, match="^fcn8s has no layer conv7$"):
            Learner(small_net(), Recipe(**settings), 9)


# --- numbers that are not finite ------------------------------------------------------------------

def test_the_layer_that_first_held_it_forward(batch):
    net = small_net()
    net.params["conv4_2/weights"][...] = 1e200
    net.params["conv4_3/weights"][...] = 1e200
    learner = Learner(net, Recipe(), 3)
    message = "^the loss is nan, not finite first in the output of conv4_3$"
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=message):
        learner.step([(*batch, 0)], 0.1)


def test_the_layer_that_first_held_it_backward(batch):
    """An update breaks the layers from the one nearest to the loss on down to the image."""
    net = small_net()
    for name in ("conv1_1/bias", "conv3_2/weights", "conv3_2/bias"):
        net.params[name].flat[0] = np.nan
    assert broken_parameters(net) == ["conv1_1/bias", "conv3_2/weights", "conv3_2/bias"]
    assert first_not_finite(net, batch[0], 0) == "the parameter conv3_2/bias"


def test_running_averages_are_no_cause(batch):
    """The batch that is not finite has spoilt them on its way."""
    net = small_net(batch_norm=True)
    net.params["conv2_1/weights"][...] = 1e308
    learner = Learner(net, Recipe(), 3)
    message = "not finite first in the output of conv2_1$"
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=message):
        learner.step([(*batch, 0)], 0.1)
