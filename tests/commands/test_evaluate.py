"""The evaluate command: the figures it prints and what it says of bad input."""
import hashlib
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tinyfcn import evaluate, evaluation, loading, models, weights

NAMES = ["red", "green", "blue", "none"]


class ColourNet:
    """Says of each pixel which of red, green and blue is its strongest colour; never "none"."""

    name = "fcn8s"
    arguments = {"classes": 4, "in_channels": 3}
    params = {}
    preprocessing = {"channel_order": "RGB", "scale": 1.0, "mean": [0, 0, 0], "std": [10] * 3}
    class_names = NAMES

    def forward(self, x):
        none = np.full((*x.shape[:3], 1), -1, x.dtype)
        return np.concatenate([x, none], axis=3)


@pytest.fixture
def net(tmp_path, monkeypatch):
    """The weight file of a stand-in net."""
    path = tmp_path / "net.h5"
    path.write_bytes(b"any")
    monkeypatch.setattr(loading, "load_model", lambda path, **options: ColourNet())
    monkeypatch.setattr(models, "prepare", lambda net: net)
    return path


R, G, B = (200, 0, 0), (0, 200, 0), (0, 0, 200)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(array, np.uint8)).save(path)


@pytest.fixture
def data(tmp_path):
    """Two photos, of 4 and 3 pixels; what is predicted stands in the first, the truth below it."""
    root = tmp_path / "data"
    save(root / "images/val/a.png", [[R, R, G, B]])
    save(root / "labels/val/a.png", [[0, 1, 1, 255]])
    save(root / "images/val/b.png", [[R, G, B]])
    save(root / "labels/val/b.png", [[0, 0, 0]])
    (root / "classes.json").write_text(json.dumps(
        {"names": NAMES, "colours": [R, G, B, (0, 0, 0)], "ignore": 255}))
    return root


