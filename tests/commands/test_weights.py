"""python -m tinyfcn.weights: inspect, compare, convert, list, fetch."""
import json
import os

import numpy as np
import pytest

from tinyfcn import weights
from tinyfcn.weight_files import main
from tinyfcn.weights import catalogue
from tinyfcn.weights.catalogue import KnownFile


@pytest.fixture
def run(capsys):
    """Run the command: (exit code, what it prints, its words on stderr)."""
    def _run(*arguments):
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return _run


@pytest.fixture
def lenet():
    """Caffe's LeNet: {layer: (weights OIHW or OI, bias)}."""
    rng = np.random.default_rng(5)
    shapes = {"conv1": (20, 1, 5, 5), "conv2": (50, 20, 5, 5), "ip1": (500, 800),
              "ip2": (10, 500)}
    return {name: (rng.standard_normal(shape, np.float32),
                   rng.standard_normal(shape[0], np.float32)) for name, shape in shapes.items()}


def caffe_names(layers):
    return {f"{name}/{i}": array for name, arrays in layers.items()
            for i, array in enumerate(arrays)}


@pytest.fixture
def npz(tmp_path, lenet):
    path = tmp_path / "lenet.npz"
    np.savez(path, **caffe_names(lenet))
    return path


def test_inspect_says_all(run, npz, lenet):
    code, out, err = run("inspect", npz)
    assert code == 0 and err == ""
    assert "NumPy archive (.npz)" in out
    assert "caffe-lenet" in out
    assert "lenet (in_channels 1, classes 10, input_size 28)" in out
    assert weights.sha256(npz) in out
    line = next(line for line in out.splitlines() if line.startswith("conv2/0"))
    array = lenet["conv2"][0]
    assert line.split() == ["conv2/0", "50x20x5x5", "float32", f"{array.min():.6g}",
                            f"{array.max():.6g}", "0", "0"]
    assert f"8 tensors, {sum(a.nbytes for a in caffe_names(lenet).values())} bytes" in out


def test_inspect_in_json(run, npz, lenet):
    code, out, _ = run("inspect", npz, "--json")
    about = json.loads(out)
    assert code == 0
    assert about["layout"]["name"] == "caffe-lenet"
    assert about["net"]["model"] == "lenet"
    assert about["preprocessing"]["channel_order"] == "grey"
    assert about["sha256"] == weights.sha256(npz)
    assert [t["name"] for t in about["tensors"]] == list(caffe_names(lenet))
    assert about["tensors"][0] == {
        "name": "conv1/0", "shape": [20, 1, 5, 5], "dtype": "float32",
        "min": float(lenet["conv1"][0].min()), "max": float(lenet["conv1"][0].max()),
        "nan": 0, "infinite": 0}


def test_nan_and_inf_are_a_warning_that_names_the_tensors(run, tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, good=np.ones(3), bad=np.array([1, np.nan, np.nan, 4]),
             worse=np.array([np.inf, -np.inf]), counts=np.array([3]))
    code, out, err = run("inspect", path, "--json")
    found = {t["name"]: (t["min"], t["max"], t["nan"], t["infinite"])
             for t in json.loads(out)["tensors"]}
    assert code == 0
    assert found == {"good": (1, 1, 0, 0), "bad": (1, 4, 2, 0), "worse": (None, None, 0, 2),
                     "counts": (3, 3, 0, 0)}
    assert err == f"tinyfcn-weights: warning: {path}: NaN or infinite values in 2 of 4 tensors: " \
                  "bad, worse\n"
    code, _, err = run("convert", path, tmp_path / "b.h5", "--layout", "none")
    assert code == 0 and "NaN or infinite values in 2 of 4" in err


