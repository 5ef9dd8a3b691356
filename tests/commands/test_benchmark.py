"""The benchmark command: what it compares and prints. How long things take is not looked at."""
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tinyfcn import arrays, benchmark, console, layers, models, peers
from tinyfcn.benchmarks import aims, peak, processes, timing
from tinyfcn.benchmarks.layers import observed
from tinyfcn.benchmarks.work import work
from tinyfcn.kernels import cpu
from tinyfcn.kernels.cpu.threads import thread_count
from tinyfcn.peers import pytorch

TINY = ["--size", "32x48", "--width", "0.0625", "--fc-channels", "16", "--classes", "5",
        "--repeat", "2"]
SUMMARY = {"median", "min", "max", "runs"}
REPORT = {"machine", "versions", "net", "first_run_seconds", "inference", "training",
          "matrix_products", "layers", "compile", "aims", "hints"}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(timing, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(peak, "STEPS", 1000)


@pytest.fixture
def no_peers(monkeypatch):
    """Nothing is installed that we could be compared with."""
    monkeypatch.setattr(peers, "missing", lambda peer: list(peers.MODULES[peer]))


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
    assert report.keys() == REPORT
    assert report["machine"]["threads"] <= report["machine"]["cores"]
    assert report["machine"]["simd_bits"] in (128, 256, 512)
    assert report["machine"]["cpu"]
    assert report["machine"]["peak_gflops"] > 0
    assert report["versions"].keys() == {"tinyfcn", "python", "numba", "numpy"}
    assert report["net"]["model"] == "fcn8s"
    assert (report["net"]["batch"], report["net"]["size"]) == (2, [32, 48])
    net = models.FCN8s(classes=5, width=0.0625, fc_channels=16)
    assert report["net"]["parameters"] == sum(w.size for w in net.params.values())
    for what in ("inference", "training"):
        assert report[what]["duels"] == []
        assert report[what]["ratio"] is report[what]["memory"] is None
        assert SUMMARY == report[what]["ours"].keys()
        assert report[what]["ours"]["runs"] == 2
    check_products({**report["matrix_products"], "sizes": [
        {**each, "size": [each["size"][0] // 2, *each["size"][1:]]}
        for each in report["matrix_products"]["sizes"]]})
    check_layers(report, 2)
    assert all(row["other"] is None for row in report["layers"])
    assert report["hints"] == []
    assert report["compile"] is report["aims"] is None


def check_layers(report, batch):
    rows = {row["name"]: row for row in report["layers"]}
    assert "relu1_1" not in rows                # runs inside conv1_1
    assert "pool1" not in rows                  # runs inside conv1_2
    assert rows["conv1_1"]["output"] == [batch, 32, 48, 4]
    assert rows["upscore8"]["output"] == [batch, 32, 48, 5]
    assert report["net"]["gflop"] == pytest.approx(sum(row["gflop"] for row in rows.values()))
    # 9 taps of 4 channels for each of 4 at 32 x 48 pixels, whatever a pool makes of them.
    assert rows["conv1_2"]["gflop"] == pytest.approx(batch * 2e-9 * 9 * 4 * 4 * 32 * 48)
    assert sum(row["share"] for row in rows.values()) == pytest.approx(1)
    for name, row in rows.items():
        assert row["ours"] > 0
        is_convolution = name.startswith(("conv", "fc", "score"))
        assert (row["algorithm"] is not None) == is_convolution == (row["predicted"] is not None)
        if row["gflop"]:
            assert row["gflops"] == pytest.approx(row["gflop"] / row["ours"])
            assert row["of_peak"] == pytest.approx(
                row["gflops"] / report["machine"]["peak_gflops"])
    convolutions = [row for row in rows.values() if row["algorithm"]]
    assert sum(row["predicted"] for row in convolutions) == pytest.approx(
        sum(row["ours"] for row in convolutions))


@pytest.mark.torch
def test_json_with_torch(run):
    pytest.importorskip("torch", reason="compares with torch, which is not installed")
    code, out, err = run("--json", "--peers", "torch", "--layers", "--train")
    assert code == 0, err
    report = json.loads(out)
    assert "torch" in report["versions"]
    for what in ("inference", "training"):
        duels = report[what]["duels"]
        assert [duel["against"] for duel in duels] == ["PyTorch nchw", "PyTorch channels-last"]
        for duel in duels:
            check_contest(duel)
        hardest = min(duels, key=lambda duel: duel["ratio"])
        assert {key: report[what][key] for key in hardest} == hardest
    check_products(report["matrix_products"])
    check_layers(report, 1)
    assert all(row["other"] > 0 for row in report["layers"])
    assert report["hints"] == []


@pytest.mark.torch
@pytest.mark.parametrize("model, size", [("vgg16", "32x32"), ("fcn32s", "1x1"), ("fcn16s", "9x40"),
                                         ("fcn8s-atonce", "33x31")])
def test_every_model_agrees_with_torch(model, size, run):
    pytest.importorskip("torch", reason="compares with torch, which is not installed")
    code, out, err = run("--model", model, "--size", size, "--repeat", "1", "--peers", "torch")
    assert code == 0, err
    assert out.splitlines()[3].startswith(f"{model}, ")


@pytest.mark.peers
@pytest.mark.parametrize("peer", [name for name in peers.NAMES if name != "torch"])
def test_text_against_another_peer(peer, run):
    lacking = peers.missing(peer)
    if lacking:
        pytest.skip(f"compares with {peer}: {', '.join(lacking)} not installed")
    code, out, err = run("--peers", peer, "--layers", "--batch", "2")
    assert code == 0, err
    assert f" {peer} " in out.splitlines()[1] + " "
    last = out.splitlines()[-3:]
    assert last[0] == "ratio: the other's time / tinyfcn's; above 1, tinyfcn is faster"
    assert last[1].startswith("  inference ")
    assert last[1].endswith(f"against {peers.NAMES[peer]}")
    assert "against NumPy" in last[2]
    conv = next(line for line in out.splitlines() if line.startswith("  conv1_2 "))
    assert "2x16x24x4" in conv and ("im2col" in conv or "winograd-" in conv)


def test_text_without_peers_says_how_to_get_them(run, no_peers):
    code, out, err = run()
    assert code == 0
    lines = out.splitlines()
    assert "against NumPy" in lines[-5]
    assert lines[-4].startswith("PyTorch is not installed: pip install torch ")
    assert lines[-3].startswith("ONNX Runtime is not installed: pip install onnx onnxruntime ")
    assert lines[-1].startswith("ncnn is not installed: pip install ncnn ")
    assert "training step" not in out


def test_all_peers_that_are_asked_for_missing_is_an_error(run, no_peers):
    code, out, err = run("--peers", "torch,ncnn")
    assert (code, out) == (2, "")
    assert err.startswith("tinyfcn-benchmark: PyTorch is not installed: pip install torch ")
    assert err.count("\n") == 1


# ---- in processes of their own


NETWORK = {"model": "fcn8s", "shape": [1, 16, 16, 3],
           "options": {"classes": 5, "width": 0.0625, "fc_channels": 16, "init": "scratch"}}


def test_compile_times_name_the_kernels(tmp_path):
    found = processes.compile_times({**NETWORK, "train": False}, 1)
    kernels = {row["kernel"]: row for row in found["kernels"]}
    # A training's are not among them, and nothing was compiled before.
    assert {"jobs._do_jobs", "gathered_product._run_product",
            "micro_kernel.multiply"} <= kernels.keys()
    assert "update._sgd_momentum" not in kernels
    assert all(row["seconds"] > 0 and row["count"] >= 1 for row in found["kernels"])
    assert sum(row["seconds"] for row in found["kernels"]) < found["seconds"]


def test_peak_memory_holds_at_least_the_parameters():
    network = {**NETWORK, "options": {**NETWORK["options"], "fc_channels": 3000}}
    for _ in range(2):  # the first ones may have to compile, which takes memory, too
        inference, training = (
            processes.peak_memory({**network, "train": train}, 1, "tinyfcn")["peak"]
            for train in (False, True))
    net = models.FCN8s(**network["options"])
    parameters = sum(w.nbytes for w in net.params.values())
    assert parameters < inference < 1e9
    # Gradients and momentum come on top.
    assert training > inference + parameters


@pytest.mark.torch
def test_peak_memory_of_torch():
    pytest.importorskip("torch", reason="compares with torch, which is not installed")
    network = {**NETWORK, "train": True}
    assert 1e8 < processes.peak_memory(network, 1, "channels-last")["peak"] < 1e9


def test_segmenting_is_timed_from_start_to_end(monkeypatch):
    seen = []

    def start(command, environment):
        seen.append((command[0], os.path.exists(command[1]), environment[processes.CACHE]))
        return float(len(seen)), ""

    monkeypatch.setattr(processes, "start", start)
    assert processes.segment_seconds(1, 2) == ([2.0, 3.0], 1.0)
    assert [each[:2] for each in seen] == [("tinyfcn.segment", True)] * 3
    assert len({each[2] for each in seen}) == 1      # one cache, empty at first


def test_a_process_that_fails_is_one_line():
    with pytest.raises(console.CommandError, match="^tinyfcn.segment nowhere.png: .*nowhere.png"):
        processes.start(["tinyfcn.segment", "nowhere.png"], {})


# ---- the aims


@pytest.fixture
def small_aims(monkeypatch):
    monkeypatch.setattr(aims, "SIZE", (24, 33))
    monkeypatch.setattr(aims, "OTHER_INPUTS", ((1, 32, 32), (2, 24, 33)))
    monkeypatch.setattr(aims, "VGG_INPUT", (1, 32, 32))
    monkeypatch.setattr(processes, "segment_seconds",
                        lambda threads, repeat: ([1.0, 1.6, 2.0], 9.0))
    peaks = {("tinyfcn", False): 110, ("nchw", False): 100, ("channels-last", False): 105,
             ("tinyfcn", True): 90, ("nchw", True): 100, ("channels-last", True): 80}
    monkeypatch.setattr(processes, "peak_memory", lambda network, threads, engine: {
        "peak": peaks[engine, network["train"]]})


def run_aims(*arguments):
    return benchmark.main(["--aims", "--width", "0.0625", "--fc-channels", "16", "--repeat", "1",
                           *arguments])


def test_aims_without_a_peer_are_those_of_starting(small_aims, capsys):
    assert run_aims("--json", "--peers", "none") == 0
    rows = json.loads(capsys.readouterr().out)["aims"]
    assert [(row["measured"], row["aim"], row["sense"], row["reached"]) for row in rows] == [
        (1.6, 1.5, "at most", False), (9.0, 20.0, "at most", True)]


@pytest.mark.torch
def test_aims_against_torch(small_aims, capsys):
    pytest.importorskip("torch", reason="compares with torch, which is not installed")
    assert run_aims("--json", "--peers", "torch") == 0
    rows = json.loads(capsys.readouterr().out)["aims"]
    assert [row["work"] for row in rows] == [
        "fcn8s inference, 1x24x33", "fcn8s inference, 1x32x32", "fcn8s inference, 2x24x33",
        "vgg16 inference, 1x32x32", "fcn8s training step, 1x24x33",
        "fcn8s peak memory, inference, 1x24x33", "fcn8s peak memory, training step, 1x24x33",
        "shipped model, 360x480, warm start to files written",
        "shipped model, 360x480, cold start, nothing compiled"]
    assert [row["aim"] for row in rows] == [4, 1.5, 1.5, 1.2, 4, 1.2, 1, 1.5, 20]
    for row in rows[:5]:
        assert row["against"].startswith("PyTorch ")
        assert row["measured"] == row["other"]["median"] / row["ours"]["median"]
        assert row["reached"] == (row["measured"] >= row["aim"])
    assert [(row["measured"], row["against"], row["reached"]) for row in rows[5:7]] == [
        (1.1, "PyTorch nchw", True), (1.125, "PyTorch channels-last", False)]


def test_aims_as_text(small_aims, capsys):
    assert run_aims("--peers", "none") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].split()[-7:] == ["1.600", "s", "1.60", "s", "<=", "1.5", "missed"]
    assert lines[-1].split()[-7:] == ["9.000", "s", "9.00", "s", "<=", "20", "reached"]


# ---- comparing


@pytest.mark.torch
def test_another_result_than_torchs_is_an_error(run, monkeypatch):
    pytest.importorskip("torch", reason="compares with torch, which is not installed")
    right = pytorch.scores
    monkeypatch.setattr(pytorch, "scores", lambda y: right(y) * (1 + 2e-4))
    code, out, err = run("--json", "--peers", "torch")
    assert (code, out) == (1, "")
    assert ("fcn8s, PyTorch nchw: scores: results differ by" in err.splitlines()[-1])


@pytest.mark.torch
def test_another_gradient_than_torchs_is_an_error(run, monkeypatch):
    pytest.importorskip("torch", reason="compares with torch, which is not installed")
    right = pytorch.gradients

    def wrong(net, params):
        found = right(net, params)
        return {**found, "conv3_1/weights": found["conv3_1/weights"] * 1.1}

    monkeypatch.setattr(pytorch, "gradients", wrong)
    code, out, err = run("--train", "--peers", "torch")
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
        timing.compare("x", ours, theirs, 0.01)
    assert error.value.code == 1


def test_compare_accepts_what_is_close():
    timing.compare("x", [1.0, 100.0], [1.9, 100.0], 0.01)


# ---- measuring


def test_fewer_turns_where_they_take_long(monkeypatch):
    monkeypatch.setattr(timing, "PATIENCE_SECONDS", 0)
    assert [len(each) for each in timing.in_turns([lambda: None], 9)] == [timing.ENOUGH_TURNS]


def test_turns_alternate():
    order = []
    seconds = timing.in_turns([lambda: order.append("a"), lambda: order.append("b")], 3)
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
    assert work(layer, x, y, False) == (product, pytest.approx(flop * 1e-9), passes)


def test_first_layer_needs_one_gradient_less():
    layer = layers.Convolution(3, 5, 3, padding=1)
    assert work(layer, (1, 4, 6, 3), (1, 4, 6, 5), True).passes == 2


def test_observing_leaves_the_net_as_it_was():
    net = models.FCN32s(width=0.0625, fc_channels=8)
    before = {name: dict(vars(layer)) for name, layer in net.layers.items()}
    with observed(net) as rows:
        net.forward(np.zeros((1, 8, 8, 3), np.float32))
    assert rows[0]["name"] == "conv1_1" and rows[-1]["name"] == "upscore"
    with pytest.raises(ValueError), observed(net):
        net.forward(np.zeros((1, 8, 8, 2), np.float32))
    assert {name: dict(vars(layer)) for name, layer in net.layers.items()} == before


def test_threads_are_set_for_the_command_alone(run):
    before = thread_count()
    code, out, err = run("--threads", "1", "--peers", "none", "--json")
    assert code == 0
    assert json.loads(out)["machine"]["threads"] == 1
    assert thread_count() == before


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
    (["--peers", "numpy"],
     "--peers: must be some of torch,onnxruntime,openvino,ncnn, or none, not 'numpy'"),
    (["--peers", "torch,"], "or none, not ''"),
    (["--aims"], "--aims goes without --size"),
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
    program = ("import numba; from tinyfcn import benchmark; "
               "from tinyfcn.benchmarks import machine; "
               "machine.cores = lambda: 2; "
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
    (RuntimeError("CUDA out of memory. Tried to allocate 9 GiB"), 1,
     "not enough memory: choose a smaller --size, --batch or --width"),
    (arrays.DeviceMemoryError("not enough memory on cuda:0: 9 MiB more are needed"), 1,
     "not enough memory on cuda:0: 9 MiB more are needed: choose a smaller --size, --batch or "
     "--width"),
])
def test_what_stops_it_is_one_line(error, code, message, run, monkeypatch):
    def stop(options, competitors, device):
        raise error

    monkeypatch.setattr(benchmark, "_measure", stop)
    assert run() == (code, "", f"tinyfcn-benchmark: {message}\n")


def test_other_errors_are_not_hidden(run, monkeypatch):
    def stop(options, competitors, device):
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(benchmark, "_measure", stop)
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        run()
