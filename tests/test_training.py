"""Training: what a run writes, and that it goes on exactly as if it had never stopped."""
import csv
import json
import os
import pathlib
import signal

import numpy as np
import pytest
from PIL import Image

import tinyfcn
from tinyfcn import (
    evaluation, learner, loading, metrics, models, runs, tasks, training, weights)
from tinyfcn.data import loader
from tinyfcn.data.errors import DataError
from tinyfcn.data.folders import find_pairs
from tinyfcn.data.pairs import Pair, read_pair
from tinyfcn.inference import segment
from tinyfcn.recipes import Recipe
from tinyfcn.runs import TrainingError
from tinyfcn.weights import WeightsError

IGNORE = 9
RECIPE = Recipe(epochs=3, batch=2, crop=(33, 40), rate=0.05, warm_up=2, balance=True, seed=4)
# Five batches an epoch make steps of two, two and one; the third epoch ends after two steps.
ADAM = Recipe(iterations=8, batch=1, accumulate=2, crop=(33, 40), rate=0.01, warm_up=2,
              optimizer="adamw", average=0.8, schedule="cosine", bias_rate=2.0,
              layer_rates={"score*": 0.5}, freeze=["conv1"], seed=4)
TIMES = ("images_per_second", "seconds_waited_for_data")
FILES = ["best.h5", "checkpoint.h5", "curve.png", "last.h5", "log.csv", "samples"]


class Stop(BaseException):
    """As an interrupt that nothing catches."""


def small_net(classes=2, **options):
    net = models.FCN16s(**{"classes": classes, "width": 1 / 32, "fc_channels": 6,
                           "batch_norm": True, "dropout": 0.3, "upsampling": "learned",
                           "init": "scratch", "seed": 1, **options})
    net.class_names, net.colours = ["dark", "bright"], [(0, 0, 255), (255, 255, 0)]
    net.ignore_label = IGNORE
    net.preprocessing = {"channel_order": "RGB", "scale": 1 / 255, "mean": [0.5] * 3,
                         "std": [0.25] * 3}
    return net


@pytest.fixture(autouse=True)
def one_thread():
    """Nets this small are slower with more."""
    before = tinyfcn.set_threads(1)
    yield
    tinyfcn.set_threads(before)


@pytest.fixture
def pairs(data_set):
    root = data_set()
    return find_pairs(root, "train"), find_pairs(root, "val")


@pytest.fixture
def run(pairs, tmp_path):
    """Give a function that trains a new small net in a folder, which it returns."""
    photos = [read_pair(pair, 2, IGNORE) for pair in pairs[0]]

    def start(name, recipe=RECIPE, net=None, photos=photos, val=pairs[1], task=None, **options):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        task = task or tasks.Segmentation(val, IGNORE)
        training.train(net or small_net(), photos, task, IGNORE, recipe, folder, **options)
        return folder

    start.photos, start.folder = photos, tmp_path.joinpath
    return start


class Given(tasks.Segmentation):
    """Scores that are given, one after the other."""

    def __init__(self, scores):
        super().__init__([], IGNORE)
        self.scores = iter(scores)

    def score(self, net, progress=None):
        return {self.measure: next(self.scores)}, None


def tensors(path):
    return {name: array.tobytes() for name, array in weights.read(path).items()}


