"""The classify command: what it writes, says and returns."""
import gzip
import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import tinyfcn
from tinyfcn import classify, models

NAMES = ["n01 tabby, tabby cat", "n02 tiger cat", "n03 tabby, felt", "n04 7", "n05 crane"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A narrow VGG-11 whose five classes have no names."""
    net = models.VGG11(classes=5, width=1 / 32, fc_channels=6, input_size=32, seed=1)
    path = tmp_path_factory.mktemp("weights") / "vgg.h5"
    tinyfcn.save_model(net, path)
    return ["--weights", str(path)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save(path, size=(40, 30), colour=(200, 90, 10)):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def run(capsys, *arguments):
    code = classify.main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), [
        line for line in captured.err.splitlines() if "compiling" not in line]


def test_the_most_probable_classes_first(folder, weights, capsys):
    save("photo.png")
    code, out, err = run(capsys, "photo.png", *weights, "--top", "3")
    assert code == 0 and err == [] and len(out) == 4
    assert out[0].startswith("photo.png: 40x30, ")
    shares = [float(line.split("%")[0]) for line in out[1:]]
    assert shares == sorted(shares, reverse=True)
    assert all("  class " in line for line in out[1:])
    assert os.listdir() == ["photo.png"]
    assert len(run(capsys, "photo.png", *weights)[1]) == 6
    assert len(run(capsys, "photo.png", *weights, "--top", "100")[1]) == 6


def test_json(folder, weights, capsys):
    save("a.png"), save("sub/b.jpg", (32, 32))
    code, out, err = run(capsys, "a.png", "sub", *weights, "--top", "2", "--json")
    assert code == 0 and err == []
    content = json.loads("\n".join(out))
    with open(weights[1], "rb") as file:
        assert content["weights"] == {
            "path": weights[1], "sha256": hashlib.sha256(file.read()).hexdigest()}
    assert content["model"] == "vgg11" and content["classes"] == 5
    assert [each["path"] for each in content["images"]] == ["a.png", os.path.join("sub", "b.jpg")]
    first = content["images"][0]
    assert (first["width"], first["height"]) == (40, 30)
    assert len(first["top"]) == 2
    assert set(first["top"][0]) == {"index", "name", "probability"}
    assert 1 >= first["top"][0]["probability"] >= first["top"][1]["probability"] > 0


def test_the_answer_is_the_nets(folder, weights, capsys):
    photo = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(photo).save("photo.png")
    _, out, _ = run(capsys, "photo.png", *weights, "--json")
    net = tinyfcn.load_model(weights[1])
    x = photo[None, :, :, ::-1] - np.float32([103.939, 116.779, 123.68])
    scores = net.forward(x.astype(np.float32))[0]
    expected = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    for each in json.loads("\n".join(out))["images"][0]["top"]:
        assert each["probability"] == pytest.approx(expected[each["index"]], abs=1e-5)


@pytest.mark.parametrize("content", [
    "\n".join(NAMES), "\n".join(NAMES) + "\n\n", "\ufeff" + "\r\n".join(NAMES), json.dumps(NAMES),
    json.dumps({str(i): ["n0", name] for i, name in enumerate(NAMES)}),
    json.dumps({str(i): name for i, name in enumerate(NAMES)}),
])
def test_labels(folder, weights, capsys, content):
    save("photo.png")
    with open("labels.txt", "w", encoding="utf-8", newline="") as file:
        file.write(content)
    code, out, _ = run(capsys, "photo.png", *weights, "--labels", "labels.txt")
    assert code == 0
    assert {line.partition("%  ")[2] for line in out[1:]} == set(NAMES)


@pytest.mark.parametrize("content, message", [
    ("one\ntwo", "has 2 names; the net has 5 classes"),
    ("[1, 2]", "is no list of names: neither a line for each class nor JSON"),
    ("{", "is no list of names"),
    ('{"a": "b"}', "is no list of names"),
    (b"\xff\xfe\xfd", "is no list of names"),
    (None, "No such file or directory"),
])
def test_labels_that_are_none(folder, weights, capsys, content, message):
    save("photo.png")
    if content is not None:
        with open("labels.txt", "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
    code, out, err = run(capsys, "photo.png", *weights, "--labels", "labels.txt")
    assert code == 2 and out == []
    assert len(err) == 1 and err[0].startswith(f"tinyfcn-classify: labels.txt: {message}")


def test_a_heat_map(folder, weights, capsys):
    save("in/a/photo.jpg", (70, 50)), save("in/small.png", (5, 9))
    code, out, err = run(capsys, "in", *weights, "--heatmap", "3", "-o", "out", "--json")
    assert code == 0 and err == []
    second, first = json.loads("\n".join(out))["images"]
    assert first["heatmap"]["path"] == os.path.join("out", "a", "photo_heatmap.png")
    assert first["heatmap"]["index"] == 3 and first["heatmap"]["name"] == "class 3"
    assert 0 < first["heatmap"]["largest"] <= 1
    with Image.open(first["heatmap"]["path"]) as picture:
        assert picture.width >= 70 and picture.height > 50 and picture.mode == "RGB"
    assert os.path.exists(second["heatmap"]["path"])
    code, out, _ = run(capsys, "in/small.png", *weights, "--heatmap", "3")
    assert code == 0 and os.path.exists("small_heatmap.png")
    assert out[-1].startswith("  class 3: at most ") and out[-1].endswith("in ./small_heatmap.png")


@pytest.mark.parametrize("text, index", [
    ("0", 0), ("4", 4), ("tabby cat", 0), ("tiger", 1), ("Felt", 2), ("n02 tiger cat", 1),
    ("tabby, felt", 2), ("crane", 4), ("7", 3)])
def test_a_class_by_its_name_a_part_of_it_or_its_number(text, index):
    names = NAMES if text != "7" else [*NAMES[:3], "7", NAMES[4]]
    assert classify.find_class(text, names, 5) == index


def test_a_word_of_a_name_is_no_number_before_it():
    with pytest.raises(ValueError, match="'cat' is in the names of 2 classes: tiger cat, tabby, t"):
        classify.find_class("cat", ["tiger cat", "tabby, tabby cat"], 2)
    assert classify.find_class("cat", ["281: cat", "tabby, tabby cat"], 2) == 0


@pytest.mark.parametrize("text, message", [
    ("dog", "there is no class 'dog'"),
    ("5", "there is no class 5: the net has 5, from 0 on"),
    ("tabby", "'tabby' is in the names of 2 classes: n01 tabby, tabby cat, n03 tabby, felt"),
    ("cat", "'cat' is in the names of 2 classes"),
])
def test_a_class_that_is_none_or_several(folder, weights, capsys, text, message):
    save("photo.png")
    with open("labels.txt", "w", encoding="utf-8") as file:
        file.write("\n".join(NAMES))
    code, out, err = run(capsys, "photo.png", *weights, "--labels", "labels.txt", "--heatmap", text,
                         "-o", "out")
    assert code == 2 and out == [] and len(err) == 1
    assert err[0].startswith(f"tinyfcn-classify: --heatmap: {message}")
    code, _, err = run(capsys, "photo.png", *weights, "--heatmap", "tabby", "-o", "out")
    assert code == 2 and "the net's classes have no names" in err[0]


def test_what_fails_does_not_stop_the_others(folder, weights, capsys):
    save("good.png")
    with open("bad.png", "wb") as file:
        file.write(b"no image")
    code, out, err = run(capsys, "bad.png", "missing.png", "good.png", *weights)
    assert code == 1 and out[0].startswith("good.png: ")
    assert len(err) == 2
    assert any("bad.png: is not a readable" in line for line in err)
    assert any("missing.png: No such file" in line for line in err)
    code, out, err = run(capsys, "bad.png", "good.png", *weights, "--json")
    assert code == 1
    assert [each["path"] for each in json.loads("\n".join(out))["images"]] == ["good.png"]


def test_weights_that_are_not_finite(folder, capsys):
    net = models.VGG11(classes=5, width=1 / 32, fc_channels=6, input_size=32, seed=1)
    net.params["conv3_1/weights"][0, 0, 0, 0] = np.nan
    tinyfcn.save_model(net, "nan.h5")
    save("photo.png")
    assert run(capsys, "photo.png", "--weights", "nan.h5") == (1, [], [
        "tinyfcn-classify: warning: nan.h5: conv3_1/weights holds NaN or infinite values",
        "tinyfcn-classify: photo.png: the net's scores for this photo are not finite"])


def test_two_heat_maps_under_one_name(folder, weights, capsys):
    save("a/photo.png"), save("b/photo.jpg")
    code, _, err = run(capsys, "a", "b", *weights, "--heatmap", "1", "-o", "out")
    assert code == 2 and "would both be written" in err[0] and not os.path.exists("out")
    # Without pictures nothing collides.
    assert run(capsys, "a", "b", *weights)[0] == 0


def test_weights_that_do_not_classify(folder, capsys):
    save("photo.png")
    code, _, err = run(capsys, "photo.png")
    assert code == 3 and err == ["tinyfcn-classify: no weights for vgg16 come with tinyfcn: give "
                                 "a file with --weights"]
    tinyfcn.save_model(models.FCN32s(classes=2, width=1 / 64, fc_channels=2), "fcn.h5")
    code, _, err = run(capsys, "photo.png", "--weights", "fcn.h5")
    assert code == 3
    assert err == ["tinyfcn-classify: fcn.h5: holds fcn32s, which does not classify photos"]
    with open("text.h5", "w") as file:
        file.write("text")
    for name in "text.h5", "missing.h5":
        code, _, err = run(capsys, "photo.png", "--weights", name)
        assert code == 3 and len(err) == 1 and err[0].startswith(f"tinyfcn-classify: {name}: ")


def test_another_model(folder, weights, capsys):
    save("photo.png")
    code, _, err = run(capsys, "photo.png", *weights, "--model", "vgg19")
    assert code == 3 and err[0].endswith("is for vgg11, not for vgg19")


def test_what_does_not_fit_is_used_only_on_demand(folder, weights, capsys):
    from tinyfcn import weights as weight_files

    save("photo.png")
    tensors, about = weight_files.read(weights[1]), weight_files.describe(weights[1])
    del tensors["fc7/bias"]
    weight_files.write("part.h5", dict(tensors), about)
    code, out, err = run(capsys, "photo.png", "--weights", "part.h5")
    assert code == 3 and out == []
    assert err == ["tinyfcn-classify: part.h5: does not fit vgg11: 1 missing: fc7/bias"]
    code, out, err = run(capsys, "photo.png", "--weights", "part.h5", "--allow-partial")
    assert code == 0 and len(out) == 6
    assert err == ["tinyfcn-classify: warning: part.h5: does not fit vgg11, loaded in part: "
                   "1 missing: fc7/bias"]


@pytest.mark.parametrize("arguments, message", [
    ([], "the following arguments are required: PHOTO"),
    (["a.png", "--top", "0"], "argument --top: must be at least 1, not 0"),
    (["a.png", "--model", "fcn8s"], "argument --model: invalid choice: 'fcn8s'"),
    (["a.png", "-o", "out"], "-o needs --heatmap: nothing else is written"),
    (["a.png", "--layout", "caffee"], "no layout caffee; there are tinyfcn, caffe-fcn, "),
])
def test_usage(capsys, arguments, message):
    code, out, err = run(capsys, *arguments)
    assert code == 2 and out == [] and len(err) == 1
    assert err[0].startswith(f"tinyfcn-classify: {message}")


def test_help_imports_nothing_heavy():
    program = ("import sys; from tinyfcn import classify; code = classify.main(['--help']); "
               "print(code, sorted({'numpy', 'numba', 'PIL'} & set(sys.modules)))")
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "0 []", result.stderr
    assert set(classify.MODELS) == set(models.CLASSIFIERS)


def test_an_interrupt_is_one_line(folder, weights, capsys, monkeypatch):
    from tinyfcn import loading

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    save("photo.png")
    monkeypatch.setattr(loading, "load_model", interrupted)
    assert run(capsys, "photo.png", *weights) == (130, [], ["tinyfcn-classify: interrupted"])


def test_a_real_digit(folder, test_data, capsys):
    with gzip.open(test_data("mnist", "t10k-images-idx3-ubyte.gz")) as file:
        digit = np.frombuffer(file.read(16 + 784), np.uint8, offset=16).reshape(28, 28)
    Image.fromarray(digit).save("digit.png")
    Image.fromarray(digit).resize((140, 140)).save("large.png")
    path = str(test_data("lenet", "everpeace_v1", "lenet_iter_10000.caffemodel"))
    code, out, err = run(capsys, "digit.png", "large.png", "--weights", path, "--top", "1")
    assert code == 0
    assert out[1].split() == out[3].split() == ["100.0", "%", "7"]
    assert err == [f"tinyfcn-classify: {path}: recognised as caffe-lenet, Caffe's LeNet for MNIST; "
                   "lenet with 10 classes, for grey * 0.00390625"]
