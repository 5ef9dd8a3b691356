"""The train command: what it writes, says and returns, and that nothing is lost."""
import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import types

import numpy as np
import pytest
from PIL import Image

from tinyfcn import loading, models, train, training, weights
from tinyfcn.weights import hdf5_file

SMALL = ["--model", "fcn32s", "--width", "0.03125", "--fc-channels", "6", "--batch-norm",
         "--epochs", "3", "--batch", "2", "--crop", "33", "40", "--warm-up", "2", "--seed", "3"]


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


ALL = ["best.h5", "checkpoint.h5", "config.json", "log.csv"]


# --- results --------------------------------------------------------------------------------

def test_a_run(new, capsys):
    code, out, err = run(capsys, *new)
    assert code == 0
    assert files("run") == ALL
    with open("run/log.csv", newline="") as file:
        log = list(csv.DictReader(file))
    assert out == ["  ".join(f"{name} {value}" for name, value in row.items()) for row in log]
    assert [row["epoch"] for row in log] == ["1", "2", "3"]
    assert {"images_per_second", "seconds_waited_for_data", "val_mean_iu"} <= set(log[0])
    assert err[-2].startswith("tinyfcn-train: fcn32s, 0.0")
    assert err[-2].endswith(" M parameters; 5 photos to train on, 2 to validate")
    assert err[-1] == "tinyfcn-train: done, 3 epochs: run/best.h5"

    config = json.loads(pathlib.Path("run/config.json").read_text())
    assert config["model"] == "fcn32s" and config["data"] == str(new[1]) and not config["init"]
    assert config["net"] == {"width": 0.03125, "fc_channels": 6, "batch_norm": True,
                             "upsampling": "fixed", "dropout": 0.3}
    assert config["recipe"] == {
        "epochs": 3, "batch": 2, "crop": [33, 40], "rate": 0.05, "warm_up": 2, "momentum": 0.9,
        "decay": 0.0005, "balance": False, "seed": 3}

    net = loading.load_model("run/best.h5", model="fcn32s")
    assert net.class_names == ["dark", "bright"] and net.ignore_label == 9
    assert net.colours == [(0, 0, 255), (255, 255, 0)]
    facts = weights.describe("run/best.h5")["training"]
    assert facts["rate"] <= 0.05 and facts["seed"] == 3 and facts["crop"] == [33, 40]


def test_defaults_are_those_of_a_recipe():
    assert training.Recipe(**{**train.RECIPE, "crop": tuple(train.RECIPE["crop"])}) \
        == training.Recipe()


def test_options_reach_the_run(new, capsys, monkeypatch):
    seen = {}

    def watching(net, photos, val_pairs, ignore_label, recipe, folder, report, device):
        seen.update(net=net, photos=photos, recipe=recipe, ignore_label=ignore_label)
        return []

    monkeypatch.setattr(training, "train", watching)
    code, _, _ = run(capsys, *new, "--model", "fcn8s-atonce", "--dropout", "0.25", "--rate", "0.5",
                     "--upsampling", "learned", "--momentum", "0.5", "--decay", "0", "--balance")
    assert code == 0
    assert seen["net"].name == "fcn8s-atonce" and seen["ignore_label"] == 9
    assert seen["net"].arguments["upsampling"] == "learned"
    assert seen["net"].arguments["dropout"] == 0.25 and seen["net"].arguments["classes"] == 2
    recipe = seen["recipe"]
    assert (recipe.rate, recipe.momentum, recipe.decay, recipe.balance) == (0.5, 0.5, 0, True)
    assert len(seen["photos"]) == 5 and seen["photos"][0][0].shape == (40, 52, 3)


def test_without_val_photos(folder, data_set, capsys):
    root = data_set(val=0)
    os.rmdir(root / "images/val")
    code, out, _ = run(capsys, "--data", root, "-o", "run", *SMALL, "--epochs", "1")
    assert code == 0 and "val_mean_iu" not in out[0]
    assert files("run") == ALL