def run(capsys, *arguments):
    """Run the command in this process. Returns the exit code, and the text of both streams."""
    code = evaluate.main([str(each) for each in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def fails(capsys, code, message, *arguments):
    found, out, err = run(capsys, *arguments)
    assert (found, out) == (code, "") and err.count("\n") == 1
    assert err.startswith(f"tinyfcn-evaluate: {message}"), err
    assert err.rstrip("\n").isprintable()


# --- results --------------------------------------------------------------------------------

# Counted: red as red twice, red as green and as blue once, green as red and as green once.
MATRIX = [[2, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
IU = [2 / 5, 1 / 3, 0, None]
ACCURACY = [2 / 4, 1 / 2, None, None]
SHARE = [4 / 6, 2 / 6, 0, 0]


def test_json(data, net, capsys):
    code, out, err = run(capsys, "--data", data, "--weights", net, "--json")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert list(result) == ["pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu",
                            "per_class", "images", "weights_sha256"]
    assert result["images"] == 2
    assert result["weights_sha256"] == hashlib.sha256(b"any").hexdigest()
    assert result["pixel_accuracy"] == pytest.approx(3 / 6)
    assert result["mean_accuracy"] == pytest.approx(1 / 2)
    assert result["mean_iu"] == pytest.approx((2 / 5 + 1 / 3 + 0) / 3)
    assert result["frequency_weighted_iu"] == pytest.approx(4 / 6 * 2 / 5 + 2 / 6 * 1 / 3)
    for key, values in (("name", NAMES), ("index", [0, 1, 2, 3]), ("iu", IU),
                        ("accuracy", ACCURACY), ("share", SHARE)):
        assert [each[key] for each in result["per_class"]] == [
            pytest.approx(v) if isinstance(v, float) else v for v in values], key


def test_table(data, net, capsys):
    code, out, err = run(capsys, "--data", data, "--weights", net)
    assert (code, err) == (0, "")
    digest = hashlib.sha256(b"any").hexdigest()
    assert out.splitlines() == [
        f"2 photos, {net} (SHA-256 {digest})",
        "",
        "pixel accuracy          50.00 %",
        "mean accuracy           50.00 %",
        "mean IU                 24.44 %",
        "frequency weighted IU   37.78 %",
        "",
        "class                        IU  accuracy     share",
        "red                     40.00 %   50.00 %   66.67 %",
        "green                   33.33 %   50.00 %   33.33 %",
        "blue                     0.00 %       n/a    0.00 %",
        "none                        n/a       n/a    0.00 %",
    ]


def test_confusion_matrix(data, net):
    from tinyfcn.data.folders import find_pairs
    seen = []
    matrix = evaluation.evaluate(ColourNet(), find_pairs(data, "val"), 255, seen.append)
    assert matrix.tolist() == MATRIX and seen == [1, 2]


def test_ignored_label_may_be_one_of_the_classes(data, net, capsys):
    content = json.loads((data / "classes.json").read_text())
    save(data / "labels/val/a.png", [[0, 1, 1, 1]])
    (data / "classes.json").write_text(json.dumps({**content, "ignore": 1}))
    _, out, _ = run(capsys, "--data", data, "--weights", net, "--json")
    assert json.loads(out)["pixel_accuracy"] == pytest.approx(2 / 4)


def test_other_split(data, net, capsys):
    save(data / "images/test/x.png", [[G]])
    save(data / "labels/test/x.png", [[1]])
    code, out, _ = run(capsys, "--data", data, "--weights", net, "--split", "test", "--json")
    assert code == 0
    assert json.loads(out)["images"] == 1 and json.loads(out)["mean_iu"] == 1


def test_nothing_labelled(data, net, capsys):
    save(data / "labels/val/a.png", [[255] * 4])
    save(data / "labels/val/b.png", [[255] * 3])
    code, out, _ = run(capsys, "--data", data, "--weights", net, "--json")
    assert code == 0 and json.loads(out)["mean_iu"] is None
    code, out, _ = run(capsys, "--data", data, "--weights", net)
    assert code == 0 and "mean IU                     n/a\n" in out


def test_progress_only_on_a_terminal(data, net, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    _, out, err = run(capsys, "--data", data, "--weights", net)
    assert "\r1/2 photos\r2/2 photos" in err and "/2" not in out


def test_other_names_of_classes(data, net, capsys, monkeypatch):
    monkeypatch.setattr(ColourNet, "class_names", ["r", "g", "b", "n"])
    code, out, err = run(capsys, "--data", data, "--weights", net)
    assert code == 0 and out.count("\n") == 12
    assert err == (f"tinyfcn-evaluate: warning: {net}: its classes have other names than the data "
                   "set's\n")


# --- bad input ----------------------------------------------------------------------------------

def test_photo_that_cannot_be_read(data, net, capsys):
    (data / "images/val/b.png").write_bytes(b"text")
    code, out, err = run(capsys, "--data", data, "--weights", net, "--json")
    assert code == 1 and json.loads(out)["images"] == 1
    first, second = err.splitlines()
    assert first.startswith(f"tinyfcn-evaluate: {data}/images/val/b.png: ")
    assert second == "tinyfcn-evaluate: 1 of 2 photos failed"
    assert json.loads(out)["pixel_accuracy"] == pytest.approx(2 / 3)


def test_no_photo_can_be_read(data, net, capsys):
    save(data / "labels/val/a.png", [[4, 0, 0, 0]])
    save(data / "labels/val/b.png", [[0, 0]])
    code, out, err = run(capsys, "--data", data, "--weights", net)
    assert (code, out) == (1, "")
    first, second, third = err.splitlines()
    assert first.startswith(f"tinyfcn-evaluate: {data}/labels/val/a.png: holds the label 4: ")
    assert second.startswith(f"tinyfcn-evaluate: {data}/labels/val/b.png: 2x1 pixels, but its ")
    assert third == "tinyfcn-evaluate: 2 of 2 photos failed"


def test_missing_label_map(data, net, capsys):
    os.unlink(data / "labels/val/b.png")
    code, out, err = run(capsys, "--data", data, "--weights", net, "--json")
    assert code == 1 and json.loads(out)["images"] == 1
    assert err.splitlines() == [
        f"tinyfcn-evaluate: {data}/labels/val/b.png: No such file or directory",
        "tinyfcn-evaluate: 1 of 2 photos failed"]


def test_data_that_is_not_there(data, net, tmp_path, capsys):
    none = tmp_path / "none"
    fails(capsys, 2, f"{none}: No such file or directory", "--data", none, "--weights", net)
    arguments = "--data", data, "--weights", net
    fails(capsys, 2, f"{data}/images/train: No such file", *arguments, "--split", "train")
    for name in "ab":
        os.unlink(data / f"images/val/{name}.png")
    fails(capsys, 2, f"{data}/images/val: no images in it", *arguments)


def test_scores_that_are_not_finite(data, net, capsys, monkeypatch):
    monkeypatch.setattr(ColourNet, "forward", lambda self, x: np.full(
        (*x.shape[:3], 4), np.nan, np.float32))
    fails(capsys, 3, f"{net}: the net's scores for this photo are not finite",
          "--data", data, "--weights", net)


def test_memory_that_is_not_enough(data, net, capsys, monkeypatch):
    def forward(self, x):
        raise MemoryError

    monkeypatch.setattr(ColourNet, "forward", forward)
    fails(capsys, 1, "not enough memory", "--data", data, "--weights", net)


def test_interrupt(data, net, capsys, monkeypatch):
    def forward(self, x):
        raise KeyboardInterrupt

    monkeypatch.setattr(ColourNet, "forward", forward)
    fails(capsys, 130, "interrupted\n", "--data", data, "--weights", net)


def weight_file(path, build=models.FCN8s, **options):
    net = build(**{"classes": 4, "width": 1 / 32, "fc_channels": 4, "init": "scratch", **options})
    loading.save_model(net, path)
    return path


@pytest.mark.parametrize("options, reason", [
    ({"classes": 11}, "is for 11 classes; {data} has 4"),
    ({"in_channels": 1}, "takes 1 channels; a photo has 3"),
    ({"build": models.VGG16, "input_size": 32}, "holds vgg16, which does not segment"),
])
def test_weights_that_do_not_fit(data, tmp_path, capsys, options, reason):
    path = tmp_path / "w.h5"
    build = options.pop("build", models.FCN8s)
    net = build(**{"classes": 4, "width": 1 / 32, "fc_channels": 4, **options})
    if options.get("in_channels") == 1:
        net.preprocessing = {"channel_order": "RGB", "scale": 1.0, "mean": [0.0], "std": [1.0]}
    loading.save_model(net, path)
    fails(capsys, 3, f"{path}: {reason.format(data=data)}", "--data", data, "--weights", path)


def test_weights_of_another_model(data, tmp_path, capsys):
    path = weight_file(tmp_path / "w.h5")
    fails(capsys, 3, f"{path}: is for fcn8s, not for fcn16s",
          "--data", data, "--weights", path, "--model", "fcn16s")


@pytest.mark.parametrize("content", [None, b"", b"text", "half"])
def test_weights_that_are_none(data, tmp_path, capsys, content):
    path = tmp_path / "w.h5"
    if content == "half":
        content = weight_file(path).read_bytes()
        content = content[:len(content) // 2]
    if content is not None:
        path.write_bytes(content)
    fails(capsys, 3, f"{path}: ", "--data", data, "--weights", path)


def test_model_that_does_not_ship(data, capsys, monkeypatch):
    monkeypatch.setattr(weights, "shipped", lambda model: None)
    fails(capsys, 3, "no weights for fcn32s come with tinyfcn: give a file with --weights",
          "--data", data, "--model", "fcn32s")


def test_shipped_model_is_used_without_weights(data, net, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(weights, "shipped", lambda model: asked.append(model) or str(net))
    assert run(capsys, "--data", data)[0] == 0
    assert asked == ["fcn8s"]


def test_a_real_net(data, tmp_path, capsys):
    path = weight_file(tmp_path / "w.h5", batch_norm=True)
    code, out, err = run(capsys, "--data", data, "--weights", path, "--json")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert 0 <= result["mean_iu"] <= 1
    assert result["weights_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


# --- usage ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("arguments, message", [
    ([], "the following arguments are required: --data"),
    (["--data", "d", "--model", "vgg16"], "invalid choice: 'vgg16'"),
    (["--data", "d", "--frobnicate"], "unrecognized arguments: --frobnicate"),
    (["--data", "d", "photo.png"], "unrecognized arguments: photo.png"),
])
def test_usage(capsys, arguments, message):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert message in err and err.startswith("tinyfcn-evaluate: ")


def test_help(capsys):
    code, out, err = run(capsys, "--help")
    assert (code, err) == (0, "")
    for option in ("--data", "--split", "--weights", "--model", "--json", "Exit codes"):
        assert option in out


def test_help_needs_nothing_heavy():
    program = ("import sys, tinyfcn.evaluate\n"
               "tinyfcn.evaluate.main(['--help'])\n"
               "print({'numpy', 'numba', 'h5py', 'PIL'} & set(sys.modules), file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr == "set()\n"


# --- the model that ships -------------------------------------------------------------------------

def test_shipped_model_on_real_photos(test_data, tmp_path, capsys):
    camvid = test_data("camvid")
    if weights.shipped("fcn8s") is None:
        pytest.skip("weights/camvid_fcn8s.h5 is not there")
    # The first photos of val are of one street; every fifth shows all that val holds.
    for kind in ("images", "labels"):
        folder = tmp_path / "few" / kind / "val"
        folder.mkdir(parents=True)
        for path in sorted((camvid / kind / "val").iterdir())[::5]:
            os.symlink(path, folder / path.name)
    os.symlink(camvid / "classes.json", tmp_path / "few/classes.json")
    code, out, err = run(capsys, "--data", tmp_path / "few", "--json")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert result["images"] == 21
    assert result["mean_iu"] >= 0.45
    assert result["pixel_accuracy"] >= 0.75
    assert pathlib.Path(weights.shipped("fcn8s")).stat().st_size < 16e6
