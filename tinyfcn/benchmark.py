"""Time a net and the matrix product, side by side with others: `python -m tinyfcn.benchmark`

A net runs against the same net in PyTorch, ONNX Runtime, OpenVINO and ncnn, the matrix product
against NumPy's on the sizes of the net's layers: same weights, same threads, in turns. On a GPU,
with --device cuda, it is PyTorch with cuDNN and cuBLAS. Results are compared first. A ratio is the
other's time divided by ours: above 1, tinyfcn is faster. Exit codes:
0 fine, 1 results differ or memory ran out, 2 usage, 130 interrupted.
"""

# What takes long to import is imported by the functions that need it, so that --help answers at
# once and the number of threads can be set before libraries start theirs.
import argparse
import contextlib
import json
import logging
import os
import sys
import time

from . import console, peers
from .benchmarks import machine, report

PROGRAM = "tinyfcn-benchmark"
MODELS = ("vgg16", "fcn32s", "fcn16s", "fcn8s", "fcn8s-atonce")
MOST_CLASSES = 255  # so that a byte can say that a pixel has none

_log = logging.getLogger(__name__)


def main(argv=None):
    """Run the command with these arguments (sys.argv's by default) and return its exit code."""
    return console.run(PROGRAM, _parse, _run, argv)


def _run(options):
    device = _device(options)
    competitors, hints = _competitors(options.peers, device)
    try:
        with machine.threads(options.threads, "torch" in competitors):
            found = _measure(options, competitors, device)
    except (MemoryError, RuntimeError) as error:
        if not machine.is_shortage(error):
            raise
        message = f"{console.memory_shortage(error)}: choose a smaller --size, --batch or --width"
        raise console.CommandError(message, console.FAILED) from None
    found["hints"] = hints
    text = json.dumps(found, indent=2, allow_nan=False) if options.json else report.text(found)
    return console.DONE if console.print_result(PROGRAM, text) else console.FAILED


def _device(options):
    """The device that the options name, ready for use."""
    # What sets threads has to come before NumPy's import.
    if options.device == "cpu" and options.precision == "float32":
        return "cpu"
    device = console.use_device(options)
    for name in ("memory", "compile"):
        if getattr(options, name) and device != "cpu":
            raise console.CommandError(f"--{name} is for the CPU alone", console.USAGE)
    return device


def _competitors(asked, device):
    """The peers to compare with, and a line for each that cannot be compared with."""
    if asked is None:
        wanted = list(peers.NAMES) if device == "cpu" else ["torch"]
    else:
        wanted = asked
    if device != "cpu" and set(wanted) - {"torch"}:
        raise console.CommandError(
            f"--device {device} compares with torch alone, not {','.join(wanted)}", console.USAGE)
    lacking = {peer: peers.missing(peer) for peer in wanted}
    hints = [f"{peers.NAMES[peer]} is not installed: pip install {' '.join(modules)} (or tinyfcn's "
             "extra 'benchmark') to compare with it"
             for peer, modules in lacking.items() if modules]
    competitors = [peer for peer in wanted if not lacking[peer]]
    if device != "cpu" and competitors:
        from .peers import pytorch

        reason = pytorch.lacks_gpu(device)
        if reason is not None:
            hints.append(f"not compared with PyTorch on {device}: {reason}")
            competitors = []
    if asked and not competitors:
        raise console.CommandError(hints[0], console.USAGE)
    return competitors, hints


def _measure(options, competitors, device):
    """All figures, as they go into the JSON report."""
    arguments = {
        "classes": options.classes,
        "width": options.width,
        "fc_channels": options.fc_channels,
        "batch_norm": options.batch_norm,
        # Both drop nothing, since they would not drop the same.
        "dropout": 0.0,
        "init": "scratch",
        "seed": options.seed,
    }
    found = dict.fromkeys(("machine", "versions", "net", "first_run_seconds", "inference",
                           "training", "matrix_products", "layers", "compile", "aims"))
    if device == "cpu":
        found["machine"] = machine.describe(options.threads)
    else:
        from .benchmarks import gpu

        found["machine"] = gpu.describe(device, options.precision)
    found["versions"] = machine.versions(competitors, device)
    if options.aims and device != "cpu":
        found["aims"] = gpu.aims(arguments, bool(competitors), options.repeat, device, options.seed)
    elif options.aims:
        from .benchmarks.aims import aims

        found["aims"] = aims(arguments, competitors, options.repeat, options.threads, options.seed)
    else:
        if options.model == "vgg16":
            arguments["input_size"] = options.size[0]
        with contextlib.ExitStack() as stack:
            if device != "cpu":
                stack.enter_context(
                    gpu.precision_of_all(options.precision, device, bool(competitors)))
            found.update(_measure_net(options, arguments, competitors, device, found["machine"]))
    if options.compile:
        from .benchmarks.processes import compile_times

        _log.info("compiling everything in a new process")
        found["compile"] = compile_times(_network(options, arguments, options.train),
                                         options.threads)
    return found


