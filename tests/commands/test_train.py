"""The train command: what it writes, says and returns, and that nothing is lost."""
import csv
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import types

import numpy as np
import pytest
from PIL import Image

import tinyfcn
from tinyfcn import learner, loading, models, train, training, training_options, weights
from tinyfcn.weights import hdf5_file

SMALL = ["--model", "fcn32s", "--width", "0.03125", "--fc-channels", "6", "--batch-norm",
         "--epochs", "3", "--batch", "2", "--crop", "33", "40", "--warm-up", "2", "--seed", "3"]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Nets this small are slower with more."""
    monkeypatch.setenv("TINYFCN_THREADS", "1")
    before = tinyfcn.set_threads(1)
    yield
    tinyfcn.set_threads(before)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder that is the current one."""
    path = tmp_path / "here"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


@pytest.fixture
def new(folder, data_set):
    """The arguments of a small new run in the folder `run`."""
    return ["--data", data_set(), "-o", "run", *SMALL]


def run(capsys, *arguments):
    """Run the command in this process. Returns the exit code, and the lines of both streams."""
    code = train.main([str(each) for each in arguments])
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err.splitlines()


def fails(capsys, code, message, *arguments):
    """The command ends with this code and says one line, which begins with this message."""
    found, out, err = run(capsys, *arguments)
    err = [line for line in err if "parameters;" not in line]
    assert (found, out) == (code, []) and len(err) == 1, err
    assert err[0].startswith(f"tinyfcn-train: {message}"), err[0]
    assert err[0].isprintable()


def tensors(name):
    return {name: array.tobytes() for name, array in weights.read(name).items()}


def files(folder):
    return sorted(os.listdir(folder))


KEPT = ["best.h5", "checkpoint.h5", "config.json", "curve.png", "last.h5", "log.csv"]
ALL = [".lock", *KEPT, "samples"]


# --- results --------------------------------------------------------------------------------

def test_a_run(new, capsys):
    code, out, err = run(capsys, *new)
    assert code == 0
    assert files("run") == ALL
    with open("run/log.csv", newline="") as file:
        log = list(csv.DictReader(file))
    assert [row["epoch"] for row in log] == ["1", "2", "3"]
    for line, row in zip(out, log, strict=True):
        values = re.fullmatch(
            r"epoch (\d)/3  loss (\S+)  val mean IU (\S+) %  rate (\S+)  (\S+) images/s  waited "
            r"(\S+) s for data  \d+ (?:s|min) left", line).groups()
        columns = "epoch", "loss", "val_mean_iu", "rate", "images_per_second", \
            "seconds_waited_for_data"
        factors = 1, 1, 0.01, 1, 1, 1
        assert [float(value) * factor for value, factor in zip(values, factors)] == pytest.approx(
            [float(row[name]) for name in columns], rel=1e-3, abs=0.06)
    assert out[-1].endswith("  0 s left")
    assert {"images_per_second", "seconds_waited_for_data", "val_mean_iu"} <= set(log[0])
    assert err[-2].startswith("tinyfcn-train: fcn32s, 0.0")
    assert err[-2].endswith(" M parameters; 5 photos to train on, 2 to validate")
    assert err[-1] == "tinyfcn-train: done, 3 epochs: run/best.h5"

    config = json.loads(pathlib.Path("run/config.json").read_text())
    assert config["model"] == "fcn32s" and config["data"] == str(new[1]) and not config["init"]
    assert config["net"] == {"width": 0.03125, "fc_channels": 6, "batch_norm": True,
                             "upsampling": "fixed", "dropout": 0.3, "geometry": "same"}
    assert config["recipe"] == {
        "epochs": 3, "batch": 2, "crop": [33, 40], "rate": 0.05, "warm_up": 2, "optimizer": "sgd",
        "momentum": 0.9, "average": 0.0, "decay": 0.0005, "balance": False, "seed": 3,
        "iterations": None, "accumulate": 1, "loss": "mean", "schedule": "poly", "power": 0.9,
        "gamma": 0.1, "drop_every": None, "nesterov": False, "bias_rate": 1.0, "layer_rates": {},
        "freeze": [], "class_weights": None, "early_stop": 0}

    net = loading.load_model("run/best.h5", model="fcn32s")
    assert net.class_names == ["dark", "bright"] and net.ignore_label == 9
    assert net.colours == [(0, 0, 255), (255, 255, 0)]
    facts = weights.describe("run/best.h5")["training"]
    assert facts["rate"] <= 0.05 and facts["seed"] == 3 and facts["crop"] == [33, 40]


