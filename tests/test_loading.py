"""From files to nets: strict, checked before memory is taken, and never half done."""
import json
import logging

import h5py
import numpy as np
import pytest

import tinyfcn
from tinyfcn import loading, models, weights
from tinyfcn.weights import WeightsError

PREPROCESSING = {"channel_order": "RGB", "scale": 1 / 255, "mean": [0.5, 0.4, 0.3],
                 "std": [0.2, 0.2, 0.25]}


def small_net(name="fcn8s", **options):
    """A net whose parameters are all zero."""
    sizes = {"classes": 2, "width": 1 / 32, "fc_channels": 8, "init": None}
    return models.BY_NAME[name](**{**sizes, **options})


def filled(name="fcn8s", **options):
    net = small_net(name, **options)
    rng = np.random.default_rng(1)
    for array in net.params.values():
        # Sixteenths are exact in half precision.
        array[...] = rng.integers(-64, 64, array.shape) / 16
    net.class_names = ["road", "sky"]
    net.colours = [(128, 64, 128), (128, 128, 128)]
    net.ignore_label = 11
    net.preprocessing = dict(PREPROCESSING)
    return net


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "saved.h5"
    loading.save_model(filled(), path, {"epochs": 3}, dtype="float16")
    return path


def rewrite(path, change):
    """Write the file anew with its description changed."""
    about = weights.describe(path)
    tensors = weights.read(path)
    change(about, tensors)
    weights.write(path, tensors, about)


def state(net):
    return ({name: array.tobytes() for name, array in net.params.items()},
            json.dumps([net.preprocessing, net.class_names, net.colours, net.ignore_label]))


def refused(path, *patterns, net=None):
    net = net or small_net()
    before = state(net)
    with pytest.raises(WeightsError) as caught:
        tinyfcn.load_weights(net, path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    for pattern in patterns:
        assert pattern in message, message
    assert state(net) == before
    return message


def test_a_saved_net_comes_back_whole(saved):
    net = small_net()
    arrays = dict(net.params)
    about = tinyfcn.load_weights(net, saved)
    expected = filled()
    for name, array in net.params.items():
        assert array is arrays[name]
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, expected.params[name])
    assert state(net) == state(expected)
    assert net.colours == [(128, 64, 128), (128, 128, 128)]
    assert about["training"] == {"epochs": 3}
    assert about["arguments"] == net.arguments


def test_load_model_builds_the_net_that_was_saved(saved):
    net = tinyfcn.load_model(saved)
    assert net.arguments == filled().arguments
    assert state(net) == state(filled())
    assert tinyfcn.load_model(saved, "fcn8s").name == "fcn8s"


@pytest.mark.parametrize("options", [
    {}, {"batch_norm": True, "upsampling": "learned"}, {"geometry": "caffe"}])
@pytest.mark.parametrize("name", ["fcn32s", "fcn16s", "fcn8s", "fcn8s-atonce"])
def test_every_net_comes_back(tmp_path, name, options):
    net = filled(name, **options)
    tinyfcn.save_model(net, tmp_path / "a.h5", dtype="float16")
    back = tinyfcn.load_model(tmp_path / "a.h5", name)
    assert back.name == name
    assert back.arguments == net.arguments
    assert state(back) == state(net)


@pytest.mark.parametrize("input_size", [224, 33])
def test_the_classifier_comes_back(tmp_path, input_size):
    net = filled("vgg16", input_size=input_size)
    tinyfcn.save_model(net, tmp_path / "a.h5")
    assert state(tinyfcn.load_model(tmp_path / "a.h5", "vgg16")) == state(net)
    rewrite(tmp_path / "a.h5", set_argument("input_size", 60000))
    with pytest.raises(WeightsError, match="says input_size 60000, but fc6/weights is"):
        tinyfcn.load_model(tmp_path / "a.h5")


@pytest.mark.parametrize("name, options", [
    ("lenet", {"input_size": 32}), ("lenet", {"in_channels": 3, "classes": 4}),
    ("caffenet", {"input_size": 99}), ("alexnet", {"normalization": "paper"}),
    ("alexnet-single-tower", {}), ("vgg11", {"batch_norm": True, "input_size": 64}),
    ("vgg13", {"input_size": 40}), ("vgg19", {"input_size": 32}),
    ("fcn_alexnet", {"geometry": "caffe", "batch_norm": True, "normalization": "paper"}),
])
def test_the_other_nets_come_back(tmp_path, name, options):
    sizes = {} if name == "lenet" else {"classes": 2, "width": 1 / 32, "fc_channels": 8}
    net = models.BY_NAME[name](**sizes, **options)
    net.class_names = [f"class {i}" for i in range(net.arguments["classes"])]
    tinyfcn.save_model(net, tmp_path / "a.h5")
    back = tinyfcn.load_model(tmp_path / "a.h5", name)
    assert back.arguments == net.arguments and state(back) == state(net)
    rewrite(tmp_path / "a.h5", set_argument("classes", 60000))
    with pytest.raises(WeightsError, match="says classes 60000, but "):
        tinyfcn.load_model(tmp_path / "a.h5")


