"""The command that checks gradients."""
import subprocess
import sys

import numpy as np
import pytest

from tinyfcn import gradcheck, layers, models


def run(capsys, *arguments):
    """Run the command in this process. Returns the exit code, and the lines of both streams."""
    code = gradcheck.main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), [
        line for line in captured.err.splitlines() if "compiling" not in line]


def test_one_kind_of_layer(capsys):
    code, out, err = run(capsys, "--layer", "Crop", "--seed", "11")
    assert code == 0 and err == []
    assert out[0].split() == ["layer", "parameter", "error", "threshold", "kinks", "seed"]
    assert out[-1] == "6 of 6 gradients agree with numerical ones"
    rows = [line.split() for line in out[1:-1]]
    assert len(rows) == 6 and {row[0] for row in rows} == {"Crop"}
    for row in rows:
        error, threshold, kinks, seed = row[-4:]
        assert float(error) < float(threshold) and (kinks, seed) == ("0", "11")


@pytest.mark.parametrize("kind", gradcheck.LAYERS)
def test_every_kind_of_layer_passes(kind):
    rows = list(gradcheck.check_layer(kind, seed=5))
    assert [row for row in rows if not row.passed] == []
    assert {row.layer.split()[0] for row in rows} == {kind}
    if kind in ("Add", "Convolution", "Crop", "Dropout", "Linear", "Scale",
                "TransposedConvolution"):
        assert "dot test, x" in {row.parameter for row in rows}


def test_every_layer_there_is_is_checked():
    without_backward = {"FrozenConvolution", "FrozenLinear", "Interpolation"}
    others = {"Layer", "separable_filter"} | without_backward
    assert set(gradcheck.LAYERS) == set(layers.__all__) - others | {"softmax_loss"}
    assert set(gradcheck.NETS) == set(models.BY_NAME)


@pytest.mark.parametrize("name", ["maxpooling", "max_pooling", "MaxPooling", "MAX_POOLING"])
def test_layers_names_in_other_spellings(capsys, name):
    code, out, _ = run(capsys, "--layer", name)
    assert code == 0 and out[1].startswith("MaxPooling 2x2")


def test_a_wrong_gradient(capsys, monkeypatch):
    right = layers.Convolution.backward

    def wrong(self, gy, input_gradient=True):
        gx = right(self, gy, input_gradient)
        self.grads["bias"] = self.grads["bias"] * 1.001
        return gx

    monkeypatch.setattr(layers.Convolution, "backward", wrong)
    monkeypatch.setattr(gradcheck, "_layer_cases", lambda kind: [
        ("1x1", layers.Convolution(3, 4, 1, dtype=np.float64), [(1, 4, 4, 3)], {})])
    code, out, err = run(capsys, "--layer", "Convolution")
    assert code == 1 and err == []
    at = out.index(next(line for line in out if line.split()[2] == "bias"))
    assert float(out[at].split()[3]) == pytest.approx(1e-3, rel=0.06)
    assert out[at + 1].startswith("  WRONG at (") or out[at + 1].startswith("  WRONG at a dir")
    assert ": backward " in out[at + 1] and ", numerical " in out[at + 1]
    assert out[at + 1].endswith(", eps 1e-05")
    assert out[-1] == "4 of 5 gradients agree with numerical ones"


@pytest.mark.parametrize("name, forms", [
    ("fcn16s", [("same", False), ("same", True), ("caffe", False)]),
    ("vgg16", [("same", False), ("same", True)]),
    ("caffenet", [("same", False)]),
])
def test_one_net_in_all_its_forms(capsys, monkeypatch, name, forms):
    seen = []

    def check_net(net, seed, geometry="same", batch_norm=False, **sizes):
        seen.append((geometry, batch_norm))
        assert (net, seed) == (name, 3)
        return []

    monkeypatch.setattr(gradcheck, "check_net", check_net)
    code, out, _ = run(capsys, "--net", name, "--seed", "3")
    assert code == 0 and seen == forms
    assert out[-1] == "0 of 0 gradients agree with numerical ones"


def test_without_options_everything_is_checked(capsys, monkeypatch):
    kinds, nets = [], []
    monkeypatch.setattr(gradcheck, "check_layer", lambda kind, seed, device:
                        kinds.append(kind) or [])
    monkeypatch.setattr(gradcheck, "check_net", lambda net, seed, geometry="same", **options:
                        nets.append((net, geometry, options.get("batch_norm", False))) or [])
    assert run(capsys)[0] == 0
    assert kinds == list(gradcheck.LAYERS)
    assert {net for net, _, _ in nets} == set(gradcheck.NETS)
    assert ("fcn8s", "caffe", False) in nets and ("fcn8s", "same", True) in nets


@pytest.mark.parametrize("arguments, message", [
    (["--layer", "conv9"], "argument --layer: no layer conv9; there are Add, BatchNorm, "
     "Convolution, Crop, Dropout, Linear, LocalResponseNormalization, MaxPooling, ReLU, Scale, "
     "TransposedConvolution, softmax_loss"),
    (["--net", "fcn4s"], "argument --net: invalid choice: 'fcn4s'"),
    (["--seed", "-1"], "argument --seed: must be at least 0, not -1"),
    (["--seed", "x"], "argument --seed: "),
    (["more"], "unrecognized arguments: more"),
])
def test_usage(capsys, arguments, message):
    code, out, err = run(capsys, *arguments)
    assert code == 2 and out == [] and len(err) == 1
    assert err[0].startswith(f"tinyfcn-gradcheck: {message}")


def test_an_interrupt_is_one_line(capsys, monkeypatch):
    def interrupted(kind, seed, device):
        raise KeyboardInterrupt

    monkeypatch.setattr(gradcheck, "check_layer", interrupted)
    code, _, err = run(capsys, "--layer", "ReLU")
    assert code == 130 and err == ["tinyfcn-gradcheck: interrupted"]


def test_help_imports_nothing_heavy():
    program = ("import sys; from tinyfcn import gradcheck; code = gradcheck.main(['--help']); "
               "print(code, sorted({'numpy', 'numba'} & set(sys.modules)))")
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "0 []", result.stderr
    assert result.stdout.startswith("usage: tinyfcn-gradcheck")
