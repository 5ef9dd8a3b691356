"""Every size inside the nets, against figures worked out by hand."""
import numpy as np
import pytest

from tinyfcn import models

TINY = {"classes": 2, "width": 1 / 64, "fc_channels": 2, "init": "scratch"}

# Along one axis, geometry "caffe", from the authors' prototxt. Pad 100 before a 3x3 convolution
# makes n + 198 of n; a pool halves and rounds up; fc6's 7x7 without padding takes 6 away:
# conv1_1, pool1 ... pool5, fc6 = fc7 = score_fr.
TRUNK = {
    1: (199, 100, 50, 25, 13, 7, 1),
    33: (231, 116, 58, 29, 15, 8, 2),
    97: (295, 148, 74, 37, 19, 10, 4),
    131: (329, 165, 83, 42, 21, 11, 5),
    224: (422, 211, 106, 53, 27, 14, 8),
    375: (573, 287, 144, 72, 36, 18, 12),
    500: (698, 349, 175, 88, 44, 22, 16),
}
# Without padding a transposed convolution makes stride (n - 1) + kernel of n.
# 32s: upscore, kernel 64 and stride 32.
UPSCORE_32S = {1: 64, 33: 96, 97: 160, 131: 192, 224: 288, 375: 416, 500: 544}
# 16s: upscore2 (4, 2), upscore16 (32, 16).
UPSCORE_16S = {1: (4, 80), 33: (6, 112), 97: (10, 176), 131: (12, 208), 224: (18, 304),
               375: (26, 432), 500: (34, 560)}
# 8s: upscore2 (4, 2), upscore_pool4 (4, 2), upscore8 (16, 8).
UPSCORE_8S = {1: (4, 10, 88), 33: (6, 14, 120), 97: (10, 22, 184), 131: (12, 26, 216),
              224: (18, 38, 312), 375: (26, 54, 440), 500: (34, 70, 568)}

TRUNK_NODES = ("conv1_1", "pool1", "pool2", "pool3", "pool4", "pool5", "fc6")
SIZES = [(500, 500), (375, 500), (97, 131), (1, 33), (224, 1)]


def sizes(net, h, w, names):
    x = np.random.default_rng(0).standard_normal((1, h, w, 3), np.float32)
    found = net.forward(x, outputs=names)
    return {name: y.shape[1:3] for name, y in found.items()}, found


def expected_sizes(h, w, names, table):
    ys, xs = (table[side] if isinstance(table[side], tuple) else (table[side],) for side in (h, w))
    return dict(zip(names, zip(ys, xs)))


@pytest.mark.parametrize("h, w", SIZES)
def test_caffe_fcn32s(h, w):
    net = models.FCN32s(geometry="caffe", **TINY)
    found, values = sizes(net, h, w, (*TRUNK_NODES, "fc7", "score_fr", "upscore", "score"))
    assert found == {
        **expected_sizes(h, w, TRUNK_NODES, TRUNK),
        **dict.fromkeys(("fc7", "score_fr"), (TRUNK[h][-1], TRUNK[w][-1])),
        **expected_sizes(h, w, ("upscore",), UPSCORE_32S),
        "score": (h, w)}
    np.testing.assert_array_equal(
        values["score"], values["upscore"][:, 19:19 + h, 19:19 + w])


@pytest.mark.parametrize("h, w", SIZES)
def test_caffe_fcn16s(h, w):
    net = models.FCN16s(geometry="caffe", **TINY)
    up = ("upscore2", "upscore16")
    found, values = sizes(
        net, h, w, (*TRUNK_NODES, *up, "score_pool4", "score_pool4c", "fuse_pool4", "score"))
    upsampled = expected_sizes(h, w, up, UPSCORE_16S)
    trunk = expected_sizes(h, w, TRUNK_NODES, TRUNK)
    assert found == {
        **trunk, **upsampled, "score_pool4": trunk["pool4"],
        **dict.fromkeys(("score_pool4c", "fuse_pool4"), upsampled["upscore2"]), "score": (h, w)}
    rows, columns = upsampled["upscore2"]
    np.testing.assert_array_equal(
        values["score_pool4c"], values["score_pool4"][:, 5:5 + rows, 5:5 + columns])
    np.testing.assert_array_equal(
        values["fuse_pool4"], values["upscore2"] + values["score_pool4c"])
    np.testing.assert_array_equal(
        values["score"], values["upscore16"][:, 27:27 + h, 27:27 + w])