@pytest.fixture
def started(new, capsys, monkeypatch):
    """Give a function from options to what the training is called with."""
    def start(*options):
        seen = {}

        def watching(net, photos, task, ignore_label, recipe, folder, **rest):
            seen.update(rest, net=net, photos=photos, recipe=recipe, task=task, folder=folder)
            return []

        shutil.rmtree("run", ignore_errors=True)
        with monkeypatch.context() as patch:
            patch.setattr(training, "train", watching)
            code, _, err = run(capsys, *new, *options)
        assert code == 0, err
        return types.SimpleNamespace(**seen)

    return start


def test_options_reach_the_run(started):
    seen = started("--model", "fcn8s", "--dropout", "0.25", "--rate", "0.5",
                   "--upsampling", "learned", "--momentum", "0.5", "--decay", "0", "--balance",
                   "--geometry", "caffe", "--optimizer", "adamw", "--average", "0.5",
                   "--nesterov", "--loss", "sum", "--schedule", "step", "--gamma", "0.25",
                   "--drop-every", "7", "--power", "2", "--accumulate", "2", "--bias-rate", "2",
                   "--layer-rate", "score_pool4=0.01", "--layer-rate", "conv1=0", "--freeze",
                   "conv2", "fc6", "--early-stop", "3", "--workers", "2", "--save-every", "0.5")
    assert seen.net.name == "fcn8s" and seen.task.ignore_label == 9
    assert len(seen.task.val_pairs) == 2
    arguments = seen.net.arguments
    assert (arguments["upsampling"], arguments["geometry"]) == ("learned", "caffe")
    assert arguments["dropout"] == 0.25 and arguments["classes"] == 2
    recipe = vars(seen.recipe)
    expected = {"rate": 0.5, "momentum": 0.5, "decay": 0, "balance": True, "optimizer": "adamw",
                "average": 0.5, "nesterov": True, "loss": "sum", "schedule": "step",
                "gamma": 0.25, "drop_every": 7, "power": 2, "accumulate": 2, "bias_rate": 2,
                "layer_rates": {"score_pool4": 0.01, "conv1": 0}, "freeze": ["conv2", "fc6"],
                "early_stop": 3}
    assert {name: recipe[name] for name in expected} == expected
    assert (seen.workers, seen.save_minutes, seen.device) == (2, 0.5, "cpu")
    assert len(seen.photos) == 5 and seen.photos[0][0].shape == (40, 52, 3)


def test_other_ways_to_say_how_to_train(started):
    assert started("--class-weights", "median").recipe.class_weights == "median"
    assert started("--class-weights", "0.5,2").recipe.class_weights == [0.5, 2]
    assert started("--model", "fcn8s", "--at-once").net.name == "fcn8s-atonce"
    options = training_options.parse("p", ["--data", "d", "-o", "r", "--whole-photos"])
    assert training_options.config(options)["recipe"].crop is None


def test_recipes_of_the_paper(folder, data_set, started):
    """Settings that are given hold, the others are the recipe's."""
    recipe = started("--recipe", "voc-fcn32s").recipe
    given = {"epochs": 3, "batch": 2, "crop": [33, 40], "warm_up": 2, "seed": 3}
    assert {name: vars(recipe)[name] for name in given} == given
    assert (recipe.rate, recipe.momentum, recipe.loss) == (1e-10, 0.99, "sum")
    assert recipe.iterations is None                # --epochs holds

    options = training_options.parse("p", ["--data", "d", "-o", "r", "--recipe", "voc-fcn32s"])
    config = training_options.config(options)
    assert config["recipe"].iterations == 100_000 and config["recipe"].crop is None
    assert config["net"] == {"width": 1, "fc_channels": 4096, "batch_norm": False,
                             "upsampling": "fixed", "dropout": 0.5, "geometry": "caffe"}
    options = training_options.parse("p", ["--data", "d", "-o", "r", "--recipe", "voc-staged"])
    assert [(stage["model"], stage["rate"]) for stage in training_options.config(options)["stages"]
            ] == [("fcn32s", 1e-10), ("fcn16s", 1e-12), ("fcn8s", 1e-14)]


def test_without_val_photos(folder, data_set, capsys):
    root = data_set(val=0)
    os.rmdir(root / "images/val")
    code, out, _ = run(capsys, "--data", root, "-o", "run", *SMALL, "--epochs", "1")
    assert code == 0 and "IU" not in out[0]
    assert files("run") == [name for name in ALL if name != "samples"]
    fails(capsys, 2, "--early-stop needs a val split", "--data", root, "-o", "other", *SMALL,
          "--early-stop", "2")


