"""The graph: order, branches, fused ReLUs, memory, threads."""
import threading
import weakref

import numpy as np
import pytest

from tinyfcn.gradient_check import Settings, check_gradients
from tinyfcn.graph import VGG_PREPROCESSING, Graph
from tinyfcn.layers import (
    Add,
    BatchNorm,
    Convolution,
    Crop,
    Dropout,
    Layer,
    MaxPooling,
    ReLU,
    Scale,
    TransposedConvolution,
)


def skip_net(dtype=np.float64, seed=0):
    """A little FCN: its first convolution is read by two branches, its pool by two more."""
    net = Graph("skip")
    net.add("conv1", Convolution(3, 4, 3, padding=1, dtype=dtype))
    net.add("relu1", ReLU())
    net.add("pool1", MaxPooling(2, 2))
    net.add("conv2", Convolution(4, 5, 3, padding=1, dtype=dtype))
    net.add("relu2", ReLU())
    net.add("drop2", Dropout(0.5))
    net.add("score", Convolution(5, 2, 1, dtype=dtype))
    net.add("score_pool1", Convolution(4, 2, 1, dtype=dtype), "pool1")
    net.add("fuse", Add(), "score", "score_pool1")
    net.add("double", Add(), "fuse", "fuse")
    net.add("upscore", TransposedConvolution(2, 4, 2, padding=1, dtype=dtype), size_like="data")
    net.reseed(0)
    rng = np.random.default_rng(seed)
    for w in net.params.values():
        w[...] = rng.standard_normal(w.shape)
    return net


@pytest.fixture
def x():
    return np.random.default_rng(1).standard_normal((2, 5, 7, 3))


class Tracer(Layer):
    """Passes copies on and notes what becomes of them."""

    def __init__(self, name, log):
        super().__init__()
        self.name, self.log = name, log

    def forward(self, *inputs, keep=False):
        self.log.append(self.name)
        if keep:
            self.kept = True
        y = sum(inputs) + 1
        return y

    def backward(self, gy):
        self.take_kept()
        self.log.append(self.name)
        return gy.copy()


def test_nodes_run_in_order_and_backward_in_reverse():
    log, net = [], Graph()
    for name in "abc":
        net.add(name, Tracer(name, log))
    y = net.forward(np.zeros((1, 1, 1, 1)), keep=True)
    assert log == ["a", "b", "c"] and y == 3
    log.clear()
    net.backward(y)
    assert log == ["c", "b", "a"]


def test_add_returns_the_name_and_reads_the_node_before_by_default():
    net = Graph()
    assert net.add("first", ReLU()) == "first"
    net.add("second", ReLU())
    net.add("third", Add(), "data", "first")
    assert [node.inputs for node in net.nodes] == [("data",), ("first",), ("data", "first")]
    assert list(net.layers) == ["first", "second", "third"]


def test_skips_add_their_gradients():
    # y = 2 (3 x) + 5 (3 x): the gradient is 21 by both ways together.
    net = Graph()
    net.add("shared", Scale(3))
    left = net.add("left", Scale(2), "shared")
    right = net.add("right", Scale(5), "shared")
    net.add("sum", Add(), left, right)
    x = np.arange(4.0).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(net.forward(x, keep=True), 21 * x)
    gy = np.array([1.0, -1, 2, 0]).reshape(x.shape)
    np.testing.assert_array_equal(net.backward(gy), 21 * gy)
    np.testing.assert_array_equal(gy.ravel(), [1, -1, 2, 0])


def test_the_data_may_be_read_twice():
    net = Graph()
    net.add("left", Scale(2))
    net.add("sum", Add(), "left", "data")
    x = np.ones((1, 1, 1, 1))
    assert net.forward(x, keep=True) == 3
    assert net.backward(x) == 3


def test_gradients(x):
    rows = check_gradients(skip_net(), x, settings=Settings(seed=1, entries=30))
    assert [row.parameter for row in rows] == [
        "x", "conv1/weights", "conv1/bias", "conv2/weights", "conv2/bias", "score/weights",
        "score/bias", "score_pool1/weights", "score_pool1/bias"]
    assert [row for row in rows if not row.passed] == []


