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
    class_names, colours, ignore_label = NAMES, None, None

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
    lines = captured.err.splitlines(keepends=True)
    return code, captured.out, "".join(line for line in lines if "compiling" not in line)


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


# --- a folder of photos and one of label maps -----------------------------------------------------

@pytest.fixture
def folders(data, tmp_path):
    """The same photos and label maps as options, without a data set's layout."""
    (data / "images/val").rename(tmp_path / "photos")
    (data / "labels/val").rename(tmp_path / "maps")
    (data / "classes.json").rename(tmp_path / "names.json")
    return ["--images", tmp_path / "photos", "--labels", tmp_path / "maps"]


def test_folders_with_the_classes_of_a_file(folders, net, tmp_path, capsys):
    code, out, err = run(capsys, *folders, "--classes", tmp_path / "names.json", "--weights", net,
                         "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["mean_iu"] == pytest.approx((2 / 5 + 1 / 3 + 0) / 3)


def test_folders_with_the_classes_of_the_weights(folders, net, capsys, monkeypatch):
    code, out, err = run(capsys, *folders, "--weights", net, "--json")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert [each["iu"] for each in result["per_class"]] == [
        None if iu is None else pytest.approx(iu) for iu in IU]
    assert [each["name"] for each in result["per_class"]] == NAMES
    # The label that is ignored is the file's, too; without one it is 255.
    monkeypatch.setattr(ColourNet, "ignore_label", 1)
    code, out, err = run(capsys, *folders, "--weights", net, "--json")
    assert code == 1 and "/maps/a.png: holds the label 255" in err
    assert json.loads(out)["images"] == 1


def test_coloured_label_maps(folders, net, tmp_path, capsys, monkeypatch):
    save(tmp_path / "maps/a.png", [[R, G, G, (1, 2, 3)]])
    save(tmp_path / "maps/b.png", [[R, R, R]])
    (tmp_path / "names.json").write_text(json.dumps(
        {"names": NAMES, "colours": [R, G, B, (0, 0, 0), (1, 2, 3)], "ignore": 255}))
    code, out, err = run(capsys, *folders, "--classes", tmp_path / "names.json", "--weights", net,
                         "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["mean_iu"] == pytest.approx((2 / 5 + 1 / 3 + 0) / 3)
    # The weight file knows colours, too, but none for what is not labelled.
    monkeypatch.setattr(ColourNet, "colours", [R, G, B, (0, 0, 0)])
    code, out, err = run(capsys, *folders, "--weights", net, "--json")
    assert code == 1 and json.loads(out)["images"] == 1
    assert f"{tmp_path}/maps/a.png: holds the colour (1, 2, 3): it is none of the 4 classes'" in err


def test_classes_without_names_are_numbered(folders, net, capsys, monkeypatch):
    monkeypatch.setattr(ColourNet, "class_names", None)
    code, out, _ = run(capsys, *folders, "--weights", net, "--json")
    assert [each["name"] for each in json.loads(out)["per_class"]] == [
        "class 0", "class 1", "class 2", "class 3"]


def test_folders_that_do_not_fit(folders, net, tmp_path, capsys):
    none = tmp_path / "none"
    images, labels = folders[1], folders[3]
    fails(capsys, 2, f"{none}: No such file", "--images", none, "--labels", labels,
          "--weights", net)
    code, out, err = run(capsys, "--images", images, "--labels", none, "--weights", net)
    assert (code, out) == (1, "") and err.splitlines() == [
        f"tinyfcn-evaluate: {none}/a.png: No such file or directory",
        f"tinyfcn-evaluate: {none}/b.png: No such file or directory",
        "tinyfcn-evaluate: 2 of 2 photos failed"]
    fails(capsys, 2, f"{none}: No such file", *folders, "--classes", none, "--weights", net)
    (tmp_path / "three.json").write_text(json.dumps(
        {"names": NAMES[:3], "colours": [R, G, B], "ignore": 255}))
    fails(capsys, 3, f"{net}: is for 4 classes; {tmp_path}/three.json has 3", *folders,
          "--classes", tmp_path / "three.json", "--weights", net)


# --- files ----------------------------------------------------------------------------------------

FILES = ["confusion.csv", "confusion.png", "scores.json", "scores.md", "worst.png"]


def test_files(data, net, tmp_path, capsys):
    out_dir = tmp_path / "new/deep"
    code, out, err = run(capsys, "--data", data, "--weights", net, "--json", "-o", out_dir)
    assert (code, err) == (0, "")
    assert sorted(os.listdir(out_dir)) == FILES
    assert json.loads((out_dir / "scores.json").read_text()) == json.loads(out)
    rows = (out_dir / "confusion.csv").read_text().splitlines()
    assert rows[0] == "true \\ predicted," + ",".join(NAMES)
    assert [list(map(int, row.split(",")[1:])) for row in rows[1:]] == MATRIX
    assert "| mean IU | 24.44 % |" in (out_dir / "scores.md").read_text()
    for name in ("confusion.png", "worst.png"):
        assert Image.open(out_dir / name).format == "PNG"


def test_worst_photos_come_first(data, net, tmp_path, capsys):
    save(data / "images/val/c.png", [[R, G, B]])        # all right
    save(data / "labels/val/c.png", [[0, 1, 2]])
    save(data / "images/val/d.png", [[R, R]])           # all wrong
    save(data / "labels/val/d.png", [[1, 1]])
    save(data / "images/val/e.png", [[R]])              # says nothing
    save(data / "labels/val/e.png", [[255]])
    code, out, _ = run(capsys, "--data", data, "--weights", net, "-o", tmp_path / "out",
                       "--worst", "3")
    assert code == 0
    # b: red 1 of 3, green and blue 0 of 1; a: red 1 of 2, green 1 of 2, blue nowhere counted.
    assert out.splitlines()[-4:] == [
        "worst photos            mean IU",
        "d                        0.00 %",
        "b                       11.11 %",
        "a                       50.00 %",
    ]
    markdown = (tmp_path / "out/scores.md").read_text()
    assert markdown.endswith("| d | 0.00 % |\n| b | 11.11 % |\n| a | 50.00 % |\n")


def test_panel_of_the_worst_photo_shows_photo_prediction_and_truth(data, net, tmp_path, capsys,
                                                                    monkeypatch):
    content = json.loads((data / "classes.json").read_text())
    colours = [(250, 0, 100), (0, 250, 100), (0, 100, 250), (9, 9, 9)]
    (data / "classes.json").write_text(json.dumps({**content, "colours": colours}))
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(capsys, "--data", data, "--weights", net, "--worst", "1")
    assert code == 0 and out.splitlines()[-1] == "b                       11.11 %"
    assert [name for name in os.listdir(tmp_path) if name.endswith(".png")] == ["worst.png"]
    panel = np.asarray(Image.open("worst.png"))

    def widest(colour):     # the longest row of pixels of a colour, from its first column
        rows = (panel == colour).all(axis=2)
        row = rows[rows.sum(axis=1).argmax()]
        return int(np.flatnonzero(row)[0]), int(row.sum())

    # Three pixels enlarged to 192, of the photo, then the prediction, then red alone.
    assert [widest(colour)[1] for colour in (R, G, B)] == [64, 64, 64]
    left, width = widest(colours[0])
    assert width == 64 + 192 and left > widest(B)[0]
    assert widest(colours[1])[0] == left + 64 and widest(colours[2])[0] == left + 128


@pytest.mark.parametrize("options, files", [
    (["-o", "."], FILES), (["-o", ".", "--worst", "0"], FILES[:-1]), (["--worst", "2"], FILES[-1:]),
    (["--worst", "0"], []), ([], [])])
def test_which_files(data, net, tmp_path, capsys, monkeypatch, options, files):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert run(capsys, "--data", data, "--weights", net, *options)[0] == 0
    assert sorted(os.listdir(".")) == files


def test_no_panel_where_nothing_is_labelled(data, net, tmp_path, capsys):
    save(data / "labels/val/a.png", [[255] * 4])
    save(data / "labels/val/b.png", [[255] * 3])
    code, out, _ = run(capsys, "--data", data, "--weights", net, "-o", tmp_path / "out")
    assert code == 0 and "worst" not in out
    assert sorted(os.listdir(tmp_path / "out")) == FILES[:-1]


def test_photos_that_fail_are_in_no_file(data, net, tmp_path, capsys):
    (data / "images/val/b.png").write_bytes(b"text")
    code, out, _ = run(capsys, "--data", data, "--weights", net, "-o", tmp_path / "out", "--json")
    assert code == 1 and json.loads(out)["images"] == 1
    assert json.loads((tmp_path / "out/scores.json").read_text()) == json.loads(out)


def test_no_photo_of_the_data_is_overwritten(data, net, tmp_path, capsys):
    save(data / "images/val/worst.png", [[R]])
    save(data / "labels/val/worst.png", [[0]])
    os.symlink(data / "images/val", tmp_path / "link")
    before = (data / "images/val/worst.png").read_bytes()
    fails(capsys, 2, f"{tmp_path}/link/worst.png is one of the photos or label maps and would be "
          "overwritten: choose another output folder with -o", "--data", data, "--weights", net,
          "-o", tmp_path / "link")
    assert (data / "images/val/worst.png").read_bytes() == before
    assert sorted(os.listdir(data / "images/val")) == ["a.png", "b.png", "worst.png"]


def test_output_folder_that_is_none(data, net, tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    fails(capsys, 2, f"{tmp_path}/out: cannot write to this output folder: ", "--data", data,
          "--weights", net, "-o", tmp_path / "out")


@pytest.mark.parametrize("failing", range(1, 6))
def test_full_disk_leaves_no_part_of_a_report(data, net, tmp_path, capsys, monkeypatch, failing):
    calls = []

    def fsync(descriptor):
        calls.append(descriptor)
        if len(calls) == failing:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/scores.json").write_text("of an earlier call")
    code, out, err = run(capsys, "--data", data, "--weights", net, "-o", tmp_path / "out")
    name = ["scores.json", "scores.md", "confusion.csv", "confusion.png", "worst.png"][failing - 1]
    assert code == 1 and err == (
        f"tinyfcn-evaluate: {tmp_path}/out/{name}: No space left on device\n")
    assert "mean IU" in out             # what was computed is not lost
    assert os.listdir(tmp_path / "out") == ["scores.json"]
    assert (tmp_path / "out/scores.json").read_text() == "of an earlier call"


# --- several views --------------------------------------------------------------------------------

def test_views(data, net, capsys, monkeypatch):
    widths, forward = [], ColourNet.forward

    def note(self, x):
        widths.append(x.shape[2])
        return forward(self, x)

    monkeypatch.setattr(ColourNet, "forward", note)
    code, out, _ = run(capsys, "--data", data, "--weights", net, "--flip", "--scales", "1,2")
    assert code == 0 and sorted(widths) == [3, 3, 4, 4, 6, 6, 8, 8]
    assert out.splitlines()[0].endswith("), scales 1, 2; each also mirrored")
    assert run(capsys, "--data", data, "--weights", net, "--flip")[1].splitlines()[0].endswith(
        "), each photo also mirrored")
    assert run(capsys, "--data", data, "--weights", net, "--scales", "0.5")[1].splitlines()[
        0].endswith("), scales 0.5")


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


def test_memory_that_is_not_enough_for_a_photo(data, net, capsys, monkeypatch):
    def forward(self, x):
        if x.shape[2] == 3:
            raise MemoryError
        return np.concatenate([x, x[..., :1]], axis=3)

    monkeypatch.setattr(ColourNet, "forward", forward)
    code, out, err = run(capsys, "--data", data, "--weights", net, "--json")
    assert code == 1 and json.loads(out)["images"] == 1
    assert err == (f"tinyfcn-evaluate: {data}/images/val/b.png: not enough memory\n"
                   "tinyfcn-evaluate: 1 of 2 photos failed\n")


def test_memory_that_is_not_enough_for_the_net(data, net, capsys, monkeypatch):
    def load(path, **options):
        raise MemoryError

    monkeypatch.setattr(loading, "load_model", load)
    fails(capsys, 3, "not enough memory for the net\n", "--data", data, "--weights", net)


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
    ([], "--data DIR, or --images DIR and --labels DIR, are required"),
    (["--images", "i"], "--data DIR, or --images DIR and --labels DIR, are required"),
    (["--labels", "l"], "--data DIR, or --images DIR and --labels DIR, are required"),
    (["--classes", "c"], "--data DIR, or --images DIR and --labels DIR, are required"),
    (["--data", "d", "--images", "i"], "--data and --images exclude each other"),
    (["--data", "d", "--labels", "l"], "--data and --labels exclude each other"),
    (["--data", "d", "--classes", "c"], "--data and --classes exclude each other"),
    (["--images", "i", "--labels", "l", "--split", "val"], "--split needs --data"),
    (["--data", "d", "--worst", "-1"], "must be at least 0 and at most 100, not -1"),
    (["--data", "d", "--worst", "101"], "must be at least 0 and at most 100, not 101"),
    (["--data", "d", "--worst", "few"], "argument --worst: not a whole number: 'few'"),
    (["--data", "d", "--scales", ""], "argument --scales: not a number: ''"),
    (["--data", "d", "--scales", "1,,2"], "argument --scales: not a number: ''"),
    (["--data", "d", "--scales", "1,0"], "must be above 0 and at most 8, not 0"),
    (["--data", "d", "--scales", "nan"], "must be above 0 and at most 8, not nan"),
    (["--data", "d", "--scales", "8.5"], "must be above 0 and at most 8, not 8.5"),
    (["--data", "d", "--scales", ",".join("1" * 17)], "at most 16 scales, not 17"),
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
    for option in ("--data", "--split", "--images", "--labels", "--classes", "--weights", "--model",
                   "--flip", "--scales", "--json", "--output", "--worst", "Exit codes"):
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