def test_a_grey_net_has_one_mean(tmp_path):
    tinyfcn.save_model(models.LeNet(), tmp_path / "a.h5")
    rewrite(tmp_path / "a.h5",
            lambda about, tensors: about["preprocessing"].update({"mean": [0, 0, 0]}))
    with pytest.raises(WeightsError, match="mean cannot be"):
        tinyfcn.load_model(tmp_path / "a.h5")


@pytest.mark.parametrize("size", [2**16, 30000])
def test_a_description_that_asks_for_a_huge_map(tmp_path, size):
    tinyfcn.save_model(models.CaffeNet(
        classes=2, width=1 / 32, fc_channels=8, input_size=67), tmp_path / "a.h5")
    rewrite(tmp_path / "a.h5", set_argument("input_size", size))
    with pytest.raises(WeightsError):
        tinyfcn.load_model(tmp_path / "a.h5")


def test_double_precision_is_kept_in_the_file(tmp_path):
    net = filled(dtype=np.float64)
    net.params["fc6/weights"][0, 0, 0, 0] = 1 + 2**-40
    tinyfcn.save_model(net, tmp_path / "a.h5")
    double = small_net(dtype=np.float64)
    tinyfcn.load_weights(double, tmp_path / "a.h5")
    assert state(double) == state(net)
    assert tinyfcn.load_model(tmp_path / "a.h5").params["fc6/weights"].dtype == np.float32


def test_values_are_cast_to_the_nets_type(saved):
    net = small_net(dtype=np.float64)
    tinyfcn.load_weights(net, saved)
    assert net.params["fc6/weights"].dtype == np.float64
    np.testing.assert_array_equal(net.params["fc6/weights"], filled().params["fc6/weights"])


def test_a_file_that_says_nothing_fills_parameters_only(tmp_path):
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        for name, array in filled().params.items():
            file[name] = array
    net = small_net()
    before = net.preprocessing
    assert tinyfcn.load_weights(net, tmp_path / "plain.h5") == {}
    assert net.preprocessing is before and net.class_names is None and net.ignore_label is None
    np.testing.assert_array_equal(net.params["score_fr/bias"], filled().params["score_fr/bias"])
    with pytest.raises(WeightsError, match="does not say which model it is for"):
        tinyfcn.load_model(tmp_path / "plain.h5")


def test_missing_unused_and_misshaped_are_all_named(saved):
    def change(about, tensors):
        del tensors["score_fr/bias"]
        tensors["score_fr/biases"] = np.zeros(2)
        tensors["extra"] = np.zeros(1)
        tensors["conv1_1/weights"] = np.zeros((4, 3, 3, 3))

    rewrite(saved, change)
    refused(saved, "does not fit fcn8s: ", "1 missing: score_fr/bias;",
            "2 unused: extra, score_fr/biases;",
            "1 misshaped: conv1_1/weights is (4, 3, 3, 3) in the file and (3, 3, 3, 2) in the net")


def test_long_lists_are_cut_and_counted(saved):
    rewrite(saved, lambda about, tensors: tensors.update(
        {f"x{i:03}": np.zeros(1) for i in range(100)}))
    message = refused(saved, "100 unused: x000, x001, x002, x003, x004, ...")
    assert "x005" not in message


def test_shapes_are_compared_before_data_are_read(saved, monkeypatch):
    def read_data(*_):
        raise AssertionError("data were read")

    monkeypatch.setattr(weights, "read", read_data)
    monkeypatch.setattr(weights, "read_into", read_data)
    refused(saved, "misshaped", net=small_net(fc_channels=9))