def test_fused_relu_is_the_unfused_one(x):
    for dtype in np.float32, np.float64:
        net, data = skip_net(dtype), x.astype(dtype)
        names = ["relu1", "relu2", "upscore"]
        fused = net.forward(data, outputs=names)
        # Who wants to see what is before a ReLU gets it, so the ReLU runs by itself.
        unfused = net.forward(data, outputs=["conv1", "conv2", *names])
        assert unfused["conv1"].min() < 0
        np.testing.assert_array_equal(np.maximum(unfused["conv1"], 0), unfused["relu1"])
        for name in names:
            np.testing.assert_array_max_ulp(fused[name], unfused[name], maxulp=1)


def test_fusing_runs_no_relu_and_changes_no_gradient(x):
    net = skip_net()
    y = net.forward(x, keep=True)
    gx, expected = net.backward(y), net.grads
    calls = []
    for name in "relu1", "relu2":
        layer = net.layers[name]
        layer.forward = lambda *a, **k: calls.append(a)
    net.reseed(0)
    np.testing.assert_array_equal(net.forward(x, keep=True), y)
    assert calls == []

    plain = skip_net()
    plain.forward(x, keep=True, outputs=["conv1", "conv2"])
    np.testing.assert_array_max_ulp(plain.backward(y), gx, maxulp=4)
    for name, g in plain.grads.items():
        np.testing.assert_allclose(g, expected[name], rtol=1e-12, atol=1e-12)


def test_a_convolution_that_others_read_too_is_not_fused():
    net = Graph()
    net.add("conv", Convolution(1, 1, 1, dtype=np.float64))
    net.add("relu", ReLU())
    net.add("sum", Add(), "conv", "relu")
    net.params["conv/weights"][...] = 1
    x = np.array([-2.0, 3]).reshape(1, 1, 2, 1)
    np.testing.assert_array_equal(net.forward(x).ravel(), [-2, 6])


def test_outputs(x):
    net = skip_net()
    found = net.forward(x, outputs=("pool1", "fuse"))
    assert list(found) == ["pool1", "fuse"]
    assert found["pool1"].shape == (2, 3, 4, 4) and found["fuse"].shape == (2, 3, 4, 2)
    np.testing.assert_array_equal(
        net.forward(x, outputs=["upscore"])["upscore"], net.forward(x))


def test_names(x):
    net = skip_net()
    assert list(net.params) == [
        "conv1/weights", "conv1/bias", "conv2/weights", "conv2/bias", "score/weights",
        "score/bias", "score_pool1/weights", "score_pool1/bias", "upscore/weights"]
    assert net.grads == {}
    net.backward(net.forward(x, keep=True))
    assert list(net.grads) == list(net.params)[:-1]
    assert {name: g.shape for name, g in net.grads.items()} == {
        name: w.shape for name, w in list(net.params.items())[:-1]}
    assert net.fixed == {"upscore/weights"}
    net.add("bn", BatchNorm(2, dtype=np.float64))
    assert net.fixed == {"upscore/weights", "bn/running_mean", "bn/running_var"}


def test_writing_into_params_changes_the_net(x):
    net = skip_net()
    before = net.forward(x)
    net.params["score/bias"] += 1
    assert not np.array_equal(net.forward(x), before)


def test_input_gradient_may_be_left_out(x):
    net = skip_net()
    y = net.forward(x, keep=True)
    net.backward(y)
    expected = net.grads
    net.reseed(0)
    net.forward(x, keep=True)
    assert net.backward(y, input_gradient=False) is None
    for name, g in net.grads.items():
        np.testing.assert_array_equal(g, expected[name])


def test_errors():
    net = skip_net()
    with pytest.raises(ValueError, match="node more reads nothing, which is not before it"):
        net.add("more", ReLU(), "nothing")
    with pytest.raises(ValueError, match="node more reads nothing, which is not before it"):
        net.add("more", Crop(0), "fuse", size_like="nothing")
    with pytest.raises(ValueError, match="there is a node conv1 already"):
        net.add("conv1", ReLU())
    with pytest.raises(ValueError, match="there is a node data already"):
        net.add("data", ReLU())
    with pytest.raises(KeyError, match="the net has no node conv3, nonsense"):
        net.forward(np.zeros((1, 4, 4, 3)), outputs=["conv3", "pool1", "nonsense"])
    assert "more" not in net.layers


