"""The benchmark command on a GPU: what it compares and prints, at toy sizes.

Not collected by itself: `test_simulator.py` runs it in Numba's simulator, `gpu.sh` on a GPU. In the
simulator PyTorch's GPU is the CPU.
"""
import json

import numpy as np
import pytest

from tinyfcn import arrays, benchmark, console, peers
from tinyfcn.benchmarks import gpu, products
from tinyfcn.benchmarks.training import training
from tinyfcn.graph import Graph
from tinyfcn.kernels import cuda
from tinyfcn.kernels.cuda import launch
from tinyfcn.kernels.cuda.launch import SIMULATED
from tinyfcn.layers import Convolution, ReLU
from tinyfcn.peers import pytorch

pytestmark = pytest.mark.filterwarnings(
    "error::numba.core.errors.NumbaPerformanceWarning",
    "ignore:overflow encountered:RuntimeWarning")  # splitmix64 in the simulator

# Of some seeds' nets all is cut off by a ReLU.
TINY = ["--device", "cuda", "--model", "fcn32s", "--size", "2x3", "--width", "0.04",
        "--fc-channels", "4", "--classes", "3", "--repeat", "1", "--seed", "1"]


@pytest.fixture
def run(device, monkeypatch, capsys):
    """Run the command at toy size: (exit code, stdout, stderr)."""
    monkeypatch.setattr(products, "SIDE", 6)

    def call(*arguments, common=TINY):
        code = benchmark.main([*common, *arguments])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def torch(monkeypatch):
    torch = pytest.importorskip("torch", reason="compares with torch, which is not installed")
    if SIMULATED:
        monkeypatch.setattr(pytorch, "lacks_gpu", lambda device: None)
        monkeypatch.setattr(torch.Tensor, "to", lambda self, device: self)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
        # A step takes seconds there.
        monkeypatch.setattr(pytorch, "VARIANTS", {"PyTorch nchw": {"layout": "nchw"}})
    return torch


def check_report(report, device):
    assert report["machine"]["gpu"] == arrays.describe(device)
    assert report["machine"]["precision"] == "float32"
    assert report["machine"]["peak_gflops"] > report["machine"]["bandwidth"] > 0
    assert {"tinyfcn", "numba-cuda"} <= report["versions"].keys()
    assert report["matrix_products"]["size"] == [6, 6, 6]
    assert report["matrix_products"]["gflop"] == pytest.approx(432e-9)
    rows = {row["name"]: row for row in report["layers"]}
    assert rows["conv1_1"]["algorithm"] == "im2col" and rows["conv1_1"]["output"] == [2, 2, 3, 3]
    assert rows["upscore"]["algorithm"] is None
    for name, row in rows.items():
        # So little work takes less than to begin it.
        assert row["limit"] == "launch" and row["of_limit"] == pytest.approx(1e-5 / row["ours"])
        assert (row["gflops"] is None) == (row["of_peak"] is None), name
    assert sum(row["share"] for row in rows.values()) == pytest.approx(1)


def test_text_without_a_peer(device, run, monkeypatch):
    monkeypatch.setattr(peers, "missing", lambda peer: list(peers.MODULES[peer]))
    code, out, err = run("--layers")
    assert code == 0, err
    assert f"device {device}" in err
    lines = out.splitlines()
    assert "multiprocessors, at best " in lines[0] and " TFLOP/s in float32 and " in lines[0]
    assert any(line.startswith("matrix product 6 x 6 x 6: median") for line in lines)
    assert any(line.startswith("  tinyfcn ") and " ms (" in line and " of the peak" in line
               for line in lines)
    assert next(line for line in lines if line.startswith("  conv1_1 ")).split()[-2] == "launch"
    assert lines[-1].startswith("PyTorch is not installed: pip install torch")


@pytest.mark.torch
def test_figures_against_torch(device, run, torch):
    code, out, err = run("--json", "--peers", "torch", "--batch", "2", "--layers")
    assert code == 0, err
    report = json.loads(out)
    check_report(report, device)
    assert "torch" in report["versions"]
    assert [duel["against"] for duel in report["inference"]["duels"]] == list(pytorch.VARIANTS)
    assert all(duel["ratio"] > 0 for duel in report["inference"]["duels"])
    assert report["matrix_products"]["against"] == "cuBLAS"
    assert all(row["other"] > 0 for row in report["layers"])
    assert not torch.backends.cudnn.benchmark


@pytest.fixture
def tiny_net(rng):
    net = Graph("tiny", {"classes": 3})
    net.add("conv", Convolution(3, 4, 3, padding=1))
    net.add("relu", ReLU())
    net.add("score", Convolution(4, 3, 1))
    for w in net.params.values():
        w[...] = rng.standard_normal(w.shape)
    return net