@pytest.mark.parametrize("command", ["inspect", "compare", "convert"])
def test_bad_files_end_in_one_line_and_code_3(run, tmp_path, npz, command):
    bad = tmp_path / "bad.pth"
    bad.write_bytes(b"<!DOCTYPE html><p>Quota exceeded")
    more = {"inspect": [], "compare": [npz], "convert": [tmp_path / "out.h5"]}[command]
    code, out, err = run(command, bad, *more)
    assert code == 3 and out == ""
    assert err == f"tinyfcn-weights: {bad}: not a weight file of a known format, but a web page\n"
    code, _, err = run(command, tmp_path / "missing", *more)
    assert code == 3 and err.count("\n") == 1
    assert not (tmp_path / "out.h5").exists()


def test_usage(run, npz, tmp_path):
    for arguments, pattern in (
            ((), "COMMAND"), (("nonsense",), "nonsense"), (("inspect",), "FILE"),
            (("convert", npz, tmp_path / "a.pth"), "ends in .h5 or .safetensors"),
            (("convert", npz, tmp_path / "a.h5", "--layout", "x"), "no layout 'x'; there are"),
            (("convert", npz, tmp_path / "a.h5", "--dtype", "int8"), "int8"),
            (("fetch", "x"), "no file 'x' is known")):
        code, out, err = run(*arguments)
        assert code == 2 and out == "", arguments
        assert pattern in err and err.count("\n") == 1


def own(lenet):
    """What the tables make of the LeNet: HWIO, (in, out) in h, w, c order."""
    out = {}
    for name, (array, bias) in lenet.items():
        if name == "ip1":
            array = array.reshape(500, 50, 4, 4).transpose(2, 3, 1, 0).reshape(800, 500)
        elif array.ndim == 4:
            array = array.transpose(2, 3, 1, 0)
        else:
            array = array.T
        out |= {f"{name}/weights": array, f"{name}/bias": bias}
    return out


@pytest.mark.parametrize("ending", [".h5", ".safetensors"])
def test_convert_turns_names_and_order_and_can_be_loaded(run, npz, lenet, tmp_path, ending):
    pytest.importorskip("safetensors")
    out = tmp_path / f"out{ending}"
    assert run("convert", npz, out)[0] == 0
    read = weights.read(out)
    for name, array in own(lenet).items():
        np.testing.assert_array_equal(read[name], array, err_msg=name)
    about = weights.describe(out)
    assert about["model"] == "lenet" and about["class_names"] == list("0123456789")
    assert about["converted"] == {"from": "NumPy archive (.npz)", "layout": "caffe-lenet",
                                  "sha256": weights.sha256(npz)}

    from tinyfcn import load_model

    first, second = load_model(npz), load_model(out)
    image = np.random.default_rng(0).standard_normal((1, 28, 28, 1)).astype(np.float32)
    np.testing.assert_array_equal(first.forward(image), second.forward(image))
    assert second.preprocessing == first.preprocessing


def test_convert_to_half_precision_and_as_stored(run, npz, lenet, tmp_path):
    assert run("convert", npz, tmp_path / "half.h5", "--dtype", "float16")[0] == 0
    read = weights.read(tmp_path / "half.h5")
    for name, array in own(lenet).items():
        np.testing.assert_array_equal(read[name], array.astype(np.float16))
    assert run("convert", npz, tmp_path / "same.h5", "--layout", "none")[0] == 0
    read = weights.read(tmp_path / "same.h5")
    for name, array in caffe_names(lenet).items():
        np.testing.assert_array_equal(read[name], array)


def test_convert_of_an_unknown_layout_says_so(run, tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones(2))
    code, _, err = run("convert", tmp_path / "a.npz", tmp_path / "a.h5")
    assert code == 0
    assert "warning" in err and "its layout is not known here" in err
    assert list(weights.read(tmp_path / "a.h5")) == ["x"]
    code, _, err = run("convert", tmp_path / "a.npz", tmp_path / "b.h5", "--layout", "caffe-vgg")
    assert code == 3 and "does not have the tensors of the layout caffe-vgg" in err
    assert not (tmp_path / "b.h5").exists()