def test_backward_needs_a_forward_in_training_mode(x):
    net = skip_net()
    y = net.forward(x)
    with pytest.raises(RuntimeError, match=r"run forward\(x, keep=True\) before it"):
        net.backward(y)
    y = net.forward(x, keep=True)
    net.backward(y)
    with pytest.raises(RuntimeError, match=r"run forward\(x, keep=True\) before it"):
        net.backward(y)


def test_a_node_added_later_runs_too(x):
    net = skip_net()
    before = net.forward(x)
    net.add("minus", Scale(-1))
    np.testing.assert_array_equal(net.forward(x), -before)


def test_two_threads_share_a_net():
    net = skip_net(np.float32)
    rng = np.random.default_rng(3)
    photos = [rng.standard_normal((1, 24 + i, 31, 3), np.float32) for i in range(2)]
    expected = [net.forward(x) for x in photos]
    start, wrong = threading.Barrier(2), []

    def work(i):
        start.wait()
        for _ in range(40):
            if not np.array_equal(net.forward(photos[i]), expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_no_later_call_overwrites_an_output(x):
    net = skip_net()
    held = [net.forward(x), net.forward(x, keep=True)]
    held.append(net.backward(held[1]))
    held += net.grads.values()
    before = [array.copy() for array in held]
    for keep in False, True:
        net.forward(-2 * x, keep=keep)
    net.backward(np.ones_like(held[0]))
    net.forward(-2 * x)
    for array, expected in zip(held, before):
        np.testing.assert_array_equal(array, expected)


def test_inference_frees_what_nothing_reads_any_more():
    alive = {}

    class Watcher(Layer):
        """Passes a copy on and counts the arrays that other watchers made and that still live."""

        def forward(self, *inputs, keep=False):
            assert all(isinstance(x, np.ndarray) for x in inputs)
            counts.append(sum(reference() is not None for reference in alive.values()))
            y = np.array(inputs[0])
            alive[len(alive)] = weakref.ref(y)
            return y

    counts, net = [], Graph()
    for i in range(5):
        net.add(f"chain{i}", Watcher())
    net.add("skip", Watcher(), "chain4", "chain1")
    net.add("end", Watcher())
    net.add("last", Watcher())
    y = net.forward(np.zeros((1, 1, 1, 1)))
    # A step has its own input; from chain1 on that is held for the skip, too, until it was read.
    assert counts == [0, 1, 1, 2, 2, 2, 1, 1]
    assert [reference() for reference in alive.values() if reference() is not None] == [y]


def test_inference_keeps_nothing_and_backward_drops_all(x):
    net = skip_net()
    net.forward(x)
    assert all(layer.kept is None for layer in net.layers.values())
    y = net.forward(x, keep=True)
    assert net.layers["conv1"].kept is not None and net.layers["relu1"].kept is not None
    net.backward(y)
    assert all(layer.kept is None for layer in net.layers.values())


def test_reseed_brings_the_same_dropout_again(x):
    net = skip_net()
    net.reseed(4)
    first, second = net.forward(x, keep=True), net.forward(x, keep=True)
    assert not np.array_equal(first, second)
    net.reseed(4)
    np.testing.assert_array_equal(net.forward(x, keep=True), first)
    np.testing.assert_array_equal(net.forward(x, keep=True), second)
    net.reseed(5)
    assert not np.array_equal(net.forward(x, keep=True), first)


def test_dropout_layers_of_a_net_draw_different_masks():
    net = Graph()
    net.add("a", Dropout(0.5))
    net.add("b", Dropout(0.5))
    ones = np.ones((1, 10, 10, 10))
    for seed in 0, 1, 7:
        net.reseed(seed)
        y = net.forward(ones, keep=True)
        # Were the masks the same, half would be left.
        assert 0.18 < (y > 0).mean() < 0.32


def test_preprocessing_is_vggs_and_each_nets_own():
    a, b = Graph(), Graph("other", {"classes": 3})
    assert a.preprocessing == {"channel_order": "BGR", "scale": 1.0,
                               "mean": [103.939, 116.779, 123.68], "std": [1.0, 1.0, 1.0]}
    a.preprocessing["channel_order"] = "RGB"
    assert b.preprocessing["channel_order"] == VGG_PREPROCESSING["channel_order"] == "BGR"
    assert (a.name, a.arguments, b.name, b.arguments) == ("net", {}, "other", {"classes": 3})
    assert a.class_names is a.colours is a.ignore_label is None


# --- frozen layers ------------------------------------------------------------------------------

def normalized_net():
    """Two convolutions with batch norm, a pool, dropout, and a score layer."""
    net = Graph("blocks")
    for block, channels in ("1", 3), ("2", 4):
        net.add(f"conv{block}_1", Convolution(channels, 4, 3, padding=1, dtype=np.float64))
        net.add(f"bn{block}_1", BatchNorm(4, dtype=np.float64))
        net.add(f"relu{block}_1", ReLU())
        net.add(f"pool{block}", MaxPooling(2, 2))
    net.add("drop", Dropout(0.5))
    net.add("score", Convolution(4, 2, 1, dtype=np.float64))
    rng = np.random.default_rng(2)
    for name, w in net.params.items():
        w[...] = rng.uniform(0.5, 2, w.shape) if "var" in name else rng.standard_normal(w.shape)
    return net


def test_layers_are_found_by_their_names():
    net = normalized_net()
    assert net.matching("conv1_1") == ["conv1_1"]
    assert net.matching("conv2") == ["conv2_1"]
    assert net.matching("*1_1") == ["conv1_1", "bn1_1"]
    assert net.matching("*") == ["conv1_1", "bn1_1", "conv2_1", "bn2_1", "score"]
    for pattern in ("conv", "pool1", "conv3", ""):
        with pytest.raises(ValueError, match=f"^blocks has no layer {pattern}$"):
            net.matching(pattern)


@pytest.mark.parametrize("patterns, still", [
    (["conv1"], 4), (["conv*"], 8), (["conv2_1"], 0), (["score"], 0), (["conv1", "score"], 4)])
def test_frozen_layers_change_no_gradient_of_the_others(x, patterns, still):
    """But those that batch statistics change: there the frozen net normalizes otherwise."""
    net, reference = normalized_net(), normalized_net()
    net.freeze(*patterns)
    frozen = {name for pattern in patterns for name in net.matching(pattern)}
    frozen |= {name.replace("conv", "bn") for name in frozen if "conv" in name}
    for name in frozen:  # the reference normalizes by running averages, as a scale and a shift
        layer = reference.layers[name]
        if isinstance(layer, BatchNorm):
            layer.fixed = frozenset(layer.params)
    for each in (net, reference):
        each.reseed(5)
    before = {name: w.copy() for name, w in net.params.items()}
    y = net.forward(x, keep=True)
    np.testing.assert_array_equal(y, reference.forward(x, keep=True))
    assert len(net._still()) == still
    assert all(net.layers[name].kept is None for name in net._still())
    gy = np.random.default_rng(3).standard_normal(y.shape)
    gx = net.backward(gy)
    assert (gx is None) == (still > 0)
    expected = reference.backward(gy)
    if gx is not None:
        np.testing.assert_array_equal(gx, expected)
    learning = {name for name in net.params if name not in net.fixed}
    assert learning == {name for name in reference.params
                        if name.rpartition("/")[0] not in frozen and "running" not in name}
    for name in learning:
        np.testing.assert_array_equal(net.grads[name], reference.grads[name])
    for name in net.params:
        if name.rpartition("/")[0] in frozen:
            np.testing.assert_array_equal(net.params[name], before[name])
    assert all(layer.kept is None for layer in net.layers.values())


def test_freezing_what_is_not_there_freezes_nothing():
    net = normalized_net()
    fixed = net.fixed
    with pytest.raises(ValueError, match="^blocks has no layer conv7$"):
        net.freeze("conv1", "conv7")
    assert net.fixed == fixed
