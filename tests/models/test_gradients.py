"""Whole nets' gradients against numerical ones."""
import numpy as np
import pytest

from tinyfcn import gradcheck, models
from tinyfcn.gradient_check import Settings, check_gradients

NETS = ("fcn32s", "fcn16s", "fcn8s", "fcn8s-atonce")


def assert_all_pass(rows, names):
    assert [row for row in rows if not row.passed] == []
    assert sorted(row.parameter for row in rows) == sorted(names)


def parameter_names(name, **options):
    net = models.BY_NAME[name](width=1 / 64, fc_channels=2, upsampling="learned", **options)
    return net.params


@pytest.mark.parametrize("name", NETS)
def test_same_geometry(name):
    rows = list(gradcheck.check_net(name, seed=1, entries=1))
    assert_all_pass(rows, ["x", *parameter_names(name)])
    assert {row.layer for row in rows} == {f"{name} same"}


def test_caffe_geometry():
    rows = list(gradcheck.check_net("fcn8s", 1, "caffe", entries=0, size=(3, 5)))
    assert_all_pass(rows, ["x", *parameter_names("fcn8s")])


def test_batch_norm():
    rows = list(gradcheck.check_net("fcn8s", 1, batch_norm=True, entries=1))
    names = [name for name in parameter_names("fcn8s", batch_norm=True)
             if not name.startswith("conv") or not name.endswith("bias")]
    assert_all_pass(rows, ["x", *(name for name in names if "running" not in name)])


def test_vgg16():
    rows = list(gradcheck.check_net("vgg16", 1, entries=1))
    assert_all_pass(rows, ["x", *models.VGG16(width=1 / 64, fc_channels=2).params])


@pytest.mark.parametrize("name", [
    "lenet", "alexnet", "caffenet", "alexnet-single-tower", "vgg11", "vgg13", "vgg19"])
def test_other_classifiers(name):
    rows = list(gradcheck.check_net(name, 1, entries=1))
    options = {} if name == "lenet" else {"width": 1 / 64, "fc_channels": 2}
    assert_all_pass(rows, ["x", *models.BY_NAME[name](**options).params])


@pytest.mark.parametrize("options", [{}, {"geometry": "caffe", "size": (3, 5)}])
def test_fcn_alexnet(options):
    rows = list(gradcheck.check_net("fcn_alexnet", 1, entries=1, **options))
    assert_all_pass(rows, ["x", *parameter_names("fcn_alexnet")])


def test_fixed_upsampling_is_left_out_of_the_gradients(randomize):
    net = randomize(models.FCN8s(
        classes=2, width=1 / 32, fc_channels=16, dropout=0.2, dtype=np.float64))
    x = np.random.default_rng(0).standard_normal((1, 16, 20, 3))
    rows = check_gradients(net, x, settings=Settings(seed=1, entries=0, threshold=1e-5))
    assert_all_pass(rows, ["x", *(name for name in net.params if "upscore" not in name)])
    net.backward(net.forward(x, keep=True))
    assert not any("upscore" in name for name in net.grads)


def test_score_layers_at_zero_stop_the_trunks_gradients():
    net = models.FCN8s(classes=2, width=1 / 32, fc_channels=4, dtype=np.float64)
    x = np.random.default_rng(0).standard_normal((1, 16, 20, 3))
    rows = check_gradients(net, x, settings=Settings(entries=0))
    problems = {row.parameter: row.problem for row in rows}
    assert "zero everywhere" in problems["conv1_1/weights"]
    assert problems["score_pool3/bias"] == ""