@pytest.mark.torch
def test_training_against_torch(tiny_net, device, rng, torch, monkeypatch):
    x = rng.standard_normal((2, 3, 4, 3), np.float32)
    before = tiny_net.params["conv/weights"].copy()
    found = training(tiny_net, x, 1, True, rng, device)
    assert [duel["against"] for duel in found["duels"]] == list(pytorch.VARIANTS)
    assert found["ratio"] == found["other"]["median"] / found["ours"]["median"]
    # A copy of it was trained.
    np.testing.assert_array_equal(tiny_net.params["conv/weights"], before)
    assert tiny_net.device == "cpu"
    right = cuda.relu_backward
    monkeypatch.setattr(cuda, "relu_backward", lambda gy, y: cuda.scale(right(gy, y), 1.1))
    with pytest.raises(console.CommandError, match="gradient of conv/weights: results differ"):
        training(tiny_net, x, 1, True, rng, device)


@pytest.mark.torch
def test_another_result_than_torchs_is_an_error(run, torch, monkeypatch):
    right = pytorch.scores
    monkeypatch.setattr(pytorch, "scores", lambda y: right(y) * np.float32(1.001))
    code, out, err = run("--peers", "torch")
    assert (code, out) == (1, "")
    assert "fcn32s, PyTorch nchw: scores: results differ by" in err.splitlines()[-1]


@pytest.mark.torch
@pytest.mark.parametrize("precision, allowed", [("float32", False), ("tf32", True)])
def test_both_sides_have_one_precision(precision, allowed, device, torch, tensor_cores):
    places = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [place.allow_tf32 for place in places]
    with gpu.precision_of_all(precision, device, True):
        assert [place.allow_tf32 for place in places] == [allowed, allowed]
        assert cuda.algorithms.of_products() == cuda.algorithms.PRECISIONS[precision]
    assert [place.allow_tf32 for place in places] == before
    assert cuda.algorithms.of_products() == "im2col"


@pytest.mark.torch
@pytest.mark.skipif(not SIMULATED, reason="there is a GPU")
def test_a_torch_without_a_gpu_is_one_line(run):
    pytest.importorskip("torch", reason="compares with torch, which is not installed")
    code, out, err = run("--peers", "torch")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith(
        "tinyfcn-benchmark: not compared with PyTorch on cuda:0: PyTorch sees no GPU")


def test_another_product_is_an_error(device, rng, monkeypatch):
    right = cuda.matrix_product
    monkeypatch.setattr(products, "SIDE", 6)
    monkeypatch.setattr(cuda, "matrix_product", lambda a, b: cuda.scale(right(a, b), 1.01))
    with pytest.raises(console.CommandError, match="^matrix product: results differ by"):
        products.square_product(1, rng, False, device, "float32")


@pytest.mark.parametrize("arguments, message", [
    (["--peers", "onnxruntime"], "--device cuda:0 compares with torch alone, not onnxruntime"),
    (["--memory"], "--memory is for the CPU alone"),
    (["--compile"], "--compile is for the CPU alone"),
])
def test_usage_errors(arguments, message, run):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == f"tinyfcn-benchmark: {message}"


def seconds(median):
    return {"median": median, "min": median, "max": median, "runs": 1}


def test_aims(run, monkeypatch):
    """Ratios of what is measured, and what is said where there is no memory for it."""
    def measure(net, x, repeat, rivals, *_):
        if len(x) == 8:
            raise arrays.DeviceMemoryError("not enough memory on cuda:0: 9 MiB more are needed")
        duel = {"against": "PyTorch nchw", "ours": seconds(0.02), "other": seconds(0.014),
                "ratio": 0.7}
        return {**duel, "duels": [duel]}

    monkeypatch.setattr(launch, "capability", lambda: (8, 0))
    monkeypatch.setattr(gpu, "inference", measure)
    monkeypatch.setattr(gpu, "training", measure)
    monkeypatch.setattr(peers, "missing", lambda peer: [])
    monkeypatch.setattr(pytorch, "lacks_gpu", lambda device: "PyTorch sees no GPU")
    arguments = ["--device", "cuda", "--aims", "--width", "0.02", "--fc-channels", "4"]
    code, out, err = run("--json", common=arguments)
    assert code == 0, err
    rows = json.loads(out)["aims"]
    assert [(row["work"], row["aim"], row["measured"], row["reached"]) for row in rows] == [
        ("fcn8s inference float32, 1x375x500", 1.0, 0.7, False),
        ("fcn8s inference float32, 8x375x500", 1.0, None, None),
        ("fcn8s inference tf32, 1x375x500", 0.6, 0.7, True),
        ("fcn8s inference tf32, 8x375x500", 0.6, None, None),
        ("fcn8s training step float32, 1x375x500", 0.8, 0.7, False),
        ("fcn8s training step float32, 8x375x500", 0.8, None, None),
        ("matrix product float32", 0.85, None, None),
    ]
    assert rows[1]["lacking"].startswith("not enough memory on cuda:0")
    code, out, err = run(common=arguments)
    assert code == 0, err
    lines = out.splitlines()
    assert "0.70 x >= 1     missed  PyTorch nchw" in lines[5]
    assert lines[6].endswith(">= 1             not enough memory on cuda:0: 9 MiB more are needed")
    assert lines[-3].split()[-1] == "PyTorch" or "no PyTorch" in lines[-3]
    assert lines[-1].endswith("PyTorch sees no GPU")