def rows(folder):
    with open(folder / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


def check_same(folder, other):
    """Two runs came to the same, bit for bit; only times may differ."""
    for name in ("checkpoint.h5", "best.h5", "last.h5"):
        assert tensors(folder / name) == tensors(other / name), name
    for sample in os.listdir(folder / "samples"):
        assert (folder / "samples" / sample).read_bytes() \
            == (other / "samples" / sample).read_bytes()
    texts = []
    for each in (folder, other):
        state = weights.describe(each / "checkpoint.h5")["training"]
        facts = [weights.describe(each / name)["training"] for name in ("best.h5", "last.h5")]
        for row in (*state["log"], *facts):
            for name in TIMES:
                del row[name]
        table = [{k: v for k, v in row.items() if k not in TIMES} for row in rows(each)]
        texts.append(json.dumps([state, facts, table]))
    assert texts[0] == texts[1]
    assert sorted(os.listdir(folder)) == sorted(os.listdir(other)) == FILES


@pytest.fixture(scope="module")
def kept_runs(tmp_path_factory):
    """What runs that were never stopped came to, which is the same every time."""
    return {}


@pytest.fixture
def whole(run, tmp_path, kept_runs):
    """Give a function from a recipe to the folder of a run that was never stopped."""
    def find(recipe=RECIPE):
        key = recipe.optimizer
        if key not in kept_runs:
            folder = run(f"whole-{key}", recipe)
            kept_runs[key] = {path.relative_to(folder): path.read_bytes()
                              for path in folder.rglob("*") if path.is_file()}
        folder = tmp_path / f"whole-{key}"
        for name, content in kept_runs[key].items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder

    return find


# --- going on -----------------------------------------------------------------------------------

class StopAt:
    """Raises Stop, or interrupts the process, at a moment of the progress."""

    def __init__(self, step, scoring=0, act=None):
        self.moment, self.act = (step, scoring), act

    def __call__(self, progress):
        if (progress.step, progress.scoring) == self.moment:
            if self.act is None:
                raise Stop
            self.act()


@pytest.mark.parametrize("recipe, step, scoring", [
    (RECIPE, 1, 0), (RECIPE, 4, 0), (RECIPE, 4, 1), (ADAM, 3, 2), (ADAM, 5, 0), (ADAM, 8, 1)])
def test_stopped_with_a_checkpoint_after_every_step(run, whole, recipe, step, scoring):
    with pytest.raises(Stop):
        run("halves", recipe, show=StopAt(step, scoring), save_minutes=0)
    path = run.folder("halves") / "checkpoint.h5"
    if step > 1:
        assert weights.describe(path)["training"]["step"] == step - (scoring == 0)
    # What a net begins with does not matter where there is a checkpoint.
    net = small_net(seed=77 if step > 1 else 1)
    check_same(run("halves", recipe, net=net), whole(recipe))


@pytest.mark.parametrize("recipe, step", [(RECIPE, 4), (ADAM, 7)])
def test_stopped_with_a_checkpoint_after_every_epoch(run, whole, recipe, step):
    with pytest.raises(Stop):
        run("halves", recipe, show=StopAt(step))
    check_same(run("halves", recipe), whole(recipe))


@pytest.mark.parametrize("recipe, step, scoring", [
    (RECIPE, 3, 0), (RECIPE, 4, 1), (ADAM, 2, 0), (ADAM, 6, 0)])
def test_an_interrupt_saves_and_ends(run, whole, recipe, step, scoring):
    lines = []
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run("halves", recipe, say=lines.append,
            show=StopAt(step, scoring, lambda: signal.raise_signal(signal.SIGINT)))
    assert lines == ["saving, then stopping; another interrupt stops at once"]
    assert signal.getsignal(signal.SIGINT) is handler
    path = run.folder("halves") / "checkpoint.h5"
    assert weights.describe(path)["training"]["step"] == step
    loading.load_model(run.folder("halves") / "last.h5")
    check_same(run("halves", recipe), whole(recipe))


def test_a_second_interrupt_ends_at_once(run, whole):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run("halves", show=StopAt(3, act=twice))
    path = run.folder("halves") / "checkpoint.h5"
    assert weights.describe(path)["training"]["step"] == 2
    check_same(run("halves"), whole())


@pytest.mark.parametrize("name", ["best.h5", "last.h5", "checkpoint.h5", "epoch_0002.jpg",
                                  "log.csv", "curve.png"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_stopped_while_saving(run, whole, monkeypatch, name, when):
    replace, seen = os.replace, []
    nth = 1 if name in ("best.h5", "epoch_0002.jpg") else 2

    def stopping(source, target):
        if pathlib.Path(target).name == name:
            seen.append(target)
            if len(seen) == nth and when == "before":
                raise Stop
        replace(source, target)
        if len(seen) == nth and when == "after":
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stopping)
        with pytest.raises(Stop):
            run("halves")
    check_same(run("halves"), whole())


def test_a_checkpoint_of_the_first_version_goes_on(run, whole):
    """It counted epochs, kept the best score, and was written between epochs alone."""
    with pytest.raises(Stop):
        run("halves", show=StopAt(3))
    path = run.folder("halves") / "checkpoint.h5"
    about = weights.describe(path)
    state = about["training"]
    about["training"] = {"epoch": 1, "best": state["log"][0]["val_mean_iu"], "log": state["log"],
                         "photos": 5}
    weights.write(path, weights.read(path), about)
    os.unlink(run.folder("halves") / "last.h5")
    check_same(run("halves"), whole())


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_finished_run_is_left_as_it_is(run, whole):
    folder = whole()
    before = contents(folder)
    reports = []
    run(folder.name, report=reports.append, show=reports.append)
    assert reports == []
    assert contents(folder) == before


def test_log_and_curve_are_written_anew_from_the_checkpoint(run, whole):
    folder = whole()
    before = contents(folder)
    (folder / "log.csv").write_text("lost")
    os.unlink(folder / "curve.png")
    run(folder.name)
    assert contents(folder) == before


def test_leftovers_of_a_killed_process_are_removed(run, whole):
    folder = whole()
    for name in (".checkpoint.h5.0123456789ab.tmp", ".best.h5.0123456789ab.tmp",
                 ".last.h5.0123456789ab.tmp", ".tinyfcn-0123.part", "samples/.tinyfcn-4567.part",
                 ".kept.tmp"):
        (folder / name).write_bytes(b"half")
    run(folder.name)
    assert sorted(os.listdir(folder)) == [".kept.tmp", *FILES]
    assert sorted(os.listdir(folder / "samples"))[0] == "epoch_0001.jpg"


def test_seed_decides(run, whole):
    check_same(run("again"), whole())
    other = run("other", recipe=Recipe(**{**vars(RECIPE), "seed": 5}))
    assert tensors(other / "best.h5") != tensors(whole() / "best.h5")


def test_workers_change_nothing(run, whole):
    check_same(run("many", ADAM, workers=5), whole(ADAM))


def test_preprocessing_is_that_of_the_checkpoint(run, whole):
    net = small_net()
    expected, net.preprocessing = net.preprocessing, {**net.preprocessing, "mean": [0] * 3}
    run(whole().name, net=net)
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


def test_progress(run):
    seen = []
    run("run", ADAM, show=seen.append)
    steps = [each for each in seen if not each.scoring]
    assert [(each.epoch, each.step) for each in steps] == [
        (1, 1), (1, 2), (1, 3), (2, 4), (2, 5), (2, 6), (3, 7), (3, 8)]
    assert {(each.epochs, each.steps) for each in seen} == {(3, 8)}
    assert [each.scoring for each in seen if each.scoring] == [1, 2] * 3
    assert all(each.loss > 0 < each.images_per_second for each in seen)
    assert steps[0].seconds_left > 0 == steps[-1].seconds_left


def test_samples_and_curve_are_pictures(run):
    folder = run("run")
    assert sorted(os.listdir(folder / "samples")) == [
        "epoch_0001.jpg", "epoch_0002.jpg", "epoch_0003.jpg"]
    with Image.open(folder / "samples/epoch_0003.jpg") as sample:
        # Two val photos: photo, net and truth, each of 52 x 40 made three times as large.
        assert sample.width > 3 * 156 and sample.height > 2 * 120
    with Image.open(folder / "curve.png") as curve:
        assert curve.size == (900, 640)


def test_last_is_the_net_as_it_is(run, whole):
    """Of the running average, where there is one."""
    for recipe in (RECIPE, ADAM):
        folder = whole(recipe)
        stored, last = tensors(folder / "checkpoint.h5"), tensors(folder / "last.h5")
        prefix = "average/" if recipe.average else ""
        assert last == {name: stored[prefix + name] for name in last}
        facts = weights.describe(folder / "last.h5")["training"]
        assert facts["steps"] == (8 if recipe.average else 6) and facts["epoch"] == 3
        assert facts["optimizer"] == recipe.optimizer and "val_mean_iu" in facts


def test_best_is_the_net_with_the_best_mean_iu(run, tmp_path):
    kept = []
    folder = run("run", task=Given([0.25, 0.5, 0.125]),
                 report=lambda row: kept.append(tensors(tmp_path / "run/best.h5")))
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


def test_early_stop(run):
    scores = [0.25, 0.5, 0.5, 0.125, None, 0.75, 0.8]
    recipe = Recipe(**{**vars(RECIPE), "epochs": 7, "early_stop": 3})
    folder = run("run", recipe, task=Given(scores))
    assert [row["val_mean_iu"] for row in rows(folder)] == ["0.25", "0.5", "0.5", "0.125", ""]
    # It stays stopped, and more patience goes on.
    run("run", recipe, task=Given([]))
    recipe = Recipe(**{**vars(recipe), "early_stop": 4})
    assert len(rows(run("run", recipe, task=Given(scores[5:])))) == 7


def test_early_stop_needs_scores(run):
    recipe = Recipe(**{**vars(RECIPE), "early_stop": 1})
    assert len(rows(run("run", recipe, val=[]))) == 3


def test_val_photos_without_a_labelled_pixel(run, data_set):
    root = data_set("void")
    pairs = find_pairs(root, "val")
    for pair in pairs:
        void = np.full_like(read_pair(pair, 2, IGNORE)[1], IGNORE)
        Image.fromarray(void).save(pair.labels)
    assert [row["val_mean_iu"] for row in rows(run("run", val=pairs))] == ["", "", ""]


def test_each_photo_is_seen_once_an_epoch_in_another_order(run, monkeypatch):
    view, seen = loader.random_view, []

    def watching(photo, labels, *rest):
        seen.append(next(i for i, each in enumerate(run.photos) if each[0] is photo))
        return view(photo, labels, *rest)

    monkeypatch.setattr(loader, "random_view", watching)
    run("run", recipe=Recipe(epochs=4, batch=1, crop=(16, 16), warm_up=0))
    epochs = [tuple(seen[i:i + 5]) for i in range(0, 20, 5)]
    assert len(seen) == 20 and all(sorted(each) == [0, 1, 2, 3, 4] for each in epochs)
    assert len(set(epochs)) > 1


def test_rare_classes_are_weighed_up_only_if_asked(run, monkeypatch):
    asked, loss = [], learner.softmax_loss

    def watching(scores, labels, ignore_label, class_weights, average):
        asked.append((class_weights, average))
        return loss(scores, labels, ignore_label, class_weights, average)

    monkeypatch.setattr(learner, "softmax_loss", watching)
    monkeypatch.setattr(training, "median_frequency_weights", lambda maps, classes: np.array([
        9 * (sum(labels.size for labels in maps) == 5 * 40 * 52), classes / 50]))
    options = {"epochs": 1, "batch": 5, "crop": (16, 16)}
    run("plain", recipe=Recipe(**options))
    run("balanced", recipe=Recipe(**options, balance=True))
    run("median", recipe=Recipe(**options, class_weights="median"))
    run("given", recipe=Recipe(**options, class_weights=[0.5, 2], loss="sum"))
    assert [(w if w is None else list(w), average) for w, average in asked] == [
        (None, True), ([3, 0.3], True), ([9, 0.04], True), ([0.5, 2], False)]


def test_whole_photos_are_seen_as_they_are(run, monkeypatch):
    seen = []
    net = small_net()
    forward = net.forward
    net.forward = lambda x, **options: seen.append(x) or forward(x, **options)
    run("run", Recipe(epochs=2, batch=1, crop=None), net=net, val=[])
    photos = [((photo / 255 - 0.5) / 0.25).sum() for photo, _ in run.photos]
    assert sorted(x.sum() for x in seen) == pytest.approx(sorted(2 * photos), rel=1e-4)
    photos = [(photo[:30], labels[:30]) for photo, labels in run.photos[:2]] + run.photos[2:]
    with pytest.raises(TrainingError, match="^no batch can be made: all input arrays must have"):
        run("mixed", Recipe(epochs=9, batch=2, crop=None), photos=photos)


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
    net = small_net()
    batch_norm = net.layers["bn3_2"].forward
    net.layers["bn3_2"].forward = lambda *inputs, **options: \
        batch_norm(*inputs, **options) * np.float32(np.nan)
    with pytest.raises(TrainingError) as caught:
        run("run", net=net)
    assert str(caught.value) == ("the loss is nan, not finite first in the output of bn3_2 at step "
                                 "3 of 6: try a lower rate")
    assert tensors(folder / "checkpoint.h5") == before


def test_parameters_that_are_not_finite_are_not_saved(run, monkeypatch):
    folder = begun(run)
    before = tensors(folder / "checkpoint.h5")

    class Breaking(learner.SGD):
        def step(self, rate, grads=None):
            super().step(rate, grads)
            if rate < 0.04:             # the last step of the second epoch
                self.net.params["fc7/bias"][0] = np.inf

    monkeypatch.setattr(learner, "SGD", Breaking)
    reason = "^fc7/bias is no longer finite after step 4 of 6: try a lower rate$"
    with pytest.raises(TrainingError, match=reason):
        run("run")
    assert tensors(folder / "checkpoint.h5") == before


def test_scores_of_val_photos_that_are_not_finite(run, monkeypatch):
    def overflow(*arguments, **options):
        raise ValueError("the net's scores for this photo are not finite")

    monkeypatch.setattr(tasks, "evaluate", overflow)
    with pytest.raises(TrainingError, match="not finite: try a lower rate$"):
        run("run")
    assert os.listdir(run.folder("run")) == []


def test_far_too_high_a_rate(run):
    with pytest.raises(TrainingError, match=r"first in the (output of|parameter) [\w/]+ at step "):
        run("run", recipe=Recipe(**{**vars(RECIPE), "rate": 1e6, "warm_up": 0, "epochs": 30}),
            net=small_net(batch_norm=False))


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
@pytest.mark.parametrize("name", ["last.h5", "checkpoint.h5"])
def test_files_that_the_system_does_not_take(run, whole, name):
    """It takes none beyond a size, as a full disk would; the others are smaller."""
    import resource

    folder = begun(run)
    before = contents(folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before[name]) - 1, hard))
    try:
        with pytest.raises(TrainingError) as caught:
            run("run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    reason = "cannot be written: File too large"
    assert str(caught.value) == f"{folder / name}: {reason}" \
        or name == "last.h5" and str(caught.value) == f"{folder / 'best.h5'}: {reason}"
    assert contents(folder)["checkpoint.h5"] == before["checkpoint.h5"]
    check_same(run("run"), whole())


@pytest.mark.parametrize("name", ["epoch_0002.jpg", "log.csv", "curve.png"])
def test_full_disk(run, whole, monkeypatch, name):
    folder = begun(run)
    before = contents(folder)
    write, calls = runs.write_file, []

    def full(path, content):
        calls.append(path.name)
        if path.name == name and calls.count(name) == (1 if name == "epoch_0002.jpg" else 2):
            raise TrainingError(f"{path}: No space left on device")
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(runs, "write_file", full)
        with pytest.raises(TrainingError, match=f"{name}: No space left on device"):
            run("run")
    if name == "epoch_0002.jpg":
        assert contents(folder)["checkpoint.h5"] == before["checkpoint.h5"]
    else:
        assert contents(folder)[name] == before[name]
    check_same(run("run"), whole())


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
    before = contents(folder)
    with pytest.raises(WeightsError) as caught:
        run("run")
    assert str(caught.value).startswith(f"{folder / 'checkpoint.h5'}: ")
    assert contents(folder) == before


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
    for state in (None, {}, [1], {**good, "step": "1"}, {**good, "step": 5},
                  {**good, "loss": None}, {**good, "log": [3]}, {**good, "log": {}},
                  {**good, "waited": "long"}, {**good, "step": 0, "log": []}, {"epoch": 2},
                  {**good, "photos": 2.5}):
        weights.write(path, stored, {**about, "training": state})
        with pytest.raises(WeightsError, match="does not say how far its training got"):
            run("run", net=net)
        assert {name: w.tobytes() for name, w in net.params.items()} == before


def test_checkpoint_without_the_number_of_photos(run, whole):
    path = begun(run) / "checkpoint.h5"
    about = weights.describe(path)
    del about["training"]["photos"], about["preprocessing"]
    weights.write(path, weights.read(path), about)
    check_same(run("run"), whole())


def test_val_pair_that_cannot_be_read(run, pairs, tmp_path):
    bad = Pair("bad", pairs[1][0].image, tmp_path / "none.png")
    with pytest.raises(DataError, match="none.png: No such file"):
        run("run", val=[bad])


# --- real photos --------------------------------------------------------------------------------

def test_loss_falls_on_real_photos(test_data, tmp_path):
    pairs = find_pairs(test_data("camvid"), "train")[::100][:4]
    photos = [read_pair(pair, 11, 11) for pair in pairs]
    net = models.FCN8s(classes=11, width=1 / 16, fc_channels=16, batch_norm=True, init="scratch")
    recipe = Recipe(epochs=12, batch=4, crop=(96, 128), rate=0.1, warm_up=2)
    log = training.train(net, photos, tasks.Segmentation([], 11), 11, recipe, tmp_path)
    losses = [row["loss"] for row in log]
    assert len(losses) == 12
    assert np.mean(losses[-3:]) < 0.75 * np.mean(losses[:2])