def _measure_net(options, arguments, competitors, device, about):
    """The figures of one net."""
    import numpy as np

    from . import models
    from .arrays import to_device, to_host
    from .benchmarks.aims import memory
    from .benchmarks.inference import inference, prepare
    from .benchmarks.layers import layers
    from .benchmarks.products import matrix_products, square_product
    from .benchmarks.training import training
    from .benchmarks.work import work_of

    with_torch, on_cpu = "torch" in competitors, device == "cpu"
    net = models.BY_NAME[options.model](**arguments)
    rng = np.random.default_rng(options.seed)
    shape = options.batch, *options.size, 3
    x = rng.standard_normal(shape, np.float32) * np.float32(50)
    works = work_of(net, shape)

    _log.info("first run")
    prepared = prepare(net, device)
    began = time.perf_counter()
    to_host(prepared.forward(to_device(x, device)))
    del prepared
    first_run = time.perf_counter() - began
    found = {
        "net": {
            "model": net.name,
            "batch": options.batch,
            "size": list(options.size),
            **net.arguments,
            "parameters": sum(w.size for w in net.params.values()),
            "gflop": sum(work.gflop for _, work in works.values()),
        },
        # With compiling kernels, or loading those that an earlier process compiled.
        "first_run_seconds": first_run,
        "inference": inference(net, x, options.repeat, competitors, options.threads, device,
                               options.precision),
        "matrix_products": (
            matrix_products(net, works, options.repeat, rng) if on_cpu else
            square_product(options.repeat, rng, with_torch, device, options.precision)),
    }
    if options.layers:
        found["layers"] = layers(net, x, works, options.repeat, with_torch, about["peak_gflops"],
                                 device, about.get("bandwidth"))
    if options.train:
        found["training"] = training(net, x, options.repeat, with_torch, rng, device,
                                     options.precision)
        found["training"]["gflop"] = sum(work.gflop * work.passes for _, work in works.values())
    for what in ("inference", "training"):
        if found.get(what):
            train = what == "training"
            found[what]["memory"] = memory(
                _network(options, arguments, train), options.threads, with_torch,
            ) if options.memory else None
    return found


def _network(options, arguments, train):
    """What a process of its own needs to build the net."""
    shape = options.batch, *options.size, 3
    return {"model": options.model, "options": arguments, "shape": shape, "train": train}


# ---- the command line


def _parse(argv):
    count = console.number(int, 1, 10**6)
    parser = console.OneLineParser(
        prog=PROGRAM, allow_abbrev=False,
        description="Time a net with random weights against the same net in other engines, and the "
                    "matrix product on the sizes of its layers against NumPy's: same threads, in "
                    "turns. Results are compared before anything is timed.",
        epilog="Exit codes: 0 fine, 1 results differ or memory ran out, 2 usage, "
               "130 interrupted.")
    parser.add_argument("--model", choices=MODELS, help="default: fcn8s")
    parser.add_argument("--size", type=_size, metavar="HxW",
                        help="of the image (default: 375x500; 224x224 for vgg16)")
    parser.add_argument("--batch", type=count, metavar="N",
                        help="images at a time (default: 1)")
    parser.add_argument("--classes", type=console.number(int, 1, MOST_CLASSES), default=21,
                        metavar="N", help="default: 21")
    parser.add_argument("--width", type=console.number(float, 0, 100, above=True), default=1.0,
                        metavar="W", help="scales the channels of VGG's blocks (default: 1)")
    parser.add_argument("--fc-channels", type=count, default=4096, metavar="N",
                        help="of fc6 and fc7 (default: 4096)")
    parser.add_argument("--batch-norm", action="store_true", help="after each convolution of VGG")
    parser.add_argument("--threads", type=console.number(int, 1, machine.cores()), metavar="N",
                        help="default: all cores")
    parser.add_argument("--peers", type=_peers, metavar="NAMES",
                        help="whom to compare the net with, separated by commas: "
                             f"{', '.join(peers.NAMES)}; or none (default: all that are installed)")
    parser.add_argument("--repeat", type=count, default=5, metavar="N",
                        help="timed runs of each, fewer where they take long (default: 5)")
    parser.add_argument("--train", action="store_true",
                        help="time a step of training too: forward, backward, SGD with momentum")
    parser.add_argument("--layers", action="store_true",
                        help="show each layer: time, speed, algorithm, the cost model's "
                             "prediction; on a GPU what limits it")
    parser.add_argument("--memory", action="store_true",
                        help="show the peak memory of tinyfcn and of PyTorch")
    parser.add_argument("--compile", action="store_true",
                        help="show how long each kernel compiles, with an empty cache")
    parser.add_argument("--aims", action="store_true",
                        help="instead measure all that tinyfcn aims at: several sizes, training, "
                             "memory and starting, or all that it aims at on a GPU; takes about "
                             "ten minutes")
    console.add_device_options(parser, default="cpu")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    parser.add_argument("--seed", type=console.number(int, 0), default=0, metavar="N",
                        help="of the random numbers (default: 0)")
    options = parser.parse_args(argv)
    if options.aims:
        for name in ("model", "size", "batch", "train", "layers", "memory"):
            if getattr(options, name):
                parser.error(f"--aims goes without --{name}")
    options.model = options.model or "fcn8s"
    options.batch = options.batch or 1
    if options.size is None:
        options.size = (224, 224) if options.model == "vgg16" else (375, 500)
    if options.model == "vgg16" and options.size[0] != options.size[1]:
        parser.error("vgg16 takes square images: choose a --size such as 224x224")
    if options.threads is None:
        # An earlier wish of the user's, made to Numba, holds.
        with contextlib.suppress(KeyError, ValueError):
            options.threads = int(os.environ[machine.NUMBA_THREADS])
        options.threads = options.threads or machine.cores()
    return options


def _size(text):
    height, _, width = text.lower().partition("x")
    side = console.number(int, 1, 99999)
    try:
        return side(height), side(width)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"must be HEIGHTxWIDTH such as 375x500, not {text!r}") from None


def _peers(text):
    names = [] if text == "none" else text.split(",")
    for name in names:
        if name not in peers.NAMES:
            raise argparse.ArgumentTypeError(
                f"must be some of {','.join(peers.NAMES)}, or none, not {name!r}")
    return list(dict.fromkeys(names))


if __name__ == "__main__":
    sys.exit(main())