def test_compare_across_formats_and_layouts(run, npz, lenet, tmp_path):
    out = tmp_path / "out.h5"
    run("convert", npz, out)
    code, text, _ = run("compare", npz, out)
    assert code == 0 and "the same: 8 of 8 common tensors are equal" in text

    lenet["conv2"][0][1, 1, 2, 3] += 0.5
    np.savez(tmp_path / "other.npz", **caffe_names(lenet))
    code, text, _ = run("compare", out, tmp_path / "other.npz")
    assert code == 1
    assert "not the same: 7 of 8" in text and "in conv2/weights" in text
    code, text, _ = run("compare", out, tmp_path / "other.npz", "--json")
    about = json.loads(text)
    assert code == 1 and not about["same"]
    assert {name for name, value in about["differences"].items() if value} == {"conv2/weights"}
    assert about["differences"]["conv2/weights"] == pytest.approx(0.5, rel=1e-5)


def test_compare_dense_layers_with_convolutions(run, tmp_path):
    """timm's and MatConvNet's VGG have the dense layers as convolutions, torchvision's has not."""
    rng = np.random.default_rng(0)
    tensors, inputs = {}, 3
    for position in (0, 3, 6, 8, 11, 13, 16, 18):  # VGG-11
        tensors[f"features.{position}.weight"] = rng.standard_normal((4, inputs, 3, 3), np.float32)
        tensors[f"features.{position}.bias"] = rng.standard_normal(4, np.float32)
        inputs = 4
    dense = {0: rng.standard_normal((6, 4 * 49), np.float32),
             3: rng.standard_normal((6, 6), np.float32), 6: rng.standard_normal((5, 6), np.float32)}
    own = {f"classifier.{i}.weight": array for i, array in dense.items()} \
        | {f"classifier.{i}.bias": np.arange(len(array)) for i, array in dense.items()}
    timm = {"pre_logits.fc1.weight": dense[0].reshape(6, 4, 7, 7),
            "pre_logits.fc2.weight": dense[3].reshape(6, 6, 1, 1), "head.fc.weight": dense[6]} \
        | {f"{name}.bias": own[f"classifier.{i}.bias"]
           for name, i in (("pre_logits.fc1", 0), ("pre_logits.fc2", 3), ("head.fc", 6))}
    np.savez(tmp_path / "a.npz", **tensors, **own)
    np.savez(tmp_path / "b.npz", **tensors, **timm)
    code, text, _ = run("compare", tmp_path / "a.npz", tmp_path / "b.npz")
    assert code == 0, text
    assert "layout torchvision-vgg" in text and "layout timm-vgg" in text
    assert text.endswith("the same: 22 of 22 common tensors are equal\n")
    timm["pre_logits.fc1.weight"][5, 3, 6, 6] += 2
    np.savez(tmp_path / "b.npz", **tensors, **timm)
    code, text, _ = run("compare", tmp_path / "a.npz", tmp_path / "b.npz")
    assert code == 1 and "the largest difference is 2, in fc6/weights" in text


def test_what_a_file_of_our_own_says_of_its_input(run, npz, tmp_path):
    run("convert", npz, tmp_path / "own.h5")
    assert "  input   grey * 0.00390625\n" in run("inspect", tmp_path / "own.h5")[1]
    about = weights.describe(tmp_path / "own.h5")
    about["preprocessing"]["channel_order"] = ["grey"]
    weights.write(tmp_path / "own.h5", weights.read(tmp_path / "own.h5"), about)
    code, text, _ = run("inspect", tmp_path / "own.h5")
    assert code == 0 and "  input  " not in text
    assert run("compare", npz, tmp_path / "own.h5")[0] == 0


def test_compare_as_stored(run, tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones(2), y=np.ones(3), z=np.array([1, np.nan]))
    np.savez(tmp_path / "b.npz", x=np.ones(2), y=np.ones((3, 1)), w=np.ones(1),
             z=np.array([1, np.nan]))
    code, text, _ = run("compare", tmp_path / "a.npz", tmp_path / "b.npz")
    assert code == 1
    assert "names are compared as they are stored" in text
    assert "only in B: w" in text
    assert "other shapes: y (3,) (3, 1)" in text
    assert "2 of 3 common tensors are equal" in text


