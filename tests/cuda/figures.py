"""Figures of a GPU, as Markdown: FCN-8s and the matrix product against PyTorch, and each layer.

`python figures.py [--json FILE]`. Times are medians of runs between two synchronizations, ours and
PyTorch's in turns in the same process. Without PyTorch its columns are empty.
"""
import argparse
import importlib.util
import json
import statistics
import time

import numpy as np

from tinyfcn import arrays, losses, models, optimizers
from tinyfcn.kernels import cuda
from tinyfcn.kernels.cuda import launch
from tinyfcn.peers import pytorch

SIZE, CLASSES = (375, 500), 21
HAS_TORCH = importlib.util.find_spec("torch") is not None
FP32_LANES = {(7, 5): 64, (8, 0): 64}  # of a multiprocessor; 128 on the others


def seconds(run, synchronize, repeat=7):
    """The median of some runs after two that compile and allocate."""
    times = []
    for turn in range(repeat + 2):
        synchronize()
        began = time.perf_counter()
        run()
        synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times[2:])


def allow_tf32(allowed):
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def matrix_product(device):
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((4096, 4096), np.float32) for _ in range(2))
    ours_a, ours_b = arrays.to_device(a, device), arrays.to_device(b, device)
    ours = seconds(lambda: cuda.matrix_product(ours_a, ours_b), arrays.synchronize)
    found = arrays.to_host(cuda.matrix_product(ours_a, ours_b))[:64]
    np.testing.assert_allclose(found, a[:64].astype(float) @ b, rtol=0, atol=2e-3)
    theirs = None
    if HAS_TORCH:
        import torch

        allow_tf32(False)
        a, b = torch.from_numpy(a).cuda(), torch.from_numpy(b).cuda()
        theirs = seconds(lambda: a @ b, torch.cuda.synchronize)
    return ours, theirs, 2 * 4096**3


def flops(net, x):
    """Multiplications and additions of a forward, and by node, counted as direct convolution."""
    found, sizes = {}, net.forward(x, outputs=[node.name for node in net.nodes])
    for node in net.nodes:
        weights = node.layer.params.get("weights")
        if weights is not None and "bias" in node.layer.params:
            y = sizes[node.name]
            found[node.name] = 2 * y.size * weights.size // weights.shape[-1]
    return sum(found.values()), found


def inference(device, batch, precision):
    arrays.set_precision(precision, device)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, *SIZE, 3), np.float32) * 50
    net = models.FCN8s(classes=CLASSES, init="scratch")
    theirs = None
    if HAS_TORCH:
        import torch

        allow_tf32(precision == "tf32")
        params = {name: p.cuda() for name, p in pytorch.parameters(net).items()}
        image = pytorch.image(x).cuda()
        with torch.inference_mode():
            theirs = seconds(lambda: pytorch.forward(net, params, image), torch.cuda.synchronize)
        del params, image
        torch.cuda.empty_cache()
    counted, _ = flops(net.to(device), arrays.to_device(x[:1], device))
    prepared, x = models.prepare(net), arrays.to_device(x, device)
    ours = seconds(lambda: prepared.forward(x), arrays.synchronize)
    arrays.set_precision("float32", device)
    return ours, theirs, counted * batch


def training(device, batch):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, *SIZE, 3), np.float32) * 50
    labels = rng.integers(0, CLASSES, (batch, *SIZE)).astype(np.uint8)
    net = models.FCN8s(classes=CLASSES, init="scratch")
    theirs = None
    if HAS_TORCH:
        import torch

        allow_tf32(False)
        params = {}
        for name, p in pytorch.parameters(net, training=True).items():
            params[name] = p.detach().cuda().requires_grad_(p.requires_grad)
        image, target = pytorch.image(x).cuda(), torch.from_numpy(labels.astype(np.int64)).cuda()
        sgd = pytorch.optimizer(params, 1e-4, 0.9, 5e-4)

        def their_step():
            sgd.zero_grad(set_to_none=True)
            scores = pytorch.forward(net, params, image, training=True)
            torch.nn.functional.cross_entropy(scores, target, ignore_index=255).backward()
            sgd.step()

        theirs = seconds(their_step, torch.cuda.synchronize)
        del params, image, target, sgd
        torch.cuda.empty_cache()
    sgd = optimizers.SGD(net.to(device))
    counted, _ = flops(net, arrays.to_device(x[:1], device))
    x = arrays.to_device(x, device)

    def our_step():
        _, gscores = losses.softmax_loss(net.forward(x, keep=True), labels, 255)
        net.backward(gscores, input_gradient=False)
        sgd.step(1e-4)

    return seconds(our_step, arrays.synchronize), theirs, 3 * counted * batch


def layers(device):
    """[(node, seconds, flops)] of a forward of one image, each layer synchronized."""
    net = models.FCN8s(classes=CLASSES, init="scratch").to(device)
    x = arrays.to_device(np.ones((1, *SIZE, 3), np.float32), device)
    _, counted = flops(net, x)
    values = {"data": x, **net.forward(x, outputs=[node.name for node in net.nodes])}
    rows = []
    for node in net.nodes:
        options = {}
        if node.size_like:
            options["size"] = values[node.size_like].shape[1:3]
        inputs = [values[name] for name in node.inputs]
        took = seconds(lambda: node.layer.forward(*inputs, **options), arrays.synchronize, 5)
        rows.append((node.name, took, counted.get(node.name, 0)))
    return rows


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--json")
    options = parser.parse_args()
    device = arrays.find("cuda")
    arrays.set_precision("float32", device)
    from numba import cuda as numba_cuda

    gpu = numba_cuda.get_current_device()
    lanes = FP32_LANES.get(launch.capability(), 128)
    peak = 2 * launch.multiprocessors() * lanes * gpu.CLOCK_RATE * 1e3
    print(f"{arrays.describe(device)}, {launch.multiprocessors()} multiprocessors, "
          f"{peak / 1e12:.1f} TFLOP/s in float32 at its highest clock\n")

    report = []
    print("| work | ours, ms | TFLOP/s | of the float32 peak | PyTorch, ms | ours / PyTorch |")
    print("|---|---|---|---|---|---|")
    for what, figures in [
        ("matrix product 4096^3, float32", lambda: matrix_product(device)),
        *[(f"inference {precision}, {batch}x375x500",
           lambda batch=batch, precision=precision: inference(device, batch, precision))
          for precision in ("float32", "tf32", "bf16") for batch in (1, 8)
          if precision == "float32" or launch.capability() >= (8, 0)],
        *[(f"training step float32, {batch}x375x500", lambda batch=batch: training(device, batch))
          for batch in (1, 8)],
    ]:
        try:
            ours, theirs, counted = figures()
        except MemoryError as error:
            print(f"| {what} | {error} |||||", flush=True)
            continue
        cuda.memory.release()
        rest = f"{theirs * 1e3:.2f} | {ours / theirs:.2f}" if theirs else " | "
        print(f"| {what} | {ours * 1e3:.2f} | {counted / ours / 1e12:.1f} | "
              f"{100 * counted / ours / peak:.0f} % | {rest} |", flush=True)
        report.append({"work": what, "ours": ours, "torch": theirs, "flops": counted})

    print("\n| layer, 1x375x500 float32 | ms | TFLOP/s |\n|---|---|---|")
    for name, took, counted in layers(device):
        rate = f"{counted / took / 1e12:.1f}" if counted else ""
        print(f"| {name} | {took * 1e3:.3f} | {rate} |")
        report.append({"work": name, "ours": took, "flops": counted})
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"device": arrays.describe(device), "peak": peak, "rows": report}, file)


if __name__ == "__main__":
    main()
