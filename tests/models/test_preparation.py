"""Nets prepared for inference: the same scores, each weight held once, memory used again."""
import concurrent.futures
import pathlib
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

import tinyfcn
from tinyfcn import kernels, models
from tinyfcn.data.images import read_photo
from tinyfcn.data.transforms import preprocess
from tinyfcn.graph import Graph
from tinyfcn.kernels.cpu import memory
from tinyfcn.layers import Convolution, MaxPooling, ReLU
from tinyfcn.weights import shipped

ROOT = pathlib.Path(__file__).parents[2]
SMALL = {"classes": 5, "width": 1 / 16, "fc_channels": 24}
FCNS = ("fcn32s", "fcn16s", "fcn8s", "fcn8s-atonce")


def exact(net):
    """The same net in float64, its convolutions by im2col."""
    twin = models.BY_NAME[net.name](**net.arguments, init=None, dtype=np.float64)
    params = twin.params
    for name, w in net.params.items():
        params[name][...] = w
    for layer in twin.layers.values():
        if isinstance(layer, Convolution):
            layer.geometry = {**layer.geometry, "algorithm": "im2col"}
    return twin


def assert_scores(scores, expected, tolerance=1e-4):
    assert scores.shape == expected.shape
    assert np.abs(scores - expected).max() <= tolerance * np.abs(expected).max()


@pytest.fixture
def photo():
    return np.random.default_rng(5).uniform(-100, 100, (1, 37, 45, 3)).astype(np.float32)


@pytest.mark.parametrize("name", FCNS)
@pytest.mark.parametrize("options", [
    {"geometry": "same"}, {"geometry": "caffe"}, {"batch_norm": True},
    {"upsampling": "learned"}, {"upsampling": "learned", "geometry": "caffe"}],
    ids=lambda options: "-".join(map(str, options.values())))
def test_prepared_fcns_give_the_same_scores(name, options, photo, randomize):
    fixed = options.get("upsampling") != "learned"
    net = models.BY_NAME[name](**SMALL, **options)
    bilinear = {key: w.copy() for key, w in net.params.items() if "upscore" in key}
    randomize(net)
    if fixed:
        for key, w in bilinear.items():
            net.params[key][...] = w
    twin = exact(net)
    prepared = models.prepare(net)
    dropped = {"drop6", "drop7", *(each for each in net.layers if each.startswith("bn"))}
    assert list(prepared.layers) == [each for each in net.layers if each not in dropped]
    assert prepared.name == net.name
    # The first image, the second with transformed weights, one of another size, a batch.
    for x in (photo, photo, photo[:, :18, 2:], np.concatenate([photo, -photo])):
        assert_scores(prepared.forward(x), twin.forward(x.astype(np.float64)))


def test_prepared_vgg16_gives_the_same_scores(randomize):
    net = randomize(models.VGG16(**SMALL, input_size=32, batch_norm=True))
    twin, prepared = exact(net), models.prepare(net)
    rng = np.random.default_rng(0)
    for images in (1, 1, 3, 2):
        x = rng.uniform(-100, 100, (images, 32, 32, 3)).astype(np.float32)
        assert_scores(prepared.forward(x), twin.forward(x.astype(np.float64)))


def test_float64_nets_are_prepared_in_float64(photo, randomize):
    net = randomize(models.FCN8s(**SMALL, dtype=np.float64))
    twin, prepared = exact(net), models.prepare(net)
    for _ in range(2):
        scores = prepared.forward(photo.astype(np.float64))
        assert scores.dtype == np.float64
        assert_scores(scores, twin.forward(photo.astype(np.float64)), 1e-11)


def test_what_a_net_was_trained_for_is_kept():
    net = models.FCN32s(**SMALL, batch_norm=True)
    net.preprocessing = {"channel_order": "RGB", "scale": 2.0, "mean": [1, 2, 3], "std": [4, 5, 6]}
    net.class_names, net.colours, net.ignore_label = list("abcde"), [[1, 2, 3]] * 5, 9
    prepared = models.prepare(net)
    for attribute in ("preprocessing", "class_names", "colours", "ignore_label"):
        assert getattr(prepared, attribute) == getattr(net, attribute)