def test_compare_turns_rgb_to_bgr(run, tmp_path):
    """Caffe's VGG sees BGR, MatConvNet's and Frossard's RGB."""
    rng = np.random.default_rng(0)
    caffe, frossard, inputs = {}, {}, 3
    for block, count in enumerate((2, 2, 3, 3, 3), 1):
        for i in range(1, count + 1):
            array = rng.standard_normal((4, inputs, 3, 3), np.float32)
            bias, inputs = np.arange(4, dtype=np.float32), 4
            caffe |= {f"conv{block}_{i}/W": array, f"conv{block}_{i}/b": bias}
            other = array[:, ::-1] if len(frossard) == 0 else array
            frossard |= {f"conv{block}_{i}_W": other.transpose(2, 3, 1, 0),
                         f"conv{block}_{i}_b": bias}
    np.savez(tmp_path / "caffe.npz", **caffe)
    np.savez(tmp_path / "frossard.npz", **frossard)
    code, text, _ = run("compare", tmp_path / "caffe.npz", tmp_path / "frossard.npz")
    assert code == 0, text
    assert "A sees BGR, B RGB" in text and "26 of 26" in text
    code, text, _ = run("inspect", tmp_path / "caffe.npz")
    assert code == 0 and "  note    holds convolutions alone" in text and "  net  " not in text


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYFCN_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "weights").mkdir(parents=True)
    return tmp_path / "home" / "weights"


def test_list(run, cache):
    (cache / "vgg16_weights.npz").touch()
    (cache / "vgg16-397923af.pth.part").touch()
    code, out, _ = run("list", "--json")
    about = json.loads(out)
    assert code == 0 and about["cache"] == str(cache)
    states = {entry["name"]: entry["cached"] for entry in about["files"]}
    assert states["vgg16-frossard"] == "yes" and states["vgg16-torchvision"] == "in part"
    assert states["vgg16-caffe"] == "no"
    code, out, _ = run("list")
    assert code == 0
    for known in catalogue.FILES.values():
        assert f"\n{known.name}: " in out and known.url in out and known.licence in out
    assert "sha1:9363e1f6d65f7dba68c4f27a1e62105cdf6c4e24" in out


def test_fetch_by_hand(run, cache, npz, monkeypatch):
    known = KnownFile("x", "about", "https://example.org/x.npz", "x.npz")
    monkeypatch.setitem(catalogue.FILES, "x", known)
    code, out, err = run("fetch", "x")
    assert code == 1 and out == ""
    assert known.url in err and str(cache / "x.npz") in err and "no published hash" in err
    os.replace(npz, cache / "x.npz")
    code, out, err = run("fetch", "x")
    assert code == 0 and out == f"{cache / 'x.npz'}\n"
    assert "layout caffe-lenet; checked by reading it alone" in err
    monkeypatch.setitem(catalogue.FILES, "x", known._replace(hash="md5:0" * 8, by_hand=True))
    code, out, err = run("fetch", "x")
    assert code == 3 and out == "" and "is not x, or damaged" in err


def test_fetch_fails_in_one_line(run, cache, monkeypatch):
    pytest.importorskip("pooch")
    from tinyfcn.weights import fetching

    monkeypatch.setattr(fetching, "FIRST_WAIT", 0)
    monkeypatch.setitem(catalogue.FILES, "x", KnownFile(
        "x", "about", "http://127.0.0.1:9/x", "x.npz", "md5:" + "0" * 32))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    code, out, err = run("fetch", "x")
    assert code == 1 and out == "" and err.count("\n") == 1
    assert err.startswith("tinyfcn-weights: http://127.0.0.1:9/x: ")
    assert os.listdir(cache) == []