def test_weights_to_begin_with(new, capsys, data_set):
    assert run(capsys, *new, "--epochs", "1")[0] == 0
    net = loading.load_model("run/best.h5")
    net.class_names, net.colours = ["other", "names"], [(1, 2, 3), (4, 5, 6)]
    net.preprocessing = {**net.preprocessing, "mean": [0.25, 0.5, 0.75]}
    loading.save_model(net, "init.h5")
    # A rate that is zero in float32, so that even a parameter of zero stays: what was begun with
    # is what comes out.
    code, _, _ = run(capsys, "--data", new[1], "-o", "second", *SMALL, "--init", "init.h5",
                     "--rate", "1e-60", "--decay", "0", "--epochs", "1")
    assert code == 0
    stored = tensors("second/best.h5")
    for name, array in tensors("init.h5").items():
        assert "running" in name or stored[name] == array, name
    second = loading.load_model("second/best.h5")
    assert second.preprocessing["mean"] == [0.25, 0.5, 0.75]
    assert second.class_names == ["dark", "bright"]
    # Once begun, the run needs the file no more.
    os.unlink("init.h5")
    assert run(capsys, "--resume", "second")[0] == 0


@pytest.mark.parametrize("kind", ["classifier", "convolutions", "fcn16s", "torchvision"])
def test_the_net_is_as_the_weights_show_it(new, capsys, kind):
    options = {"width": 0.0625, "fc_channels": 9, "batch_norm": kind != "torchvision"}
    path = "init.h5"
    if kind == "fcn16s":
        options |= {"upsampling": "learned", "geometry": "caffe"}
        loading.save_model(models.FCN16s(classes=3, init="scratch", **options), path)
    elif kind == "torchvision":
        path = "vgg16.npz"
        np.savez(path, **torchvision_vgg16((4, 8, 16, 32, 32), 9, 3))
    else:
        net = models.VGG16(classes=3, **options)
        if kind == "convolutions":
            weights.write(path, {key: array for key, array in net.params.items()
                                 if key.startswith(("conv", "bn"))}, {})
            options["fc_channels"] = 384
        else:
            loading.save_model(net, path)
    chosen = [*new[:2], "--batch", "2", "--iterations", "1", "--init", path]
    code, _, err = run(capsys, *chosen, "-o", "run")
    assert code == 0, err
    net = json.loads(pathlib.Path("run/config.json").read_text())["net"]
    assert net == {"upsampling": "fixed", "geometry": "same", "dropout": 0.3, **options}
    # What is asked for goes before what the weights show.
    code, _, err = run(capsys, *chosen, "-o", "other", "--width", "0.03125")
    assert code == 3 and "misshaped: conv1_1/weights is (3, 3, 3, 4) in the file" in err[-1]


def torchvision_vgg16(channels, fc_channels, classes):
    """Tensors of zeros by the names that torchvision gives VGG-16's."""
    sizes, inputs = {}, 3
    blocks = (0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)
    for numbers, outputs in zip(blocks, channels):
        for number in numbers:
            sizes[f"features.{number}"] = outputs, inputs, 3, 3
            inputs = outputs
    sizes |= {"classifier.0": (fc_channels, 49 * inputs), "classifier.3": (fc_channels,) * 2,
              "classifier.6": (classes, fc_channels)}
    shapes = {f"{layer}.weight": shape for layer, shape in sizes.items()}
    shapes |= {f"{layer}.bias": shape[:1] for layer, shape in sizes.items()}
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("kind, kept", [
    ("classifier", ("score",)), ("convolutions", ("score", "fc")), ("fcn8s", ("score",))])
def test_weights_of_other_nets_to_begin_with(new, capsys, kind, kept):
    options = {"width": 0.03125, "fc_channels": 6, "batch_norm": True, "init": "scratch",
               "seed": 8}
    net = models.FCN8s(classes=7, **options) if kind == "fcn8s" else \
        models.VGG16(classes=7, input_size=224, **options)
    if kind == "convolutions":
        weights.write("init.h5", {key: array for key, array in net.params.items()
                                  if key.startswith(("conv", "bn"))}, {"model": "vgg16"})
    else:
        loading.save_model(net, "init.h5")
    code, _, err = run(capsys, *new, "--init", "init.h5", "--rate", "1e-30", "--decay", "0",
                       "--epochs", "1")
    assert code == 0, err
    assert any("keep their start, for training" in line for line in err)
    stored = weights.read("run/last.h5")
    for key, array in net.params.items():
        if not key.startswith((*kept, "fc8", "upscore")) and "running" not in key:
            np.testing.assert_array_equal(stored[key].ravel(), array.ravel(), key)
    assert abs(stored["score_fr/weights"]).max() < 1e-20


