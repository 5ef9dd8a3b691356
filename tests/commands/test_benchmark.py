"""The benchmark command: what it compares and prints. How long things take is not looked at."""
import json
import os
import subprocess
import sys

import numba
import numpy as np
import pytest

from tinyfcn import benchmark, console, layers, models, peers
from tinyfcn.kernels import cpu

TINY = ["--size", "32x48", "--width", "0.0625", "--fc-channels", "16", "--classes", "5",
        "--repeat", "2"]
SUMMARY = {"median", "min", "max"}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(benchmark, "PAUSE_SECONDS", 0)


@pytest.fixture
def no_torch(monkeypatch):
    has = benchmark._has
    monkeypatch.setattr(benchmark, "_has", lambda module: module != "torch" and has(module))


@pytest.fixture
def run(capsys):
    """Run the command with tiny sizes: (exit code, stdout, stderr)."""
    def call(*arguments):
        code = benchmark.main([*TINY, *arguments])
        return code, *capsys.readouterr()
    return call


def check_contest(contest):
    assert SUMMARY <= contest["ours"].keys()
    for seconds in (contest["ours"], contest["other"]):
        assert 0 < seconds["min"] <= seconds["median"] <= seconds["max"]
    ratio = contest["other"]["median"] / contest["ours"]["median"]
    assert contest["ratio"] == pytest.approx(ratio)


def check_products(products):
    assert products["other"] == "NumPy"
    # The first layer sees 3 x 3 x 3 numbers at each of 32 x 48 pixels and has 64 / 16 channels.
    assert products["sizes"][0]["size"] == [32 * 48, 27, 4]
    assert products["sizes"][0]["layers"] == ["conv1_1"]
    assert ["conv3_2", "conv3_3"] in [each["layers"] for each in products["sizes"]]
    for each in products["sizes"]:
        check_contest(each)
    for who in ("ours", "other"):
        total = sum(each[who]["median"] for each in products["sizes"])
        assert products["seconds"][who] == pytest.approx(total)
    assert products["ratio"] == pytest.approx(
        products["seconds"]["other"] / products["seconds"]["ours"])
    assert products["lowest_ratio"] == min(each["ratio"] for each in products["sizes"])


