"""Training: what a run writes, and that it goes on exactly as if it had never stopped."""
import csv
import json
import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from tinyfcn import evaluation, loading, metrics, models, training, weights
from tinyfcn.data.folders import DataError, Pair, find_pairs, read_pair
from tinyfcn.inference import segment
from tinyfcn.training import Recipe, TrainingError
from tinyfcn.weights import WeightsError

IGNORE = 9
RECIPE = Recipe(epochs=3, batch=2, crop=(33, 40), rate=0.05, warm_up=2, balance=True, seed=4)
TIMES = ("images_per_second", "seconds_waited_for_data")


class Stop(BaseException):
    """As an interrupt: nothing catches it."""


def small_net(classes=2, **options):
    net = models.FCN16s(**{"classes": classes, "width": 1 / 32, "fc_channels": 6,
                           "batch_norm": True, "dropout": 0.3, "upsampling": "learned",
                           "init": "scratch", "seed": 1, **options})
    net.class_names, net.colours = ["dark", "bright"], [(0, 0, 255), (255, 255, 0)]
    net.ignore_label = IGNORE
    net.preprocessing = {"channel_order": "RGB", "scale": 1 / 255, "mean": [0.5] * 3,
                         "std": [0.25] * 3}
    return net


@pytest.fixture
def pairs(data_set):
    root = data_set()
    return find_pairs(root, "train"), find_pairs(root, "val")


@pytest.fixture
def run(pairs, tmp_path):
    """Give a function that trains a new small net in a folder, which it returns."""
    photos = [read_pair(pair, 2, IGNORE) for pair in pairs[0]]

    def start(name, recipe=RECIPE, report=lambda row: None, net=None, photos=photos,
              val=pairs[1]):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        training.train(net or small_net(), photos, val, IGNORE, recipe, folder, report)
        return folder

    start.photos, start.folder = photos, tmp_path.joinpath
    return start


def tensors(path):
    return {name: array.tobytes() for name, array in weights.read(path).items()}