def test_weights_to_begin_with(new, capsys, data_set):
    assert run(capsys, *new, "--epochs", "1")[0] == 0
    net = loading.load_model("run/best.h5")
    net.class_names, net.colours = ["other", "names"], [(1, 2, 3), (4, 5, 6)]
    net.preprocessing = {**net.preprocessing, "mean": [0.25, 0.5, 0.75]}
    loading.save_model(net, "init.h5")
    # A rate too small to change a parameter: what was begun with is what comes out.
    code, _, _ = run(capsys, "--data", new[1], "-o", "second", *SMALL, "--init", "init.h5",
                     "--rate", "1e-30", "--decay", "0", "--epochs", "1")
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


# --- going on -----------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from tinyfcn import train, training
from tinyfcn.weights import hdf5_file

where, calls = sys.argv[1], [0]

def kill(when):
    calls[0] += 1
    if calls[0] == when:
        os.kill(os.getpid(), signal.SIGKILL)

if where == "epoch":
    class SGD(training.SGD):
        def step(self, rate):
            super().step(rate)
            kill(4)                         # of two steps an epoch
    training.SGD = SGD
else:
    append = hdf5_file.append_trailer
    def append_half(path):
        if ".checkpoint.h5." in path:
            kill(2)
        append(path)
    hdf5_file.append_trailer = append_half
sys.exit(train.main(sys.argv[2:]))
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_killed(new, capsys):
    assert run(capsys, *new)[0] == 0
    expected = tensors("run/checkpoint.h5"), tensors("run/best.h5")
    for where in ("epoch", "checkpoint"):
        arguments = [str(each).replace("run", "killed-" + where) for each in new]
        done = subprocess.run([sys.executable, "-c", KILLED, where, *arguments],
                              capture_output=True, text=True, timeout=120)
        assert done.returncode == -signal.SIGKILL, done.stderr
        name = "killed-" + where
        assert weights.describe(f"{name}/checkpoint.h5")["training"]["epoch"] == 1
        leftovers = [each for each in files(name) if each.endswith(".tmp")]
        assert len(leftovers) == (where == "checkpoint")
        code, out, err = run(capsys, "--resume", name)
        assert code == 0 and [line.split()[1] for line in out] == ["2", "3"]
        assert (tensors(f"{name}/checkpoint.h5"), tensors(f"{name}/best.h5")) == expected
        assert files(name) == ALL


WAITING = """
import sys, time
from tinyfcn import train, training

class SGD(training.SGD):
    def step(self, rate):
        super().step(rate)
        print("waiting", file=sys.stderr, flush=True)
        time.sleep(60)

training.SGD = SGD
sys.exit(train.main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_interrupt(new, capsys):
    running = subprocess.Popen([sys.executable, "-c", WAITING, *map(str, new)],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = iter(running.stderr.readline, "")
    assert "waiting\n" in lines
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, "")
    assert err == "tinyfcn-train: interrupted; to go on: tinyfcn-train --resume run\n"
    assert files("run") == ["config.json"]
    assert run(capsys, "--resume", "run")[0] == 0


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
    before = {name: pathlib.Path("run", name).read_bytes() for name in ALL}
    code, out, err = run(capsys, "--resume", "run")
    assert (code, out) == (0, []) and err[-1].startswith("tinyfcn-train: done, 1 epochs: ")
    assert {name: pathlib.Path("run", name).read_bytes() for name in ALL} == before


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
    before = {name: (begun / name).read_bytes() for name in ALL}
    fails(capsys, 3, "run/checkpoint.h5: ", "--resume", "run")
    assert {name: (begun / name).read_bytes() for name in ALL} == before


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
    before = {name: (begun / name).read_bytes() for name in ALL}
    fails(capsys, 2, "run: there is a run already; --resume goes on with it", *new)
    os.unlink(begun / "config.json")
    fails(capsys, 2, "run: there is a run already; --resume goes on with it", *new)
    assert all((begun / name).read_bytes() == before[name] for name in files(begun))


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
    assert weights.describe("run/checkpoint.h5")["training"]["epoch"] == 1


def test_memory_that_is_not_enough(new, capsys, monkeypatch):
    def none(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(training, "softmax_loss", none)
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
                   "(default: 0.0005)"):
        assert option in text


def test_help_needs_nothing_heavy():
    program = ("import sys, tinyfcn.train\n"
               "tinyfcn.train.main(['--help'])\n"
               "print({'numpy', 'numba', 'h5py', 'PIL'} & set(sys.modules), file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr == "set()\n"