@pytest.mark.parametrize("h, w", SIZES)
@pytest.mark.parametrize("name", ["fcn8s", "fcn8s-atonce"])
def test_caffe_fcn8s(name, h, w):
    net = models.BY_NAME[name](geometry="caffe", **TINY)
    up = ("upscore2", "upscore_pool4", "upscore8")
    found, values = sizes(
        net, h, w, (*TRUNK_NODES, *up, "score_pool3", "score_pool3c", "score_pool4c",
                    "fuse_pool4", "fuse_pool3", "score"))
    upsampled = expected_sizes(h, w, up, UPSCORE_8S)
    trunk = expected_sizes(h, w, TRUNK_NODES, TRUNK)
    assert found == {
        **trunk, **upsampled, "score_pool3": trunk["pool3"],
        **dict.fromkeys(("score_pool4c", "fuse_pool4"), upsampled["upscore2"]),
        **dict.fromkeys(("score_pool3c", "fuse_pool3"), upsampled["upscore_pool4"]),
        "score": (h, w)}
    rows, columns = upsampled["upscore_pool4"]
    np.testing.assert_array_equal(
        values["score_pool3c"], values["score_pool3"][:, 9:9 + rows, 9:9 + columns])
    np.testing.assert_array_equal(
        values["fuse_pool3"], values["upscore_pool4"] + values["score_pool3c"])
    np.testing.assert_array_equal(
        values["score"], values["upscore8"][:, 31:31 + h, 31:31 + w])


# Geometry "same": only pools change the size, halved and rounded up.
POOLS = {
    1: (1, 1, 1, 1, 1),
    2: (1, 1, 1, 1, 1),
    3: (2, 1, 1, 1, 1),
    31: (16, 8, 4, 2, 1),
    33: (17, 9, 5, 3, 2),
    97: (49, 25, 13, 7, 4),
    131: (66, 33, 17, 9, 5),
}


@pytest.mark.parametrize("h, w", [(1, 1), (2, 3), (31, 33), (97, 131)])
@pytest.mark.parametrize("name", ["fcn32s", "fcn16s", "fcn8s", "fcn8s-atonce"])
def test_same(name, h, w):
    net = models.BY_NAME[name](**TINY)
    pools = ("pool1", "pool2", "pool3", "pool4", "pool5")
    last = {"fcn32s": "upscore", "fcn16s": "upscore16"}.get(name, "upscore8")
    joins = {"fcn32s": {}, "fcn16s": {"upscore2": "pool4", "fuse_pool4": "pool4"}}.get(
        name, {"upscore2": "pool4", "upscore_pool4": "pool3", "fuse_pool3": "pool3"})
    found, _ = sizes(net, h, w, ("conv1_1", *pools, "fc6", "score_fr", last, *joins))
    expected = expected_sizes(h, w, pools, POOLS)
    assert found == {
        **expected, "conv1_1": (h, w), "fc6": expected["pool5"], "score_fr": expected["pool5"],
        last: (h, w), **{node: expected[pool] for node, pool in joins.items()}}
    assert net.forward(np.zeros((2, h, w, 3), np.float32)).shape == (2, h, w, 2)


def constant_score(net):
    """Let score_fr be 1 everywhere and the skips 0."""
    for name in ("score_fr", "score_pool4", "score_pool3"):
        if name in net.layers:
            net.params[f"{name}/weights"][...] = 0
            net.params[f"{name}/bias"][...] = name == "score_fr"
    return net


@pytest.mark.parametrize("h, w", [(31, 33), (97, 131)])
def test_same_is_anchored_top_left(h, w):
    # 1 interpolated up 32 times: the ramp at an edge of the coarse map is 16 pixels wide and begins
    # with 16.5 / 32. The coarse map covers 32 ceil(n / 32) pixels from the top left, so the other
    # edge lies outside, unless n reaches into its ramp.
    net = constant_score(models.FCN32s(**TINY))
    y = net.forward(np.zeros((1, h, w, 3), np.float32))[0, :, :, 0]
    ramp = (np.arange(16) + 16.5) / 32
    profiles = []
    for n in h, w:
        profile = np.ones(n)
        profile[:16] = ramp
        covered = 32 * -(-n // 32)
        back = np.concatenate([np.ones(covered - 16), ramp[::-1]])
        profiles.append(profile * back[:n])
    np.testing.assert_allclose(y, np.outer(*profiles), rtol=1e-6)


def test_caffe_starts_at_its_offset():
    # Row 19 of the 64 x 64 kernel at its edge: 1 - |19 - 31.5| / 32 = 0.609375.
    net = constant_score(models.FCN32s(geometry="caffe", **TINY))
    y = net.forward(np.zeros((1, 40, 60, 3), np.float32))[0, :, :, 0]
    assert y[0, 0] == pytest.approx(0.609375 ** 2, rel=1e-6)
    assert y[0, 30] == pytest.approx(0.609375, rel=1e-6)
    np.testing.assert_allclose(y[13:, 13:], 1, rtol=1e-6)
    assert y[11, 30] < 0.99


def test_caffe_pools_round_up_where_the_last_window_is_cut():
    net = models.VGG16(width=1 / 64, fc_channels=2, classes=2, input_size=33)
    found, _ = sizes(net, 33, 33, ("pool1", "pool2", "pool3", "pool4", "pool5"))
    assert [size for size, _ in found.values()] == list(POOLS[33])
    assert net.params["fc6/weights"].shape == (2 * 2 * 8, 2)