# --- going on -----------------------------------------------------------------------------------

KILLED = """
import json, os, random, signal, sys, time
# Imported before any process is forked, but nothing runs here: threads do not survive a fork.
from tinyfcn import checkpoints, learner, tasks, train, training, weights
from tinyfcn.kernels import cpu
import tinyfcn.panels, tinyfcn.curves

resume, new = ["--resume", "killed", "--save-every", "0"], sys.argv[1:]
moment, steps = random.Random(7), []
for index in range(20):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, 1)
        whole_step = training._Run.step
        def step(self, loader):
            whole_step(self, loader)
            os.write(write, b".")
        training._Run.step = step
        os._exit(train.main(resume if os.path.exists("killed/config.json") else new))
    os.close(write)
    for _ in range(moment.randint(1, 4)):       # so many steps, or to the end
        os.read(read, 1)
    time.sleep(moment.uniform(0, 0.1))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(read)
    stored = {name: weights.describe("killed/" + name) for name in ("checkpoint.h5", "last.h5",
              "best.h5") if os.path.exists("killed/" + name)}
    if "checkpoint.h5" in stored:
        weights.read("killed/checkpoint.h5")
    steps.append(stored.get("checkpoint.h5", {}).get("training", {}).get("step", 0))
print(json.dumps(steps))
sys.exit(train.main(resume))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_killed_at_twenty_moments(new, capsys):
    """There is always a checkpoint that can be read, and the end is the same."""
    new.remove("--batch-norm")
    options = ["--epochs", "20", "--average", "0.9", "--optimizer", "adamw", "--rate", "0.001",
               "--save-every", "0"]
    assert run(capsys, *new, *options)[0] == 0
    arguments = [str(each) for each in (*new, *options)]
    arguments[arguments.index("run")] = "killed"
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True,
                          text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    steps = json.loads(done.stdout.splitlines()[0])
    assert len(steps) == 20 and steps == sorted(steps)
    assert len(set(steps)) > 5 and any(step % 2 for step in steps), steps
    for name in ("checkpoint.h5", "best.h5", "last.h5"):
        assert tensors(f"killed/{name}") == tensors(f"run/{name}"), name
    assert files("killed") == ALL


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt(new, capsys, number):
    running = subprocess.Popen(
        [sys.executable, "-m", "tinyfcn.train", *map(str, new), "--epochs", "1000", "--workers",
         "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout.readline().startswith("epoch 1/1000 ")
    running.send_signal(number)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert err.splitlines()[-2:] == [
        "tinyfcn-train: saving, then stopping; another interrupt stops at once",
        "tinyfcn-train: interrupted; to go on: tinyfcn-train --resume run"]
    assert files("run") == ALL
    state = weights.describe("run/checkpoint.h5")["training"]
    assert 2 <= state["step"] < 2000
    assert loading.load_model("run/last.h5").name == "fcn32s"


def test_two_runs_in_one_folder(new, capsys, started):
    """The second is refused, whether it begins one or goes on."""
    assert run(capsys, *new, "--epochs", "1")[0] == 0
    before = {name: pathlib.Path("run", name).read_bytes() for name in KEPT}
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys; from tinyfcn import runs\n"
         "with runs.locked('run'): print('held', flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        fails(capsys, 1, "run: another process is training in this folder", "--resume", "run")
        os.unlink("run/config.json"), os.unlink("run/checkpoint.h5")
        fails(capsys, 1, "run: another process is training in this folder", *new)
        assert not os.path.exists("run/config.json")
    finally:
        holder.communicate("")
    for name, content in before.items():
        pathlib.Path("run", name).write_bytes(content)
    assert run(capsys, "--resume", "run")[0] == 0


# --- stages ---------------------------------------------------------------------------------------

STAGED = ["--staged", "--model", "fcn8s", "--epochs", "2", "--stage-rates", "0.05", "0.02", "0.01"]


def test_stages(new, capsys):
    code, out, err = run(capsys, *new, *STAGED, "--init", first_net(), "--layer-rate",
                         "score_pool4=0.01", "--freeze", "conv1")
    assert code == 0, err
    assert [line.split("  ")[0] for line in out] == [
        f"{model} epoch {epoch}/2" for model in ("fcn32s", "fcn16s", "fcn8s") for epoch in (1, 2)]
    assert [line for line in err if "done" in line] == [
        f"tinyfcn-train: {model} done, 2 epochs: run/{model}/best.h5"
        for model in ("fcn32s", "fcn16s", "fcn8s")]
    assert files("run") == [".lock", "config.json", "fcn16s", "fcn32s", "fcn8s"]
    for model, rate in ("fcn32s", 0.05), ("fcn16s", 0.02), ("fcn8s", 0.01):
        assert files(f"run/{model}") == ALL
        config = json.loads(pathlib.Path(f"run/{model}/config.json").read_text())
        assert (config["model"], config["recipe"]["rate"]) == (model, rate)
        assert config["recipe"]["layer_rates"] == (
            {} if model == "fcn32s" else {"score_pool4": 0.01})
        assert loading.load_model(f"run/{model}/best.h5").name == model
    assert config["init"] == os.path.abspath("run/fcn16s/best.h5")
    # Interrupted within a stage and between two, it goes on to the same.
    expected = {model: tensors(f"run/{model}/checkpoint.h5") for model in ("fcn16s", "fcn8s")}
    shutil.rmtree("run/fcn8s")
    os.unlink("run/fcn16s/checkpoint.h5")
    code, out, err = run(capsys, "--resume", "run")
    assert code == 0 and [line.split("  ")[0] for line in out] == [
        f"{model} epoch {epoch}/2" for model in ("fcn16s", "fcn8s") for epoch in (1, 2)]
    for model, found in expected.items():
        assert tensors(f"run/{model}/checkpoint.h5") == found
    code, out, _ = run(capsys, "--resume", "run")
    assert (code, out) == (0, [])


def first_net():
    """A file of FCN-32s for other classes, to begin with."""
    net = models.FCN32s(classes=5, width=0.03125, fc_channels=6, batch_norm=True, init="scratch")
    net.class_names = list("abcde")
    loading.save_model(net, "first.h5")
    return "first.h5"


def test_interrupt_before_anything_is_written(new, capsys, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("tinyfcn.data.loader.read_pair", interrupt)
    fails(capsys, 130, "interrupted", *new)
    assert not os.path.exists("run")


@pytest.mark.parametrize("call", [1, 5, 60])
def test_interrupt_while_saving(new, capsys, monkeypatch, call):
    assert run(capsys, *new)[0] == 0
    expected = tensors("run/checkpoint.h5")
    write, calls = hdf5_file._PatientFile.write, []

    def interrupted(self, data):
        calls.append(data)
        if len(calls) == call:
            raise KeyboardInterrupt
        return write(self, data)

    arguments = [str(each).replace("run", "second") for each in new]
    with monkeypatch.context() as patch:
        patch.setattr(hdf5_file._PatientFile, "write", interrupted)
        code, _, err = run(capsys, *arguments)
    assert len(calls) >= call
    assert code == 130, err
    assert err[-1] == "tinyfcn-train: interrupted; to go on: tinyfcn-train --resume second"
    assert not [each for each in files("second") if each.endswith(".tmp")]
    assert run(capsys, "--resume", "second")[0] == 0
    assert tensors("second/checkpoint.h5") == expected


def test_resume_of_a_finished_run(new, capsys):
    assert run(capsys, *new, "--epochs", "1")[0] == 0
    before = {name: pathlib.Path("run", name).read_bytes() for name in KEPT}
    code, out, err = run(capsys, "--resume", "run")
    assert (code, out) == (0, []) and err[-1].startswith("tinyfcn-train: done, 1 epochs: ")
    assert {name: pathlib.Path("run", name).read_bytes() for name in KEPT} == before


def test_resume_of_nothing(folder, capsys):
    fails(capsys, 2, "none/config.json: no run to go on with (No such file", "--resume", "none")
    os.mkdir("empty")
    fails(capsys, 2, "empty/config.json: no run to go on with", "--resume", "empty")
    assert files(folder) == ["empty"] and files("empty") == []


@pytest.fixture
def begun(new, capsys):
    """A run of one epoch, all there is to do."""
    assert run(capsys, *new, "--epochs", "1")[0] == 0
    return pathlib.Path("run")


def change(path, part, **settings):
    content = json.loads(path.read_text())
    (content[part] if part else content).update(settings)
    path.write_text(json.dumps(content))


def test_damaged_config(begun, capsys):
    path = begun / "config.json"
    whole = path.read_text()
    for part, settings, reason in (
            ("recipe", {"epochs": 0}, "damaged (epochs cannot be 0)"),
            ("recipe", {"nonsense": 0}, "damaged ("),
            ("net", {"nonsense": 0}, "no net can be built from it ("),
            ("net", {"upsampling": "cubic"}, "no net can be built from it (upsampling must be"),
            ("net", {"width": "wide"}, "no net can be built from it ("),
            (None, {"model": "vgg16"}, "no net can be built from it (no such net: vgg16)"),
            (None, {"data": 7}, "damaged (it does not say its data)")):
        change(path, part, **settings)
        fails(capsys, 2, f"run/config.json: {reason}", "--resume", "run")
        path.write_text(whole)
    path.write_text(whole[:-20])
    fails(capsys, 2, "run/config.json: damaged (", "--resume", "run")


@pytest.mark.parametrize("length", [0, 7, 5000, 60000])
def test_truncated_checkpoint(begun, capsys, length):
    path = begun / "checkpoint.h5"
    path.write_bytes(path.read_bytes()[:length])
    before = {name: (begun / name).read_bytes() for name in KEPT}
    fails(capsys, 3, "run/checkpoint.h5: ", "--resume", "run")
    assert {name: (begun / name).read_bytes() for name in KEPT} == before


def test_checkpoint_of_another_net(begun, capsys):
    change(begun / "config.json", "net", fc_channels=7)
    fails(capsys, 3, "run/checkpoint.h5: does not fit fcn32s: ", "--resume", "run")


def test_data_that_changed_since(begun, capsys):
    root = pathlib.Path(json.loads((begun / "config.json").read_text())["data"])
    os.unlink(root / "images/train/0.png")
    fails(capsys, 1, "run/checkpoint.h5: the run began with 5 photos, now there are 4",
          "--resume", "run")
    os.rename(root, root.with_name("moved"))
    fails(capsys, 2, f"{root}: No such file", "--resume", "run")


# --- what goes wrong ----------------------------------------------------------------------------

def test_run_that_exists(begun, new, capsys):
    before = {name: (begun / name).read_bytes() for name in KEPT}
    fails(capsys, 2, "run: there is a run already; --resume goes on with it", *new)
    os.unlink(begun / "config.json")
    fails(capsys, 2, "run: there is a run already; --resume goes on with it", *new)
    assert all((begun / name).read_bytes() == before[name] for name in KEPT
               if name != "config.json")


def test_folder_that_cannot_be_written(new, folder, capsys):
    (folder / "file").write_text("")
    new[3] = "file"
    fails(capsys, 2, "file: cannot write to this folder: File exists", *new)
    new[3] = "file/run"
    fails(capsys, 2, "file/run: cannot write to this folder: Not a directory", *new)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_folder_without_permission(new, folder, capsys):
    (folder / "locked").mkdir(mode=0o500)
    new[3] = "locked"
    fails(capsys, 2, "locked: cannot write to this folder: Permission denied", *new)


def test_data_that_is_not_there(folder, data_set, capsys):
    def check(message):
        fails(capsys, 2, message, "--data", root, "-o", "run", *SMALL)
        assert files(folder) == []

    root = folder.parent / "none"
    check(f"{root}: No such file or directory")
    root = data_set()
    for index in range(5):
        os.unlink(root / f"images/train/{index}.png")
    check(f"{root}/images/train: no images in it")
    os.rmdir(root / "images/train")
    check(f"{root}/images/train: No such file or directory")
    (root / "classes.json").write_text("{}")
    check(f"{root}/classes.json: names must be")


def refuses(capsys, folder, root, *messages):
    """No run begins; a line for each of these messages, which ends with more."""
    code, out, err = run(capsys, "--data", root, "-o", "run", *SMALL)
    assert (code, out, files(folder)) == (1, [], [])
    assert len(err) == len(messages) and all(line.isprintable() for line in err)
    for line, message in zip(err, messages):
        assert line.startswith(f"tinyfcn-train: {message}"), line


@pytest.mark.parametrize("split, count", [("train", 5), ("val", 2)])
def test_bad_files_are_found_before_the_run_begins(folder, data_set, capsys, split, count):
    root = data_set()
    labels, photo = root / f"labels/{split}/1.png", root / f"images/{split}/1.png"
    good = labels.read_bytes()

    def check(message):
        refuses(capsys, folder, root, message,
                f"1 of {count} photos of {split} cannot be used")

    Image.fromarray(np.full((40, 52), 2, np.uint8)).save(labels)
    check(f"{labels}: holds the label 2: neither one of the 2 classes nor 9")
    Image.fromarray(np.zeros((52, 40), np.uint8)).save(labels)
    check(f"{labels}: 40x52 pixels, but its photo has 52x40")
    labels.write_bytes(good[:40])
    check(f"{labels}: not a label map: ")
    labels.write_bytes(good)
    photo.write_bytes(photo.read_bytes()[:1000])
    check(f"{photo}: damaged or truncated image: ")
    os.unlink(labels)
    check(f"{photo}: damaged or truncated image: ")


def test_all_bad_files_are_named(folder, data_set, capsys):
    root = data_set()
    for name in ("train/4", "train/0", "val/1"):
        os.unlink(root / f"labels/{name}.png")
    Image.fromarray(np.full((40, 52), 7, np.uint8)).save(root / "labels/train/2.png")
    refuses(capsys, folder, root,
            f"{root}/labels/train/0.png: No such file or directory",
            f"{root}/labels/train/2.png: holds the label 7: ",
            f"{root}/labels/train/4.png: No such file or directory",
            f"{root}/labels/val/1.png: No such file or directory",
            "3 of 5 photos of train cannot be used; 1 of 2 photos of val cannot be used")


def test_recipes_that_do_not_fit_the_net_or_the_data(new, folder, capsys):
    fails(capsys, 2, "fcn32s has no layer conv7", *new, "--freeze", "conv1", "conv7")
    fails(capsys, 2, "fcn32s has no layer score_pool4", *new, "--layer-rate", "score_pool4=0.1")
    fails(capsys, 2, "3 class weights for 2 classes", *new, "--class-weights", "1,2,3")
    assert files(folder) == []


def test_too_few_photos(new, folder, capsys):
    fails(capsys, 2, "5 photos do not make a batch of 6", *new, "--batch", "6")
    assert files(folder) == []


@pytest.mark.parametrize("content", [None, b"", b"text", "other", "half"])
def test_wrong_weights_to_begin_with(new, folder, capsys, content):
    net = models.FCN32s(classes=2, width=1 / 32, fc_channels=7, batch_norm=True)
    if content in ("other", "half"):
        loading.save_model(net, "init.h5")
        if content == "half":
            whole = pathlib.Path("init.h5").read_bytes()
            pathlib.Path("init.h5").write_bytes(whole[:len(whole) // 2])
    elif content is not None:
        pathlib.Path("init.h5").write_bytes(content)
    path = folder / "init.h5"
    reason = "does not fit fcn32s: " if content == "other" else ""
    fails(capsys, 3, f"{path}: {reason}", *new, "--init", "init.h5")
    assert not os.path.exists("run")


def test_loss_that_is_not_finite(new, capsys):
    code, out, err = run(capsys, *new, "--rate", "1e6", "--warm-up", "0", "--epochs", "20")
    assert code == 1
    assert err[-1].endswith("try a lower rate") and "Traceback" not in "".join(err)


def test_full_disk(new, capsys, monkeypatch):
    write, calls = weights.write, []

    def full(path, *rest, **options):
        if pathlib.Path(path).name == "checkpoint.h5":
            calls.append(path)
            if len(calls) == 2:
                patch.setattr("shutil.disk_usage", lambda folder: types.SimpleNamespace(free=0))
        write(path, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(weights, "write", full)
        code, out, err = run(capsys, *new)
    assert code == 1 and len(out) == 1
    assert err[-1].startswith("tinyfcn-train: run/") and err[-1].endswith(
        ".h5: cannot be written: no space left on device")
    assert weights.describe("run/checkpoint.h5")["training"]["step"] == 2


def test_memory_that_is_not_enough(new, capsys, monkeypatch):
    def none(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(learner, "softmax_loss", none)
    code, out, err = run(capsys, *new)
    assert (code, out) == (1, [])
    assert err[-1] == "tinyfcn-train: not enough memory: try a smaller --batch or --crop"


# --- usage ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("arguments, message", [
    ([], "a new run needs --data and --output, an old one --resume"),
    (["--data", "d"], "a new run needs --data and --output"),
    (["-o", "r"], "a new run needs --data and --output"),
    (["--resume", "r", "--epochs", "5"], "--epochs belongs to a new run"),
    (["--resume", "r", "--data", "d"], "--data belongs to a new run"),
    (["--check"], "--check needs --data"),
    (["--check", "-o", "r"], "--check needs --data"),
    (["--resume", "r", "--check"], "--check belongs to a new run"),
    (["--resume", "r", "--batch-norm"], "--batch-norm belongs to a new run"),
    (["--model", "unet"], "invalid choice: 'unet'"),
    (["--model", "vgg16"], "invalid choice: 'vgg16'"),
    (["--width", "0"], "--width: must be above 0 and at most 16, not 0"),
    (["--width", "17"], "--width: must be above 0 and at most 16, not 17"),
    (["--width", "nan"], "--width: must be above 0 and at most 16, not nan"),
    (["--fc-channels", "0"], "--fc-channels: must be at least 1"),
    (["--fc-channels", "1.5"], "--fc-channels: not a whole number: '1.5'"),
    (["--dropout", "1"], "--dropout: must be at least 0 and below 1, not 1"),
    (["--dropout", "-0.1"], "--dropout: must be at least 0 and below 1, not -0.1"),
    (["--upsampling", "cubic"], "invalid choice: 'cubic'"),
    (["--epochs", "0"], "--epochs: must be at least 1, not 0"),
    (["--epochs", "-3"], "--epochs: must be at least 1, not -3"),
    (["--batch", "0"], "--batch: must be at least 1, not 0"),
    (["--batch", "two"], "--batch: not a whole number: 'two'"),
    (["--crop", "0", "5"], "--crop: must be at least 1 and at most 8192, not 0"),
    (["--crop", "5", "8193"], "--crop: must be at least 1 and at most 8192, not 8193"),
    (["--crop", "5"], "--crop: expected 2 arguments"),
    (["--rate", "0"], "--rate: must be above 0"),
    (["--rate", "nan"], "--rate: must be above 0"),
    (["--rate", "inf"], "--rate: must be above 0"),
    (["--rate", "fast"], "--rate: not a number: 'fast'"),
    (["--warm-up", "-1"], "--warm-up: must be at least 0, not -1"),
    (["--momentum", "1"], "--momentum: must be at least 0 and below 1, not 1"),
    (["--decay", "-1"], "--decay: must be at least 0"),
    (["--decay", "inf"], "--decay: must be at least 0"),
    (["--seed", "-1"], "--seed: must be at least 0"),
    (["--staged", "--at-once"], "--staged and --at-once exclude each other"),
    (["--balance", "--class-weights", "median"], "--balance and --class-weights exclude each"),
    (["--class-weights", "1,x"], "--class-weights: not a number: 'x'"),
    (["--class-weights", "1,-1"], "--class-weights: must be at least 0"),
    (["--whole-photos", "--crop", "5", "5"], "--whole-photos and --crop exclude each other"),
    (["--epochs", "5", "--iterations", "5"], "--epochs and --iterations exclude each other"),
    (["--at-once", "--model", "fcn16s"], "--at-once trains fcn8s-atonce, not fcn16s"),
    (["--staged", "--model", "fcn8s-atonce"], "--staged: the stages lead to fcn32s, fcn16s, fcn8s"),
    (["--staged", "--stage-rates", "1", "2"], "--staged: 2 rates for the 3 stages up to fcn8s"),
    (["--stage-epochs", "1", "2", "3"], "--stage-epochs belongs to --staged"),
    (["--layer-rate", "fc6"], "--layer-rate: must be LAYER=X, not 'fc6'"),
    (["--layer-rate", "fc6=fast"], "--layer-rate: not a number: 'fast'"),
    (["--recipe", "voc"], "invalid choice: 'voc'"),
    (["--resume", "r", "--recipe", "voc-fcn8s"], "--recipe belongs to a new run"),
    (["--resume", "r", "--layer-rate", "fc6=1"], "--layer-rate belongs to a new run"),
    (["--early-stop", "0"], "--early-stop: must be at least 1"),
    (["--workers", "0"], "--workers: must be at least 1"),
    (["--save-every", "-1"], "--save-every: must be at least 0"),
    (["--frobnicate"], "unrecognized arguments: --frobnicate"),
])
def test_usage(folder, capsys, arguments, message):
    if not {"--data", "-o", "--resume", "--check"} & set(arguments) and arguments:
        arguments = ["--data", "d", "-o", "r", *arguments]
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, []) and len(err) == 1
    assert message in err[0] and err[0].startswith("tinyfcn-train: ")
    assert files(folder) == []


def test_help(capsys):
    code, out, err = run(capsys, "--help")
    text = " ".join(" ".join(out).split())
    assert (code, err) == (0, [])
    for option in ("--data", "--output", "--resume", "--init", "Exit codes", "(default: 288 384)",
                   "(default: 0.0005)", "--staged", "--at-once", "voc-fcn32s", "--early-stop"):
        assert option in text


def test_help_needs_nothing_heavy():
    program = ("import sys, tinyfcn.train\n"
               "tinyfcn.train.main(['--help'])\n"
               "print({'numpy', 'numba', 'h5py', 'PIL'} & set(sys.modules), file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr == "set()\n"