def rows(folder):
    with open(folder / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


def check_same(folder, other):
    """Two runs came to the same, bit for bit; only times may differ."""
    for name in ("checkpoint.h5", "best.h5"):
        assert tensors(folder / name) == tensors(other / name), name
    texts = []
    for each in (folder, other):
        state = weights.describe(each / "checkpoint.h5")["training"]
        best = weights.describe(each / "best.h5")["training"]
        for row in (*state["log"], best):
            for name in TIMES:
                del row[name]
        table = [{k: v for k, v in row.items() if k not in TIMES} for row in rows(each)]
        texts.append(json.dumps([state, best, table]))
    assert texts[0] == texts[1]
    assert sorted(os.listdir(folder)) == sorted(os.listdir(other)) == [
        "best.h5", "checkpoint.h5", "log.csv"]


@pytest.fixture(scope="module")
def kept_runs():
    """What a run that was never stopped came to, which is the same every time."""
    return {}


@pytest.fixture
def whole(run, tmp_path, kept_runs):
    """The folder of a run that was never stopped."""
    if not kept_runs:
        run("whole")
        kept_runs.update({path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()})
    (tmp_path / "whole").mkdir(exist_ok=True)
    for name, content in kept_runs.items():
        (tmp_path / "whole" / name).write_bytes(content)
    return tmp_path / "whole"


# --- going on -----------------------------------------------------------------------------------

@pytest.mark.parametrize("epochs", [1, 2])
def test_stopped_between_epochs(run, whole, epochs):
    def stop(row):
        if row["epoch"] == epochs:
            raise Stop

    with pytest.raises(Stop):
        run("halves", report=stop)
    assert len(rows(run.folder("halves"))) == epochs
    check_same(run("halves", net=small_net(seed=77)), whole)


@pytest.mark.parametrize("step", [0, 3])
def test_stopped_within_an_epoch(run, whole, monkeypatch, step):
    calls = []

    class Stopping(training.SGD):
        def step(self, rate):
            super().step(rate)
            calls.append(rate)
            if len(calls) == step + 1:
                raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(training, "SGD", Stopping)
        with pytest.raises(Stop):
            run("halves")
    check_same(run("halves"), whole)


@pytest.mark.parametrize("name", ["best.h5", "checkpoint.h5", "log.csv"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_stopped_while_saving(run, whole, monkeypatch, name, when):
    replace, seen = os.replace, []

    def stopping(source, target):
        if pathlib.Path(target).name == name:
            seen.append(target)
            if len(seen) == 2 and when == "before":
                raise Stop
        replace(source, target)
        if len(seen) == 2 and when == "after":
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stopping)
        try:
            run("halves")
        except Stop:
            pass
        else:
            # best.h5 is written only when the net gets better.
            assert name == "best.h5" and len(seen) == 1
    check_same(run("halves"), whole)


def test_finished_run_is_left_as_it_is(run, whole):
    before = {path.name: path.read_bytes() for path in whole.iterdir()}
    reports = []
    run("whole", report=reports.append)
    assert reports == []
    assert {path.name: path.read_bytes() for path in whole.iterdir()} == before


def test_log_is_written_anew_from_the_checkpoint(run, whole):
    text = (whole / "log.csv").read_bytes()
    (whole / "log.csv").write_text("lost")
    run("whole")
    assert (whole / "log.csv").read_bytes() == text


def test_leftovers_of_a_killed_process_are_removed(run, whole):
    for name in (".checkpoint.h5.0123456789ab.tmp", ".best.h5.0123456789ab.tmp", ".kept.tmp"):
        (whole / name).write_bytes(b"half")
    run("whole")
    assert sorted(os.listdir(whole)) == [".kept.tmp", "best.h5", "checkpoint.h5", "log.csv"]


def test_seed_decides(run, whole):
    check_same(run("again"), whole)
    other = run("other", recipe=Recipe(**{**vars(RECIPE), "seed": 5}))
    assert tensors(other / "best.h5") != tensors(whole / "best.h5")


def test_preprocessing_is_that_of_the_checkpoint(run, whole):
    net = small_net()
    expected, net.preprocessing = net.preprocessing, {**net.preprocessing, "mean": [0] * 3}
    run("whole", net=net)
    assert net.preprocessing == expected


# --- what it does -------------------------------------------------------------------------------

def test_it_learns(run):
    rng = np.random.default_rng(0)
    photos = []
    for edge in (30, 40, 50, 60, 70, 80):
        labels = np.zeros((64, 96), np.uint8)
        labels[:, edge:] = 1
        photo = 50 + 130 * labels[..., None] + rng.integers(0, 20, (64, 96, 3))
        photos.append((photo.astype(np.uint8), labels))
    recipe = Recipe(epochs=16, batch=3, crop=(48, 64), rate=0.05, warm_up=4)
    net = models.FCN8s(classes=2, width=1 / 16, fc_channels=16, batch_norm=True, init="scratch")
    net.preprocessing = small_net().preprocessing
    losses = [float(row["loss"]) for row in rows(run("run", recipe, net=net, photos=photos))]
    assert losses[-1] < 0.6 * losses[0]
    right = [(segment(net, photo).labels == labels).mean() for photo, labels in photos]
    assert np.mean(right) > 0.9


def test_log(run):
    reports = []
    folder = run("run", report=reports.append)
    assert [row["epoch"] for row in reports] == [1, 2, 3]
    assert list(reports[0]) == ["epoch", "loss", "rate", *TIMES, "val_mean_iu"]
    assert [{k: str(v) for k, v in row.items()} for row in reports] == rows(folder)
    # Steps 1, 3 and 5 of 6, of which 2 rise to the rate.
    expected = [0.05, 0.05 * 0.75 ** 0.9, 0.05 * 0.25 ** 0.9]
    assert [row["rate"] for row in reports] == pytest.approx(expected, abs=1e-6)
    assert all(row["images_per_second"] > 0 <= row["seconds_waited_for_data"] for row in reports)


def test_best_is_the_net_with_the_best_mean_iu(run, tmp_path, monkeypatch):
    given = iter([0.25, 0.5, 0.125])
    monkeypatch.setattr(training, "_mean_iu", lambda *arguments: next(given))
    kept = []
    folder = run("run", report=lambda row: kept.append(tensors(tmp_path / "run/best.h5")))
    assert kept[0] != kept[1] == kept[2] == tensors(folder / "best.h5")
    facts = weights.describe(folder / "best.h5")["training"]
    assert (facts["epoch"], facts["val_mean_iu"], facts["batch"], facts["seed"]) == (2, 0.5, 2, 4)


def test_best_is_a_net_ready_for_use(run, pairs):
    folder = run("run")
    net = loading.load_model(folder / "best.h5", model="fcn16s")
    assert net.class_names == ["dark", "bright"] and net.ignore_label == IGNORE
    assert net.preprocessing == small_net().preprocessing
    matrix = evaluation.evaluate(models.fold_batch_norm(net), pairs[1], IGNORE)
    best = max(float(row["val_mean_iu"]) for row in rows(folder))
    assert metrics.scores(matrix)["mean_iu"] == pytest.approx(best, abs=1e-5)


def test_best_in_half_precision(run, tmp_path):
    best = run("run") / "best.h5"
    net = loading.load_model(best)
    facts = weights.describe(best)["training"]
    loading.save_model(net, tmp_path / "half.h5", training=facts, dtype="float16")
    half = loading.load_model(tmp_path / "half.h5")
    assert weights.describe(tmp_path / "half.h5")["training"] == facts
    x = np.random.default_rng(0).standard_normal((1, 40, 50, 3)).astype(np.float32)
    expected = net.forward(x)
    np.testing.assert_allclose(half.forward(x), expected, atol=0.01 * abs(expected).max())


def test_without_val_photos_the_last_net_is_the_best(run):
    folder = run("run", val=[])
    assert weights.describe(folder / "best.h5")["training"]["epoch"] == 3
    assert "val_mean_iu" not in rows(folder)[0]
    params = tensors(folder / "best.h5")
    last = tensors(folder / "checkpoint.h5")
    assert params == {name: last[name] for name in params}


def test_val_photos_without_a_labelled_pixel(run, data_set):
    root = data_set("void")
    pairs = find_pairs(root, "val")
    for pair in pairs:
        void = np.full_like(read_pair(pair, 2, IGNORE)[1], IGNORE)
        Image.fromarray(void).save(pair.labels)
    assert [row["val_mean_iu"] for row in rows(run("run", val=pairs))] == ["", "", ""]


def test_each_photo_is_seen_once_an_epoch_in_another_order(run, monkeypatch):
    view, seen = training.random_view, []

    def watching(photo, labels, *rest):
        seen.append(next(i for i, each in enumerate(run.photos) if each[0] is photo))
        return view(photo, labels, *rest)

    monkeypatch.setattr(training, "random_view", watching)
    run("run", recipe=Recipe(epochs=4, batch=1, crop=(16, 16), warm_up=0))
    epochs = [tuple(seen[i:i + 5]) for i in range(0, 20, 5)]
    assert len(seen) == 20 and all(sorted(each) == [0, 1, 2, 3, 4] for each in epochs)
    assert len(set(epochs)) > 1


def test_rare_classes_are_weighed_up_only_if_asked(run, monkeypatch):
    asked, loss = [], training.softmax_loss

    def watching(scores, labels, ignore_label, class_weights):
        asked.append(class_weights)
        return loss(scores, labels, ignore_label, class_weights)

    monkeypatch.setattr(training, "softmax_loss", watching)
    monkeypatch.setattr(training, "median_frequency_weights", lambda maps, classes: [
        sum(labels.size for labels in maps), classes])
    run("plain", recipe=Recipe(epochs=1, batch=2, crop=(16, 16)))
    assert asked == [None, None]
    run("balanced", recipe=Recipe(epochs=1, batch=5, crop=(16, 16), balance=True))
    assert asked[2:] == [[5 * 40 * 52, 2]]


# --- what goes wrong ------------------------------------------------------------------------------

def test_too_few_photos(run, tmp_path):
    with pytest.raises(TrainingError, match="^5 photos do not make a batch of 6$"):
        run("run", recipe=Recipe(batch=6))
    assert os.listdir(tmp_path / "run") == []


def begun(run):
    """The folder of a run with one epoch done."""
    def stop(row):
        raise Stop

    with pytest.raises(Stop):
        run("run", report=stop)
    return run.folder("run")


def test_loss_that_is_not_finite(run):
    folder = begun(run)
    before = tensors(folder / "checkpoint.h5")
    photos = run.photos
    net = small_net()
    forward = net.forward
    net.forward = lambda x, keep=False: forward(x, keep) * np.float32(np.nan)
    with pytest.raises(TrainingError, match=r"^the loss is nan at step 3 of 6: try a lower rate$"):
        run("run", net=net, photos=photos)
    assert tensors(folder / "checkpoint.h5") == before


def test_parameters_that_are_not_finite_are_not_saved(run, monkeypatch):
    folder = begun(run)
    before = tensors(folder / "checkpoint.h5")

    class Breaking(training.SGD):
        def step(self, rate):
            super().step(rate)
            if rate < 0.05:             # the last step of the epoch
                self.net.params["fc7/bias"][0] = np.inf

    monkeypatch.setattr(training, "SGD", Breaking)
    reason = "^fc7/bias is no longer finite after epoch 2: try a lower rate$"
    with pytest.raises(TrainingError, match=reason):
        run("run")
    assert tensors(folder / "checkpoint.h5") == before


def test_scores_of_val_photos_that_are_not_finite(run, monkeypatch):
    def overflow(*arguments):
        raise ValueError("the net's scores for this photo are not finite")

    monkeypatch.setattr(training, "evaluate", overflow)
    with pytest.raises(TrainingError, match="not finite: try a lower rate$"):
        run("run")
    assert os.listdir(run.folder("run")) == []


def test_far_too_high_a_rate(run):
    with pytest.raises(TrainingError, match="try a lower rate$"):
        run("run", recipe=Recipe(**{**vars(RECIPE), "rate": 1e6, "warm_up": 0, "epochs": 30}),
            net=small_net(batch_norm=False))


@pytest.mark.parametrize("name", ["best.h5", "checkpoint.h5"])
def test_full_disk(run, whole, monkeypatch, name):
    folder = begun(run)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write = weights.write

    def full(path, *rest, **options):
        if pathlib.Path(path).name == name:
            raise WeightsError(f"{path}: cannot be written: no space left on device")
        write(path, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(weights, "write", full)
        patch.setattr(training, "_mean_iu", lambda *arguments: 1.0)     # a new best
        with pytest.raises(TrainingError) as caught:
            run("run")
    assert str(caught.value) == f"{folder / name}: cannot be written: no space left on device"
    assert (folder / "checkpoint.h5").read_bytes() == before["checkpoint.h5"]
    check_same(run("run"), whole)


def test_full_disk_when_only_the_log_is_left(run, whole, monkeypatch):
    folder = begun(run)
    text = (folder / "log.csv").read_bytes()
    write = training._write_text

    def full(path, text):
        if text.count("\n") > 2:
            raise TrainingError(f"{path}: No space left on device")
        write(path, text)

    with monkeypatch.context() as patch:
        patch.setattr(training, "_write_text", full)
        with pytest.raises(TrainingError, match="log.csv: No space left on device"):
            run("run")
    assert (folder / "log.csv").read_bytes() == text
    check_same(run("run"), whole)


def damage(path, kind):
    content = bytearray(path.read_bytes())
    if kind == "truncated":
        del content[len(content) // 2:]
    elif kind == "empty":
        content.clear()
    elif kind == "text":
        content[:] = b"no checkpoint"
    else:
        content[len(content) // 2] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["truncated", "empty", "text", "one byte"])
def test_damaged_checkpoint(run, kind):
    folder = begun(run)
    damage(folder / "checkpoint.h5", kind)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(WeightsError) as caught:
        run("run")
    assert str(caught.value).startswith(f"{folder / 'checkpoint.h5'}: ")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_checkpoint_that_is_none(run):
    folder = begun(run)
    os.replace(folder / "best.h5", folder / "checkpoint.h5")
    with pytest.raises(WeightsError, match="does not fit fcn16s: .* missing: velocity/conv1_1"):
        run("run")


def test_checkpoint_of_another_net(run):
    begun(run)
    with pytest.raises(WeightsError, match="does not fit fcn16s: .* misshaped"):
        run("run", net=small_net(fc_channels=7))


def test_checkpoint_of_other_data(run):
    begun(run)
    with pytest.raises(TrainingError, match="began with 5 photos, now there are 4"):
        run("run", photos=run.photos[:4])


def test_checkpoint_that_does_not_say_how_far_it_got(run):
    path = begun(run) / "checkpoint.h5"
    stored, about = weights.read(path), weights.describe(path)
    net = small_net()
    before = {name: w.tobytes() for name, w in net.params.items()}
    good = about["training"]
    for state in (None, {}, [1], {**good, "epoch": "1"}, {**good, "epoch": 2},
                  {**good, "best": None}, {**good, "log": [3]}, {**good, "log": {}},
                  {**good, "epoch": 0, "log": []}):
        weights.write(path, stored, {**about, "training": state})
        with pytest.raises(WeightsError, match="does not say how far its training got"):
            run("run", net=net)
        assert {name: w.tobytes() for name, w in net.params.items()} == before


def test_checkpoint_without_the_number_of_photos(run, whole):
    path = begun(run) / "checkpoint.h5"
    about = weights.describe(path)
    del about["training"]["photos"], about["preprocessing"]
    weights.write(path, weights.read(path), about)
    check_same(run("run"), whole)


def test_val_pair_that_cannot_be_read(run, pairs, tmp_path):
    bad = Pair("bad", pairs[1][0].image, tmp_path / "none.png")
    with pytest.raises(DataError, match="none.png: No such file"):
        run("run", val=[bad])


# --- recipe and config ----------------------------------------------------------------------

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
])
def test_recipe_that_makes_no_sense(settings, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Recipe(**settings)


CONFIG = {"model": "fcn8s", "data": "d", "init": None, "net": {"width": 0.5},
          "recipe": {"epochs": 3, "crop": [5, 6]}}


def test_config(tmp_path):
    assert not training.has_run(tmp_path)
    training.write_config(tmp_path, CONFIG)
    assert training.has_run(tmp_path)
    config = training.read_config(tmp_path)
    assert config == {**CONFIG, "recipe": Recipe(epochs=3, crop=[5, 6])}
    with pytest.raises(TrainingError, match="there is a run already"):
        training.write_config(tmp_path, CONFIG)
    assert os.listdir(tmp_path) == ["config.json"]


@pytest.mark.parametrize("content, reason", [
    (None, "no run to go on with (No such file or directory)"),
    ("", "damaged ("),
    ("[" * 100000, "damaged ("),
    ("[]", "damaged (it does not say its model)"),
    ({**CONFIG, "data": 3}, "damaged (it does not say its data)"),
    ({**CONFIG, "init": 3}, "damaged (it does not say its init)"),
    ({**CONFIG, "net": None}, "damaged (it does not say its net)"),
    ({**CONFIG, "recipe": {"epochs": 0}}, "damaged (epochs cannot be 0)"),
    ({**CONFIG, "recipe": {"rate": 10 ** 400}}, "damaged (rate cannot be 1"),
    ({**CONFIG, "recipe": {"new": 0}}, "damaged ("),
])
def test_config_that_makes_no_sense(tmp_path, content, reason):
    if content is not None:
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(TrainingError) as caught:
        training.read_config(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'config.json'}: {reason}")
    assert str(caught.value).isprintable()


def test_config_on_a_full_disk(tmp_path, monkeypatch):
    def fsync(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(TrainingError, match="config.json: No space left on device"):
        training.write_config(tmp_path, CONFIG)
    assert os.listdir(tmp_path) == []


# --- real photos --------------------------------------------------------------------------------

def test_loss_falls_on_real_photos(test_data, tmp_path):
    pairs = find_pairs(test_data("camvid"), "train")[::100][:4]
    photos = [read_pair(pair, 11, 11) for pair in pairs]
    net = models.FCN8s(classes=11, width=1 / 16, fc_channels=16, batch_norm=True, init="scratch")
    recipe = Recipe(epochs=12, batch=4, crop=(96, 128), rate=0.1, warm_up=2)
    log = training.train(net, photos, [], 11, recipe, tmp_path)
    losses = [row["loss"] for row in log]
    assert len(losses) == 12
    assert np.mean(losses[-3:]) < 0.75 * np.mean(losses[:2])
