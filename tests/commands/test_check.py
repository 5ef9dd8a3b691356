"""train --check: what it prints of a data set, and what it returns."""
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tinyfcn import train


def check(capsys, root, code=0):
    """What the command prints, as lines; nothing goes to stderr."""
    found = train.main(["--data", str(root), "--check"])
    captured = capsys.readouterr()
    assert (found, captured.err) == (code, "")
    return captured.out.splitlines()


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path)


@pytest.fixture
def small(tmp_path):
    """Two photos to train on and one to validate; figures can be counted by hand."""
    for name, labels in (("train/a", [[0, 0, 0, 1], [0, 0, 0, 9]]),
                         ("train/b", [[0, 0, 0, 0], [0, 0, 0, 0], [9, 9, 9, 9]]),
                         ("val/c", [[1, 1, 1, 1]])):
        save(tmp_path / f"images/{name}.png", np.zeros((*np.shape(labels), 3)))
        save(tmp_path / f"labels/{name}.png", labels)
    (tmp_path / "classes.json").write_text(json.dumps(
        {"names": ["dark", "bright", "none\x1b[2J"], "colours": [[0, 0, 0]] * 3, "ignore": 9}))
    return tmp_path


# Frequencies in train: dark 14 of 20 pixels, bright 1 of the 8 of photo a; their median is 0.4125.
TABLES = """
: images/ and labels/, 3 classes, label 9 is ignored

train: 2 photos of 4x(2 to 3) pixels
class            share   images     weight
dark          70.000 %        2     0.5893
bright         5.000 %        1     3.3000
none\\x1b[2J    0.000 %        0        n/a
(ignored)     25.000 %        2

val: 1 photos of 4x1 pixels
class            share   images     weight
dark           0.000 %        0        n/a
bright       100.000 %        1     1.0000
none\\x1b[2J    0.000 %        0        n/a
(ignored)      0.000 %        0
""".strip().splitlines()


def test_figures(small, capsys):
    out = check(capsys, small)
    assert out == [f"{small}{TABLES[0]}", *TABLES[1:], "", "all 3 photos and label maps are fine"]
    assert sorted(os.listdir(small)) == ["classes.json", "images", "labels"]


def test_every_bad_file_is_named(small, capsys):
    rng = np.random.default_rng(0)
    for name in "xyz":
        save(small / f"images/train/{name}.png", rng.integers(0, 256, (2, 4, 3)))
        save(small / f"labels/train/{name}.png", np.full((2, 4), 5))
    save(small / "labels/train/y.png", [[0] * 5] * 2)
    os.unlink(small / "labels/train/z.png")
    (small / "images/val/c.png").write_bytes(b"")
    for name in ("train/lost", "train/stray", "val/stray"):
        save(small / f"labels/{name}.png", [[0]])
    out = check(capsys, small, 1)
    assert out[0] == f"{small}{TABLES[0]}" and out[2:8] == TABLES[2:8]
    assert out[out.index("val: 0 photos") + 2] == "dark           0.000 %        0        n/a"
    labels = small / "labels"
    assert out[-10:] == [
        "",
        f"{labels}/train/x.png: holds the label 5: neither one of the 3 classes nor 9, which is "
        "ignored",
        f"{labels}/train/y.png: 5x2 pixels, but its photo has 4x2",
        f"{labels}/train/z.png: No such file or directory",
        f"{labels}/train/lost.png: there is no photo of this name",
        f"{labels}/train/stray.png: there is no photo of this name",
        f"{small}/images/val/c.png: the file is empty",
        f"{labels}/val/stray.png: there is no photo of this name",
        "",
        "3 of 5 photos of train cannot be used; 2 label maps of train without a photo; 1 of 1 "
        "photos of val cannot be used; 1 label maps of val without a photo"]


def test_without_val(small, capsys):
    for kind in ("images", "labels"):
        os.unlink(small / kind / "val/c.png")
        os.rmdir(small / kind / "val")
    assert check(capsys, small)[1:] == [
        *TABLES[1:8], "", "all 2 photos and label maps are fine"]


def test_lists_of_photos_that_are_none(tmp_path, capsys):
    save(tmp_path / "JPEGImages/a.png", np.zeros((1, 2, 3)))
    save(tmp_path / "SegmentationClass/a.png", [[0, 1]])
    names = tmp_path / "ImageSets/Segmentation/train.txt"
    names.parent.mkdir(parents=True)
    names.write_text("a\n../x\nb\na\n")
    out = check(capsys, tmp_path, 1)
    assert out[0] == f"{tmp_path}: PASCAL VOC, 2 classes, label 255 is ignored"
    assert out[-5:] == [
        f"{names}: line 2: '../x' is no name of a photo",
        f"{tmp_path}/JPEGImages/b.jpg: No such file or directory",
        f"{names}: line 4: a is already in line 1",
        "",
        "3 of 4 photos of train cannot be used"]


def test_labelme_files(tmp_path, capsys):
    Image.new("RGB", (4, 2)).save(tmp_path / "a.png")
    shape = {"label": "cat", "shape_type": "rectangle", "points": [[0, 0], [1, 1]]}
    for name, changes in (("a", {}), ("b", {"imagePath": "../b.png"}), ("c", {"shapes": [7]})):
        (tmp_path / f"{name}.json").write_text(json.dumps(
            {"imagePath": "a.png", "imageData": None, "shapes": [shape], **changes}))
    out = check(capsys, tmp_path, 1)
    assert out[0] == f"{tmp_path}: labelme, 2 classes, label 255 is ignored"
    assert out[3:6] == ["class             share   images     weight",
                        "_background_   50.000 %        1     1.0000",
                        "cat            50.000 %        1     1.0000"]
    assert out[-4:] == [
        f"{tmp_path}/b.json: its imagePath '../b.png' leads out of {tmp_path}",
        f"{tmp_path}/c.json: shapes[0]: not an object",
        "",
        "2 of 3 photos of train cannot be used"]


@pytest.mark.parametrize("name, reason", [
    ("none", ": No such file or directory"),
    ("", ": holds no data set: neither images/ and labels")])
def test_no_data_set(tmp_path, capsys, name, reason):
    code = train.main(["--data", str(tmp_path / name), "--check"])
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "") and captured.err.count("\n") == 1
    assert captured.err.startswith(f"tinyfcn-train: {tmp_path / name}{reason}")


def test_interrupt(small, capsys, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("tinyfcn.data.loader.read_pair", interrupt)
    assert train.main(["--data", str(small), "--check"]) == 130
    assert capsys.readouterr() == ("", "tinyfcn-train: interrupted\n")


def test_it_needs_no_kernels(small):
    program = ("import sys; from tinyfcn import train\n"
               f"train.main(['--data', {str(small)!r}, '--check'])\n"
               "print(sorted({'numba', 'h5py'} & set(sys.modules)), file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr == "[]\n" and "all 3 photos" in done.stdout


def test_stdout_that_is_full(small):
    if not os.path.exists("/dev/full"):
        pytest.skip("no device that is always full")
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "tinyfcn.train", "--data", str(small),
                               "--check"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "tinyfcn-train: stdout: No space left on device\n")


def test_real_data(test_data, capsys):
    out = check(capsys, test_data("camvid"))
    assert "train: 367 photos of 480x360 pixels" in out
    assert "Bicyclist     0.292 %      201     8.8587" in out
    assert out[-1] == "all 468 photos and label maps are fine"
    out = check(capsys, test_data("voc"))
    assert "train: 4 photos of 500x(338 to 375) pixels" in out
    assert "(ignored)       2.609 %        3" in out