def test_json_without_a_peer(run):
    code, out, err = run("--json", "--peers", "none", "--layers", "--train", "--batch", "2")
    assert code == 0
    report = json.loads(out)
    assert report.keys() == {"machine", "versions", "net", "first_run_seconds", "inference",
                             "training", "matrix_products", "layers", "hint"}
    assert report["machine"]["threads"] <= report["machine"]["cores"]
    assert report["machine"]["simd_bits"] in (128, 256, 512)
    assert report["machine"]["cpu"]
    assert report["versions"].keys() == {"tinyfcn", "python", "numba", "numpy"}
    assert report["net"]["model"] == "fcn8s"
    assert (report["net"]["batch"], report["net"]["size"]) == (2, [32, 48])
    net = models.FCN8s(classes=5, width=0.0625, fc_channels=16)
    assert report["net"]["parameters"] == sum(w.size for w in net.params.values())
    for what in ("inference", "training"):
        assert report[what]["duels"] == []
        assert report[what]["ratio"] is None
        assert SUMMARY == report[what]["ours"].keys()
    check_products({**report["matrix_products"], "sizes": [
        {**each, "size": [each["size"][0] // 2, *each["size"][1:]]}
        for each in report["matrix_products"]["sizes"]]})
    rows = {row["name"]: row for row in report["layers"]}
    assert "relu1_1" not in rows                # runs inside conv1_1
    assert rows["conv1_1"]["output"] == [2, 32, 48, 4]
    assert rows["upscore8"]["output"] == [2, 32, 48, 5]
    assert report["net"]["gflop"] == pytest.approx(sum(row["gflop"] for row in rows.values()))
    assert all(row["ours"] > 0 and row["other"] is None for row in rows.values())
    assert report["hint"] is None


@pytest.mark.torch
def test_json_with_torch(run):
    pytest.importorskip("torch")
    code, out, err = run("--json", "--peers", "torch", "--layers", "--train")
    assert code == 0, err
    report = json.loads(out)
    assert "torch" in report["versions"]
    for what in ("inference", "training"):
        duels = report[what]["duels"]
        assert [duel["against"] for duel in duels] == ["PyTorch nchw", "PyTorch channels-last"]
        for duel in duels:
            check_contest(duel)
        fastest = min(duels, key=lambda duel: duel["other"]["median"])
        assert {key: report[what][key] for key in fastest} == fastest
    check_products(report["matrix_products"])
    assert all(row["other"] > 0 for row in report["layers"])
    assert report["hint"] is None


@pytest.mark.torch
@pytest.mark.parametrize("model, size", [("vgg16", "32x32"), ("fcn32s", "1x1"), ("fcn16s", "9x40"),
                                         ("fcn8s-atonce", "33x31")])
def test_every_model_agrees_with_torch(model, size, run):
    pytest.importorskip("torch")
    code, out, err = run("--model", model, "--size", size, "--repeat", "1", "--peers", "torch")
    assert code == 0, err
    assert out.splitlines()[3].startswith(f"{model}, ")


@pytest.mark.torch
def test_text_gives_both_ratios(run):
    pytest.importorskip("torch")
    code, out, err = run("--train", "--layers")
    assert code == 0, err
    last = out.splitlines()[-4:]
    assert last[0] == "ratio: the other's time / tinyfcn's; above 1, tinyfcn is faster"
    assert [line.split()[0] for line in last[1:]] == ["inference", "training", "matrix"]
    assert "against PyTorch" in last[1] and "against NumPy" in last[3]
    assert "pip install" not in out


def test_text_without_torch_says_how_to_get_it(run, no_torch):
    code, out, err = run()
    assert code == 0
    assert "PyTorch" not in out.splitlines()[-2]
    assert "against NumPy" in out.splitlines()[-2]
    assert out.splitlines()[-1].startswith("pip install torch ")
    assert "training step" not in out


def test_torch_asked_for_but_missing_is_an_error(run, no_torch):
    code, out, err = run("--peers", "torch")
    assert (code, out) == (2, "")
    assert err.startswith("tinyfcn-benchmark: PyTorch is not installed: pip install torch ")
    assert err.count("\n") == 1


# ---- comparing


@pytest.mark.torch
def test_another_result_than_torchs_is_an_error(run, monkeypatch):
    pytest.importorskip("torch")
    right = peers.scores
    monkeypatch.setattr(peers, "scores", lambda y: right(y) * (1 + 2e-4))
    code, out, err = run("--json")
    assert (code, out) == (1, "")
    assert ("fcn8s, PyTorch nchw: scores: results differ by" in err.splitlines()[-1])


@pytest.mark.torch
def test_another_gradient_than_torchs_is_an_error(run, monkeypatch):
    pytest.importorskip("torch")
    right = peers.gradients

    def wrong(net, params):
        found = right(net, params)
        return {**found, "conv3_1/weights": found["conv3_1/weights"] * 1.1}

    monkeypatch.setattr(peers, "gradients", wrong)
    code, out, err = run("--train")
    assert (code, out) == (1, "")
    assert "gradient of conv3_1/weights: results differ by" in err.splitlines()[-1]


def test_another_product_than_numpys_is_an_error(run, monkeypatch):
    right = cpu.matrix_product
    monkeypatch.setattr(cpu, "matrix_product", lambda a, b: right(a, b) + np.float32(1))
    code, out, err = run("--peers", "none")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith(
        "tinyfcn-benchmark: matrix product 1536 x 27 x 4: results differ by ")


@pytest.mark.parametrize("ours, theirs, message", [
    ([1.0, 2.0], [1.0, 2.1], "x: results differ by 0.1 where the largest is 2.1; allowed is 0.01"),
    ([1.0, np.nan], [1.0, 2.0], "x: results differ by nan"),
    ([1.0, np.nan], [1.0, np.nan], "x: results differ by nan"),
    ([1.0, np.inf], [1.0, np.inf], "x: results differ by nan"),
    ([0.0, 0.0], [0.0, 0.0], "x: results differ by 0 where the largest is 0"),
    ([1.0], [[1.0]], r"x: shapes differ, \(1,\) here and \(1, 1\) there"),
])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_compare_refuses(ours, theirs, message):
    with pytest.raises(console.CommandError, match=f"^{message}") as error:
        benchmark._compare("x", ours, theirs, 0.01)
    assert error.value.code == 1


def test_compare_accepts_what_is_close():
    benchmark._compare("x", [1.0, 100.0], [1.9, 100.0], 0.01)


# ---- measuring


def test_turns_alternate():
    order = []
    seconds = benchmark._in_turns([lambda: order.append("a"), lambda: order.append("b")], 3)
    assert order == list("ababab")
    assert [len(each) for each in seconds] == [3, 3]


@pytest.mark.parametrize("layer, x, y, product, flop, passes", [
    (layers.Convolution(3, 5, 3, padding=1), (2, 4, 6, 3), (2, 4, 6, 5), (48, 27, 5), 12960, 3),
    (layers.Convolution(3, 5, (2, 1), 2), (1, 4, 6, 3), (1, 2, 3, 5), (6, 6, 5), 360, 3),
    (layers.Convolution(4, 6, 1, groups=2), (1, 2, 3, 4), (1, 2, 3, 6), None, 144, 3),
    (layers.Linear(24, 5), (2, 2, 3, 4), (2, 5), (2, 24, 5), 480, 3),
    (layers.TransposedConvolution(4, 4, 2, 1), (1, 2, 3, 4), (1, 4, 6, 4), None, 3072, 2),
    (layers.TransposedConvolution(4, 4, 2, 1, fixed=False), (1, 2, 3, 4), (1, 4, 6, 4), None,
     3072, 3),
    (layers.ReLU(), (1, 2, 3, 4), (1, 2, 3, 4), None, 0, 0),
])
def test_work_of_a_layer_by_hand(layer, x, y, product, flop, passes):
    work = benchmark._work(layer, np.zeros(x), np.zeros(y), False)
    assert work == (product, pytest.approx(flop * 1e-9), passes)


def test_first_layer_needs_one_gradient_less():
    layer = layers.Convolution(3, 5, 3, padding=1)
    assert benchmark._work(layer, np.zeros((1, 4, 6, 3)), np.zeros((1, 4, 6, 5)), True)[2] == 2


def test_observing_leaves_the_net_as_it_was():
    net = models.FCN32s(width=0.0625, fc_channels=8)
    before = {name: dict(vars(layer)) for name, layer in net.layers.items()}
    with benchmark._observed(net) as rows:
        net.forward(np.zeros((1, 8, 8, 3), np.float32))
    assert rows[0]["name"] == "conv1_1" and rows[-1]["name"] == "upscore"
    with pytest.raises(ValueError), benchmark._observed(net):
        net.forward(np.zeros((1, 8, 8, 2), np.float32))
    assert {name: dict(vars(layer)) for name, layer in net.layers.items()} == before


def test_threads_are_set_for_the_command_alone(run):
    before = numba.get_num_threads()
    code, out, err = run("--threads", "1", "--peers", "none", "--json")
    assert code == 0
    assert json.loads(out)["machine"]["threads"] == 1
    assert numba.get_num_threads() == before


# ---- the command line


def test_help_imports_nothing_heavy():
    program = ("import sys; from tinyfcn import benchmark; code = benchmark.main(['--help']); "
               "sys.exit(code or bool({'numpy', 'numba', 'torch'} & set(sys.modules)))")
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("usage: tinyfcn-benchmark ")


@pytest.mark.parametrize("arguments, message", [
    (["--size", "375"], "--size: must be HEIGHTxWIDTH such as 375x500, not '375'"),
    (["--size", "0x5"], "--size: must be HEIGHTxWIDTH such as 375x500, not '0x5'"),
    (["--size", "3x4x5"], "--size: must be HEIGHTxWIDTH such as 375x500, not '3x4x5'"),
    (["--batch", "0"], "--batch: must be at least 1"),
    (["--repeat", "x"], "--repeat: not a whole number: 'x'"),
    (["--width", "nan"], "--width: must be above 0"),
    (["--classes", "256"], "--classes: must be at least 1 and at most 255, not 256"),
    (["--threads", "100000"], "--threads: must be at least 1 and at most "),
    (["--seed", "-1"], "--seed: must be at least 0"),
    (["--peers", "numpy"], "--peers: invalid choice"),
    (["--model", "lenet"], "--model: invalid choice"),
    (["--model", "vgg16"], "vgg16 takes square images: choose a --size such as 224x224"),
])
def test_usage_errors(arguments, message, run):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("tinyfcn-benchmark: ")
    assert message in err
    assert err.count("\n") == 1


def test_more_threads_than_numba_has_is_an_error():
    environment = {**os.environ, "NUMBA_NUM_THREADS": "1"}
    program = ("import numba; from tinyfcn import benchmark, console; "
               "benchmark._cores = lambda: 2; "
               "raise SystemExit(benchmark.main(['--threads', '2']))")
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                            env=environment)
    assert result.returncode == 2
    assert result.stderr == ("tinyfcn-benchmark: --threads 2: Numba was started with 1 "
                             "(NUMBA_NUM_THREADS)\n")


@pytest.mark.parametrize("error, code, message", [
    (KeyboardInterrupt(), 130, "interrupted"),
    (MemoryError(), 1, "not enough memory: choose a smaller --size, --batch or --width"),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to"), 1,
     "not enough memory: choose a smaller --size, --batch or --width"),
])
def test_what_stops_it_is_one_line(error, code, message, run, monkeypatch):
    def stop(options, with_torch):
        raise error

    monkeypatch.setattr(benchmark, "_measure", stop)
    assert run() == (code, "", f"tinyfcn-benchmark: {message}\n")


def test_other_errors_are_not_hidden(run, monkeypatch):
    def stop(options, with_torch):
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(benchmark, "_measure", stop)
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        run()