def test_outputs_of_any_node(photo, randomize):
    """Also of those that are computed on the way of others."""
    net = randomize(models.FCN8s(**SMALL))
    prepared = models.prepare(net)
    names = [name for name in net.layers if not name.startswith("drop")]
    together = prepared.forward(photo, outputs=names)
    expected = net.forward(photo, outputs=names)
    for name in names:
        assert_scores(together[name], expected[name])
        assert_scores(prepared.forward(photo, outputs=[name])[name], expected[name])


@pytest.mark.parametrize("first", [0, 1])
def test_training_is_refused(first, photo):
    prepared = models.prepare(models.FCN8s(**SMALL))
    for _ in range(first):
        prepared.forward(photo)
    with pytest.raises(ValueError, match="prepared for inference cannot be trained"):
        prepared.forward(photo, keep=True)


def pooled_graph():
    net = Graph()
    net.add("conv", Convolution(3, 4, 3, padding=1))
    net.add("relu", ReLU())
    net.add("pool", MaxPooling(2, 2))
    return net


def test_training_is_refused_where_convolution_and_pooling_are_one(photo):
    with pytest.raises(ValueError, match="prepared for inference cannot be trained"):
        models.prepare(pooled_graph()).forward(photo, keep=True)


@pytest.mark.parametrize("like", ["conv", "relu"])
def test_a_size_taken_from_what_pooling_swallows(like, photo, randomize):
    from tinyfcn.layers import TransposedConvolution

    net = pooled_graph()
    net.add("up", TransposedConvolution(4, 4, 2, padding=1, fixed=True), size_like=like)
    net.params["conv/weights"][...] = np.random.default_rng(0).standard_normal((3, 3, 3, 4))
    prepared, expected = models.prepare(net), net.forward(photo)
    assert expected.shape[1:3] == photo.shape[1:3]
    for _ in range(2):
        assert_scores(prepared.forward(photo), expected)


@pytest.mark.parametrize("build", [models.FCN8s, models.FCN16s, models.FCN32s])
@pytest.mark.parametrize("geometry", ["same", "caffe"])
@pytest.mark.parametrize("upsampling", ["fixed", "learned"])
def test_classes_are_those_of_the_scores(build, geometry, upsampling, randomize, photo):
    """Fixed upsampling to the photo's size goes straight to the classes, others by the scores."""
    net = build(**{**SMALL, "geometry": geometry, "upsampling": upsampling})
    filters = {name: w.copy() for name, w in net.params.items() if name.startswith("upscore")}
    randomize(net)
    for name, w in filters.items():
        net.params[name][:] = w
    prepared = models.prepare(net)
    ops = kernels.backend(photo)
    for _ in range(3):
        labels, confidence = prepared.classify(photo)
        scores = prepared.forward(photo)
        expected_labels, expected_confidence = ops.classify(scores)
        # At a tie in all but rounding, either class will do.
        assert (labels == expected_labels).mean() > 0.99
        np.testing.assert_allclose(confidence, expected_confidence, rtol=1e-4)
        found = np.take_along_axis(scores, labels[..., None].astype(int), axis=3)[..., 0]
        np.testing.assert_allclose(found, scores.max(axis=3), rtol=1e-4, atol=1e-4)
    labels, _ = net.classify(photo)
    assert (labels == expected_labels).mean() > 0.99


def test_weights_are_held_once(photo):
    """Nothing keeps the weights of the net once they are transformed, if the net itself is gone."""
    net = models.FCN8s(**SMALL)
    convolutions = [name for name, layer in net.layers.items() if isinstance(layer, Convolution)]
    first = {name: weakref.ref(net.layers[name].params["weights"]) for name in net.layers
             if "weights" in net.layers[name].params}
    prepared = models.prepare(net)
    del net
    prepared.forward(photo)
    prepared.forward(photo)
    assert set(convolutions) <= set(first)
    # Transposed convolutions have become interpolation: their filters are gone, too.
    assert [name for name, reference in first.items() if reference() is not None] == []
    assert [name for name in prepared.params if name.endswith("/weights")] == []


