"""Examples that train, in their quick form."""
import pathlib
import runpy

import numpy as np
import pytest

import tinyfcn
from tinyfcn import loading

EXAMPLES = pathlib.Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture
def example():
    return runpy.run_path(str(EXAMPLES / "classifier_to_fcn.py"))


@pytest.fixture(autouse=True)
def one_thread():
    """Nets this small are slower with more."""
    before = tinyfcn.set_threads(1)
    yield
    tinyfcn.set_threads(before)


def test_from_a_classifier_to_an_fcn(example, data_set, tmp_path, capsys):
    root = data_set(train=2, val=1)
    out = tmp_path / "out"
    example["main"]([str(root), str(out), "--quick"])
    printed = capsys.readouterr().out
    assert "classifier  epoch 2/2  loss " in printed
    assert f"--init {out}/classifier/best.h5" in printed
    lines = printed.splitlines()
    table = lines[lines.index("epoch  fine-tuned  from scratch") + 1:]
    assert [line.split()[0] for line in table] == ["1", "2", "best"]
    assert all(0 <= float(number) <= 1 for line in table for number in line.split()[1:])
    # The dense layers became convolutions, and more than a beginning was taken over.
    classifier = loading.load_model(out / "classifier/best.h5")
    net = loading.load_model(out / "fine_tuned/last.h5")
    assert (classifier.name, net.name) == ("vgg16", "fcn8s")
    for name in ("conv1_1/weights", "conv5_3/weights", "fc6/weights", "fc7/weights"):
        before, after = classifier.params[name], net.params[name].reshape(
            classifier.params[name].shape)
        other = loading.load_model(out / "from_scratch/last.h5").params[name]
        assert abs(before - after).max() < 0.01 < abs(before - other.reshape(before.shape)).max()
    # Called again, there is nothing left to do.
    files = {path: path.read_bytes() for path in out.rglob("*.h5")}
    example["main"]([str(root), str(out), "--quick"])
    assert {path: path.read_bytes() for path in out.rglob("*.h5")} == files
    assert capsys.readouterr().out.splitlines()[-3:] == table


def test_the_class_of_most_of_a_crop(example):
    task = example["MajorityOfCrop"]([], 3, 9)
    maps = np.full((4, 2, 3), 9, np.uint8)
    maps[0, 0] = 2, 2, 1
    maps[1] = [[0, 0, 0], [1, 1, 9]]
    maps[2, 1, 1] = 1
    assert task.targets(maps).tolist() == [2, 0, 1, 9]


@pytest.mark.parametrize("size, count", [((360, 480), 2 * 3), ((224, 224), 1), ((40, 52), 1),
                                         ((224, 336), 2)])
def test_crops_of_val_photos(example, size, count):
    photo, labels = np.zeros((*size, 3), np.uint8), np.arange(size[1], dtype=np.uint8)
    crops = list(example["crops_of"](photo, np.broadcast_to(labels, size)))
    assert len(crops) == count
    assert all(crop.shape == (224, 224, 3) and marks.shape == (224, 224) for crop, marks in crops)
    assert [marks[0, 0] for _, marks in crops] == [
        112 * i % 256 for i in range(count // (2 if size[0] == 360 else 1))] * (
            2 if size[0] == 360 else 1)