def test_weights_of_a_damaged_file(saved):
    content = saved.read_bytes()
    saved.write_bytes(content[:len(content) // 2])
    refused(saved, "damaged")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_told(saved, caplog, value):
    def change(about, tensors):
        tensors["fc6/weights"][3, 3, 1, 2] = value

    rewrite(saved, change)
    with caplog.at_level(logging.WARNING, "tinyfcn"):
        tinyfcn.load_weights(small_net(), saved)
    assert caplog.messages == [f"{saved}: fc6/weights holds NaN or infinite values"]


def test_good_weights_are_loaded_without_a_word(saved, caplog):
    tinyfcn.load_weights(small_net(), saved)
    assert caplog.messages == []


def test_weights_made_for_another_use_are_told(saved, caplog):
    tinyfcn.load_weights(small_net("fcn8s-atonce", geometry="caffe"), saved)
    assert caplog.messages == [
        f"{saved}: is for 'fcn8s', loaded into fcn8s-atonce",
        f"{saved}: was made with geometry 'same', loaded into a net with caffe"]


def set_argument(name, value):
    return lambda about, tensors: about["arguments"].update({name: value})


def set_field(name, value):
    return lambda about, tensors: about.update({name: value})


@pytest.mark.parametrize("change, pattern", [
    (set_field("model", "resnet"), "is for an unknown model, 'resnet'"),
    (set_field("model", ["fcn8s"]), "is for an unknown model, "),
    (set_field("model", None), "does not say which model"),
    (set_field("arguments", [1]), "arguments are not a JSON object"),
    (set_argument("width", 1e9), "width cannot be 1000000000.0"),
    (set_argument("width", 10**400), "width cannot be 1000"),
    (set_argument("width", "1"), "width cannot be '1'"),
    (set_argument("width", 0), "width cannot be 0"),
    (set_argument("width", True), "width cannot be True"),
    (set_argument("width", 1.0), "says width 1.0, but conv5_3/weights is (3, 3, 16, 16)"),
    (set_argument("classes", 10**9), "classes cannot be 1000000000"),
    (set_argument("classes", 2.0), "classes cannot be 2.0"),
    (set_argument("classes", 60000), "says classes 60000, but score_fr/weights is (1, 1, 8, 2)"),
    (set_argument("fc_channels", 4096), "says fc_channels 4096, but fc6/weights is"),
    (set_argument("in_channels", 4), "says in_channels 4, but conv1_1/weights is (3, 3, 3, 2)"),
    (set_argument("batch_norm", 1), "batch_norm cannot be 1"),
    (set_argument("upsampling", "nearest"), "upsampling cannot be 'nearest'"),
    (set_argument("geometry", None), "geometry cannot be None"),
    (set_argument("dropout", 1.0), "dropout cannot be 1.0"),
    (set_argument("input_size", 10**9), "input_size cannot be 1000000000"),
    (set_argument("input_size", 224), "says input_size 224, but fc6/weights is (7, 7, 16, 8)"),
    (set_argument("init", "random"), "names an unknown argument, 'init'"),
    (set_argument("__class__", 1), "names an unknown argument, '__class__'"),
    (set_argument("input_size", 16), "says input_size 16, but"),
    (set_argument("batch_norm", True), "does not fit fcn8s: 52 missing: bn1_1/"),
    (lambda about, tensors: about["arguments"].pop("fc_channels"), "says fc_channels 4096"),
    (lambda about, tensors: tensors.pop("fc6/weights"), "does not fit fcn8s: fc6/weights missing"),
    (lambda about, tensors: tensors.update({"fc6/weights": np.zeros(8)}),
     "says fc_channels 8, but fc6/weights is (8,)"),
])
def test_a_description_cannot_ask_for_just_any_net(saved, change, pattern):
    rewrite(saved, change)
    with pytest.raises(WeightsError) as caught:
        tinyfcn.load_model(saved)
    message = str(caught.value)
    assert message.startswith(f"{saved}: ") and "\n" not in message
    assert pattern in message


def test_the_model_asked_for_must_be_the_files(saved):
    with pytest.raises(WeightsError, match="is for fcn8s, not for fcn32s"):
        tinyfcn.load_model(saved, "fcn32s")


def set_preprocessing(**changes):
    return set_field("preprocessing", {**PREPROCESSING, **changes})


@pytest.mark.parametrize("change, pattern", [
    (set_field("preprocessing", None), "preprocessing is not channel_order"),
    (set_field("preprocessing", {"mean": [0, 0, 0]}), "preprocessing is not channel_order"),
    (set_preprocessing(channel_order="grey"), "channel_order cannot be 'grey'"),
    (set_preprocessing(channel_order="HSV"), "channel_order cannot be 'HSV'"),
    (set_preprocessing(channel_order=["RGB"]), "channel_order cannot be ['RGB']"),
    (set_preprocessing(scale=0), "scale cannot be 0"),
    (set_preprocessing(scale=10**400), "scale cannot be 1000"),
    (set_preprocessing(mean=[1, 2]), "mean cannot be [1, 2]"),
    (set_preprocessing(mean=[1, 2, "3"]), "mean cannot be"),
    (set_preprocessing(std=[1, 1, 0]), "std cannot be [1, 1, 0]"),
    (set_field("class_names", ["road"]), "class_names are not 2 names"),
    (set_field("class_names", ["road", 5]), "class_names are not 2 names"),
    (set_field("class_names", ["road", ""]), "class_names are not 2 names"),
    (set_field("colours", [[0, 0, 0]]), "colours are not 2 of [r, g, b]"),
    (set_field("colours", [[0, 0, 0], [0, 0, 256]]), "colours are not 2 of [r, g, b]"),
    (set_field("colours", [[0, 0, 0], [0, 0, 1.5]]), "colours are not 2 of [r, g, b]"),
    (set_field("ignore_label", "11"), "ignore_label cannot be '11'"),
    (set_field("ignore_label", 1 << 20), "ignore_label cannot be 1048576"),
])
def test_descriptions_that_make_no_sense(saved, change, pattern):
    rewrite(saved, change)
    refused(saved, pattern)


def test_saving_leaves_the_net_alone(tmp_path):
    net = filled()
    before = state(net)
    loading.save_model(net, tmp_path / "a.h5", dtype="float16")
    assert state(net) == before
    assert net.params["fc6/weights"].dtype == np.float32


# --- the start of another training ----------------------------------------------------------------

def drawn(name, **options):
    net = small_net(name, **options)
    rng = np.random.default_rng(5)
    for array in net.params.values():
        array[...] = rng.standard_normal(array.shape)
    return net


@pytest.mark.parametrize("before, after, options, kept", [
    ("fcn32s", "fcn16s", {}, ["upscore2", "score_pool4", "upscore16"]),
    ("fcn16s", "fcn8s", {}, ["upscore_pool4", "score_pool3", "upscore8"]),
    ("fcn8s", "fcn32s", {}, ["upscore"]),
    ("fcn8s", "fcn8s", {"classes": 5}, ["score_fr", "upscore2", "score_pool4", "upscore_pool4",
                                        "score_pool3", "upscore8"]),
    ("fcn32s", "fcn8s-atonce", {"classes": 3}, ["score_fr", "upscore2", "score_pool4",
                                                "upscore_pool4", "score_pool3", "upscore8"]),
    ("fcn8s", "fcn8s", {}, []),
])
def test_an_fcn_as_a_start(tmp_path, caplog, before, after, options, kept):
    """What other classes or other skips need keeps its start, the rest is the file's."""
    source = filled(before)
    loading.save_model(source, tmp_path / "before.h5")
    net, reference = (drawn(after, **options) for _ in range(2))
    with caplog.at_level(logging.INFO, "tinyfcn"):
        loading.load_weights(net, tmp_path / "before.h5", start=True)
    assert [record.getMessage() for record in caplog.records] == ([
        f"{tmp_path / 'before.h5'}: holds other scores: {', '.join(kept)} keep their start, for "
        "training"] if kept else [])
    for name, array in net.params.items():
        expected = reference if name.rpartition("/")[0] in kept else source
        np.testing.assert_array_equal(array, expected.params[name], name)
    assert net.preprocessing == PREPROCESSING
    assert net.class_names == (None if "classes" in options else ["road", "sky"])
    if kept:            # which is an error for use
        with pytest.raises(WeightsError, match=f"does not fit {after}: "):
            loading.load_weights(net, tmp_path / "before.h5")


@pytest.mark.parametrize("options, problem", [
    ({"fc_channels": 9}, "misshaped: fc6/weights"), ({"batch_norm": True}, "missing: bn1_1/gamma"),
    ({"width": 1 / 16}, "misshaped: conv1_1/weights")])
def test_a_start_that_does_not_fit(tmp_path, options, problem):
    loading.save_model(filled("fcn32s"), tmp_path / "before.h5")
    net = drawn("fcn16s", **options)
    before = {name: array.copy() for name, array in net.params.items()}
    with pytest.raises(WeightsError, match=f"does not fit fcn16s: .*{problem}"):
        loading.load_weights(net, tmp_path / "before.h5", start=True)
    for name, array in net.params.items():
        np.testing.assert_array_equal(array, before[name])