def test_a_single_image_transforms_no_weights(photo):
    prepared = models.prepare(models.FCN8s(**SMALL))
    prepared.forward(photo)
    assert prepared.layers["conv3_2"].prepared is None
    prepared.forward(photo)
    assert prepared.layers["conv3_2"].prepared is not None


def test_threads_share_a_prepared_net(photo, randomize):
    net = randomize(models.FCN8s(**SMALL))
    images = [photo, -photo, photo[:, :32, :32], photo[:, 3:, 5:]]
    expected = [net.forward(x) for x in images]
    for _ in range(5):
        prepared, start = models.prepare(net), threading.Barrier(len(images))

        def work(x, prepared=prepared, start=start):
            start.wait()
            return [prepared.forward(x) for _ in range(3)]

        with concurrent.futures.ThreadPoolExecutor(len(images)) as pool:
            for results, scores in zip(pool.map(work, images), expected):
                for result in results:
                    assert_scores(result, scores)


def test_nothing_large_is_allocated_in_the_steady_state(randomize, monkeypatch):
    """From the third image of one size on: the second transforms the weights."""
    prepared = models.prepare(randomize(models.FCN8s(classes=21, width=1 / 4, fc_channels=256)))
    x = np.random.default_rng(0).uniform(-100, 100, (1, 120, 160, 3)).astype(np.float32)
    first = prepared.forward(x)
    for _ in range(2):
        prepared.forward(x)
    del first
    fresh = []

    class Block(memory._Block):
        """Notes which memory was not in the pool before."""

        def __init__(self, size):
            waiting = set(memory._idle)
            super().__init__(size)
            if id(self.bytes) not in waiting:
                fresh.append(size)

    monkeypatch.setattr(memory, "_Block", Block)
    tracemalloc.start()
    try:
        for _ in range(3):
            prepared.forward(x)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert fresh == []
    # A few arrays that are too small for the pool; the largest of the net would be 1.2 MB.
    assert peak < 3 * memory.POOLED_SIZE
    # That it would be noticed: without the pool's memory all is taken anew.
    memory.release()
    prepared.forward(x)
    assert len(fresh) > 3


# ---- how far off whole nets are, in float32


def assert_labels(scores, expected):
    """Scores within 1e-4 of the largest, and the same label of 99.9% of the pixels."""
    assert_scores(scores, expected)
    assert (scores.argmax(-1) == expected.argmax(-1)).mean() >= 0.999


def assert_close_to_float64(net, photos):
    twin, prepared = exact(net), models.prepare(net)
    for pixels in photos:
        x = preprocess(pixels, net.preprocessing, np.float64)[None]
        expected = twin.forward(x)
        for _ in range(2):  # with the weights as they are, and transformed
            assert_labels(prepared.forward(x.astype(np.float32)), expected)
        assert_labels(net.forward(x.astype(np.float32)), expected)


def example_photos():
    paths = sorted((ROOT / "examples/images").glob("*.jpg"))
    assert paths
    return [read_photo(path) for path in paths]


def test_scores_of_a_net_of_random_weights(randomize):
    """Half as wide as VGG: convolutions of up to 256 channels and a 7x7 one."""
    net = randomize(models.FCN8s(width=1 / 2, fc_channels=512))
    assert_close_to_float64(net, [photo[100:292, 50:306] for photo in example_photos()])


def test_scores_of_the_shipped_net():
    assert_close_to_float64(tinyfcn.load_model(shipped("fcn8s")), example_photos())


def test_scores_of_the_shipped_net_on_camvid(test_data):
    paths = sorted(test_data("camvid", "images", "val").glob("*.jpg"))[::20]
    assert paths
    assert_close_to_float64(tinyfcn.load_model(shipped("fcn8s")), map(read_photo, paths))
