"""Time a net and the matrix product, side by side with others: `python -m tinyfcn.benchmark`

A net runs against the same net in PyTorch, the matrix product against NumPy's on the sizes of the
net's layers: same weights, same threads, in turns. Results are compared first. A ratio is the
other's time divided by ours: above 1, tinyfcn is faster. Exit codes: 0 fine, 1 results differ or
memory ran out, 2 usage, 130 interrupted.
"""

# What takes long to import is imported by the functions that need it, so that --help answers at
# once and the number of threads can be set before libraries start theirs.
import argparse
import contextlib
import importlib.util
import json
import logging
import os
import platform
import statistics
import sys
import time

from . import console

PROGRAM = "tinyfcn-benchmark"
MODELS = ("vgg16", "fcn32s", "fcn16s", "fcn8s", "fcn8s-atonce")
INSTALL = "pip install torch (or tinyfcn's extra 'benchmark') to compare with PyTorch"
BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "OMP_NUM_THREADS",
                "VECLIB_MAXIMUM_THREADS")

# Largest differences allowed, as a share of the largest number. Among the millions of ReLUs and
# maxima of a full-sized net rounding decides some, and lets whole terms of a gradient differ.
FORWARD_TOLERANCE, GRADIENT_TOLERANCE = 1e-4, 1e-2
# Bytes of the left operand of a matrix product; where a layer has more pixels, not all take part.
PRODUCT_BYTES = 64 << 20
# Threads that wait for work in a loop, OpenBLAS's for 0.1 s, would take the cores from the next.
PAUSE_SECONDS = 0.2
RATE, MOMENTUM, DECAY, IGNORE_LABEL = 1e-5, 0.9, 5e-4, 255

_log = logging.getLogger(__name__)


def main(argv=None):
    """Run the command with these arguments (sys.argv's by default) and return its exit code."""
    return console.run(PROGRAM, _parse, _run, argv)


def _run(options):
    with_torch = _wants_torch(options)
    try:
        with _threads(options.threads, with_torch):
            report = _measure(options, with_torch)
    except (MemoryError, RuntimeError) as error:
        # PyTorch has no type of its own for it.
        if isinstance(error, RuntimeError) and "not enough memory" not in str(error):
            raise
        message = "not enough memory: choose a smaller --size, --batch or --width"
        raise console.CommandError(message, console.FAILED) from None
    text = json.dumps(report, indent=2, allow_nan=False) if options.json else _text(report)
    return console.DONE if console.print_result(PROGRAM, text) else console.FAILED


def _wants_torch(options):
    if options.peers is None:
        return _has("torch")
    if options.peers == "torch" and not _has("torch"):
        raise console.CommandError(f"PyTorch is not installed: {INSTALL}", console.USAGE)
    return options.peers == "torch"


# ---- measuring


def _measure(options, with_torch):
    """All figures, as they go into the JSON report."""
    import numpy as np

    from . import models

    net = models.BY_NAME[options.model](**_net_arguments(options))
    height, width = options.size
    rng = np.random.default_rng(options.seed)
    x = rng.standard_normal((options.batch, height, width, 3), np.float32) * np.float32(50)

    _log.info("first run")
    began = time.perf_counter()
    with _observed(net) as rows:
        net.forward(x)
    first_run = time.perf_counter() - began
    report = {
        "machine": _machine(options.threads),
        "versions": _versions(with_torch),
        "net": {
            "model": net.name,
            "batch": options.batch,
            "size": [height, width],
            **net.arguments,
            "parameters": sum(w.size for w in net.params.values()),
            "gflop": sum(row["gflop"] for row in rows),
        },
        # With compiling kernels, or loading those that an earlier process compiled.
        "first_run_seconds": first_run,
        "inference": _inference(net, x, options.repeat, with_torch),
        "training": None,
        "matrix_products": _matrix_products(net, rows, options.repeat, rng),
        "layers": _layers(net, x, options.repeat, with_torch) if options.layers else None,
        "hint": None if with_torch or options.peers == "none" else INSTALL,
    }
    if options.train:
        report["training"] = _training(net, x[:1], options.repeat, with_torch, rng)
        report["training"]["gflop"] = sum(
            row["gflop"] * row["passes"] for row in rows) / options.batch
    return report


def _net_arguments(options):
    arguments = {
        "classes": options.classes,
        "width": options.width,
        "fc_channels": options.fc_channels,
        # Both drop nothing, since they would not drop the same.
        "dropout": 0.0,
        "init": "scratch",
        "seed": options.seed,
    }
    if options.model == "vgg16":
        if options.size[0] != options.size[1]:
            raise console.CommandError(
                "vgg16 takes square images: choose a --size such as 224x224", console.USAGE)
        arguments["input_size"] = options.size[0]
    return arguments


def _inference(net, x, repeat, with_torch):
    from . import peers

    def ours():
        return net.forward(x)

    duels = []
    for layout in peers.LAYOUTS if with_torch else ():
        import torch

        _log.info("inference, PyTorch %s", layout)
        params, image = peers.parameters(net, layout), peers.image(x, layout)

        def theirs(params=params, image=image):
            with torch.inference_mode():
                return peers.forward(net, params, image)

        _compare(f"{net.name}, PyTorch {layout}: scores", ours(), peers.scores(theirs()),
                 FORWARD_TOLERANCE)
        duels.append(_duel(f"PyTorch {layout}", _in_turns([ours, theirs], repeat)))
        del params, image, theirs
    return _judged(duels, ours, repeat)


def _training(net, x, repeat, with_torch, rng):
    """A step of training: forward, loss, backward, update."""
    from . import peers
    from .losses import softmax_loss
    from .optimizers import SGD

    _log.info("training")
    # Any labels will do; a tenth of the pixels has none.
    shape = net.forward(x).shape
    labels = rng.integers(0, shape[-1], shape[:-1]).astype("uint8")
    labels[rng.random(labels.shape) < 0.1] = IGNORE_LABEL
    if (labels == IGNORE_LABEL).all():
        labels.flat[0] = 0
    optimizer = SGD(net, MOMENTUM, DECAY)

    def gradients():
        loss, gscores = softmax_loss(net.forward(x, keep=True), labels, IGNORE_LABEL)
        net.backward(gscores, input_gradient=False)
        return loss

    def ours():
        gradients()
        optimizer.step(RATE)

    ours()
    duels = []
    for layout in peers.LAYOUTS if with_torch else ():
        _log.info("training, PyTorch %s", layout)
        params = peers.parameters(net, layout, training=True)
        image = peers.image(x, layout)
        their_optimizer = peers.optimizer(params, RATE, MOMENTUM, DECAY)

        def their_gradients(params=params, image=image):
            loss = peers.loss(peers.forward(net, params, image, training=True), labels,
                              IGNORE_LABEL)
            loss.backward()
            return loss.item()

        def theirs(find=their_gradients, optimizer=their_optimizer):
            optimizer.zero_grad()
            find()
            optimizer.step()

        what = f"{net.name}, PyTorch {layout}"
        _compare(f"{what}: loss", gradients(), their_gradients(), FORWARD_TOLERANCE)
        found = peers.gradients(net, params)
        for name, g in net.grads.items():
            _compare(f"{what}: gradient of {name}", g, found[name], GRADIENT_TOLERANCE)
        del found
        theirs()
        duels.append(_duel(f"PyTorch {layout}", _in_turns([ours, theirs], repeat)))
        del params, image, their_optimizer, their_gradients, theirs
    return _judged(duels, ours, repeat)


def _matrix_products(net, rows, repeat, rng):
    """Every matrix product that the net's convolutions amount to, once for each size."""
    import numpy as np

    from .kernels import cpu

    _log.info("matrix products")
    sizes = {}
    for row in rows:
        if row["product"] is not None:
            m, k, n = row["product"]
            most = max(1, PRODUCT_BYTES // (4 * k))
            sizes.setdefault((min(m, most), k, n), []).append(row["name"])
    products = []
    for (m, k, n), names in sizes.items():
        weights = net.layers[names[0]].params["weights"]
        a, b = rng.standard_normal((m, k), np.float32), weights.reshape(k, n)

        def ours(a=a, b=b):
            return cpu.matrix_product(a, b)

        def numpys(a=a, b=b):
            return a @ b

        what = f"matrix product {m} x {k} x {n}"
        _compare(what, ours(), numpys(), FORWARD_TOLERANCE)
        duel = _duel("NumPy", _in_turns([ours, numpys], repeat))
        products.append({"layers": names, "size": [m, k, n], "gflop": 2e-9 * m * k * n, **duel})
    totals = [sum(each[who]["median"] for each in products) for who in ("ours", "other")]
    return {
        "other": "NumPy",
        "sizes": products,
        "seconds": {"ours": totals[0], "other": totals[1]},
        "gflop": sum(each["gflop"] for each in products),
        "ratio": totals[1] / totals[0],
        "lowest_ratio": min(each["ratio"] for each in products),
    }


def _layers(net, x, repeat, with_torch):
    """Each layer's share of an inference: the medians of `repeat` runs of the whole net."""
    from . import peers

    _log.info("layer by layer")
    runs = []
    for _ in range(repeat):
        with _observed(net) as rows:
            net.forward(x)
        runs.append([row["seconds"] for row in rows])
    medians = [statistics.median(each) for each in zip(*runs)]
    table = [
        {"name": row["name"], "output": row["output"], "gflop": row["gflop"],
         "ours": seconds, "other": None}
        for row, seconds in zip(rows, medians)
    ]
    if with_torch:
        theirs = {}
        for layout in peers.LAYOUTS:
            found = _peer_layers(net, x, repeat, layout, {row["name"] for row in table})
            if not theirs or sum(found.values()) < sum(theirs.values()):
                theirs = found
        for row in table:
            row["other"] = theirs[row["name"]]
    return table


def _peer_layers(net, x, repeat, layout, names):
    """{node: median seconds} in PyTorch; what we do in one step counts as one."""
    import torch

    from . import peers

    params, image = peers.parameters(net, layout), peers.image(x, layout)
    doer, latest = {}, None
    for node in net.nodes:
        latest = doer[node.name] = node.name if node.name in names else latest
    runs = {name: [] for name in names}
    for _ in range(repeat):
        seconds, before = dict.fromkeys(names, 0.0), time.perf_counter()

        def after(name, seconds=seconds):
            nonlocal before
            now = time.perf_counter()
            seconds[doer[name]] += now - before
            before = now

        with torch.inference_mode():
            peers.forward(net, params, image, after=after)
        for name, each in seconds.items():
            runs[name].append(each)
    return {name: statistics.median(each) for name, each in runs.items()}


@contextlib.contextmanager
def _observed(net):
    """Give a list that gets a row for each layer that runs meanwhile."""
    from .graph import DATA

    rows = []

    def observe(node):
        forward = node.layer.forward

        def timed(*inputs, **options):
            began = time.perf_counter()
            y = forward(*inputs, **options)
            seconds = time.perf_counter() - began
            product, gflop, passes = _work(node.layer, inputs[0], y, node.inputs == (DATA,))
            rows.append({"name": node.name, "output": list(y.shape), "seconds": seconds,
                         "product": product, "gflop": gflop, "passes": passes})
            return y

        node.layer.forward = timed

    try:
        for node in net.nodes:
            observe(node)
        yield rows
    finally:
        for node in net.nodes:
            vars(node.layer).pop("forward", None)


def _work(layer, x, y, is_first):
    """What a layer multiplies.

    Returns
    -------
    product : (m, k, n) or None
        The matrix product that it amounts to: pixels, depth, outputs.
    gflop : float
        Counted as direct convolution, two for a multiplication and its addition.
    passes : int
        How often a step of training does that much: forward and for each gradient that it needs.
    """
    from .layers import Convolution, Linear, TransposedConvolution

    weights = layer.params.get("weights")
    if not isinstance(layer, Convolution | Linear | TransposedConvolution):
        return None, 0.0, 0
    pixels = (x if isinstance(layer, TransposedConvolution) else y).size // (
        weights.shape[-2 if isinstance(layer, TransposedConvolution) else -1])
    gflop = 2e-9 * pixels * weights.size
    passes = 3 - is_first - ("weights" in layer.fixed)
    if isinstance(layer, TransposedConvolution) or _groups(layer) > 1:
        return None, gflop, passes
    outputs = weights.shape[-1]
    return (pixels, weights.size // outputs, outputs), gflop, passes


def _groups(layer):
    return getattr(layer, "geometry", {}).get("groups", 1)


def _in_turns(functions, repeat):
    """Run the functions one after the other, `repeat` times; their seconds, a list for each."""
    seconds = [[] for _ in functions]
    for _ in range(repeat):
        for function, each in zip(functions, seconds):
            time.sleep(PAUSE_SECONDS)
            began = time.perf_counter()
            function()
            each.append(time.perf_counter() - began)
    return seconds


def _duel(other, seconds):
    ours, theirs = map(_summary, seconds)
    return {"against": other, "ours": ours, "other": theirs,
            "ratio": theirs["median"] / ours["median"]}


def _judged(duels, ours, repeat):
    """The duels and the one with the fastest opponent; our figures alone if there was none."""
    if not duels:
        return {"against": None, "ours": _summary(_in_turns([ours], repeat)[0]), "other": None,
                "ratio": None, "duels": []}
    return {**min(duels, key=lambda duel: duel["other"]["median"]), "duels": duels}


def _summary(seconds):
    return {"median": statistics.median(seconds), "min": min(seconds), "max": max(seconds)}


def _compare(what, ours, theirs, tolerance):
    """Fail unless both are finite, not all zero, and agree."""
    import numpy as np

    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if ours.shape != theirs.shape:
        raise console.CommandError(
            f"{what}: shapes differ, {ours.shape} here and {theirs.shape} there", console.FAILED)
    largest = float(np.abs(theirs).max())
    difference = float(np.abs(ours - theirs).max())
    # Written so that NaN fails too.
    if not (0 < largest < np.inf and difference <= tolerance * largest):
        raise console.CommandError(
            f"{what}: results differ by {difference:.3g} where the largest is {largest:.3g}; "
            f"allowed is {tolerance:g} of that", console.FAILED)


# ---- the machine


@contextlib.contextmanager
def _threads(count, with_torch):
    """Let Numba, NumPy's BLAS and PyTorch use `count` threads each, as far as they still can."""
    name = "NUMBA_NUM_THREADS"
    if "numba" not in sys.modules:
        os.environ[name] = str(count)
    if "numpy" not in sys.modules:
        os.environ.update(dict.fromkeys(BLAS_THREADS, str(count)))
    import numba

    most = numba.config.NUMBA_NUM_THREADS
    if count > most:
        raise console.CommandError(
            f"--threads {count}: Numba was started with {most} ({name})", console.USAGE)
    with contextlib.ExitStack() as stack:
        before = numba.get_num_threads()
        stack.callback(numba.set_num_threads, before)
        numba.set_num_threads(count)
        if with_torch:
            import torch

            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(count)
        if _has("threadpoolctl"):
            import numpy  # noqa: F401 (what is limited must have been loaded)
            import threadpoolctl

            stack.enter_context(threadpoolctl.threadpool_limits(count, user_api="blas"))
        yield


def _has(module):
    return importlib.util.find_spec(module) is not None


def _cores():
    """How many processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _machine(threads):
    import numba

    from .kernels.cpu import simd

    return {"cpu": _cpu_model(), "cores": _cores(), "threads": threads, "simd_bits": simd.BITS,
            "threading_layer": numba.threading_layer()}


def _cpu_model():
    with contextlib.suppress(OSError):
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _versions(with_torch):
    import numba
    import numpy

    import tinyfcn

    found = {"tinyfcn": tinyfcn.__version__, "python": platform.python_version(),
             "numba": numba.__version__, "numpy": numpy.__version__}
    if with_torch:
        import torch

        found["torch"] = str(torch.__version__)
    return found


# ---- what is printed


def _text(report):
    """The report to be read."""
    machine, net = report["machine"], report["net"]
    names = " ".join(f"{name} {version}" for name, version in report["versions"].items())
    lines = [
        f"{machine['cpu']}, {machine['simd_bits']}-bit SIMD, {machine['threads']} of "
        f"{machine['cores']} cores, {machine['threading_layer']} threads",
        names,
        "",
        f"{net['model']}, {net['parameters'] / 1e6:.2f} M parameters, batch {net['batch']}, "
        f"{net['size'][0]}x{net['size'][1]}, float32: {net['gflop']:.3f} GFLOP counted as direct "
        "convolution",
        f"first run, with compiling or loading kernels: {report['first_run_seconds']:.2f} s",
    ]
    for what in ("inference", "training"):
        if report[what]:
            title = "training step, batch 1" if what == "training" else what
            gflop = report[what].get("gflop", net["gflop"])
            lines += ["", f"{title}: median (min .. max)", *_contest(report[what], gflop)]
    lines += ["", *_product_table(report["matrix_products"])]
    if report["layers"]:
        lines += ["", *_layer_table(report["layers"], report["inference"]["against"])]
    lines += ["", *_ratio_lines(report)]
    return "\n".join(lines)


def _contest(figures, gflop):
    rows = [("tinyfcn", figures["ours"], None)]
    rows += [(duel["against"], duel["other"], duel["ratio"]) for duel in figures["duels"]]
    for name, seconds, ratio in rows:
        yield (f"  {name:22s} {_seconds(seconds)}  {gflop / seconds['median']:8.1f} GFLOP/s"
               + (f"  ratio {ratio:.2f}" if ratio else ""))


def _seconds(summary):
    return (f"{summary['median']:8.4f} s ({summary['min']:.4f} .. {summary['max']:.4f})")


def _product_table(products):
    yield "matrix products of its layers, GFLOP/s"
    yield f"  {'m x k x n':>22s} {'tinyfcn':>9s} {'NumPy':>9s} {'ratio':>6s}  layers"
    for each in products["sizes"]:
        size = " x ".join(map(str, each["size"]))
        speeds = (each["gflop"] / each[who]["median"] for who in ("ours", "other"))
        yield (f"  {size:>22s} " + " ".join(f"{speed:9.1f}" for speed in speeds)
               + f" {each['ratio']:6.2f}  {' '.join(each['layers'])}")


def _layer_table(layers, against):
    total = sum(row["ours"] for row in layers)
    yield (f"layers, milliseconds{f' (other: {against})' if against else ''}; a ReLU that runs "
           "inside its convolution counts there")
    yield f"  {'':16s} {'output':>20s} {'tinyfcn':>9s} {'share':>6s} {'GFLOP/s':>8s} {'other':>9s}"
    for row in layers:
        size = "x".join(map(str, row["output"]))
        speed = f"{row['gflop'] / row['ours']:8.1f}" if row["gflop"] else f"{'':8s}"
        other = "" if row["other"] is None else f"{1e3 * row['other']:9.2f}"
        yield (f"  {row['name']:16s} {size:>20s} {1e3 * row['ours']:9.2f} "
               f"{row['ours'] / total:6.1%} {speed} {other}".rstrip())


def _ratio_lines(report):
    """The lines that sum up."""
    yield "ratio: the other's time / tinyfcn's; above 1, tinyfcn is faster"
    for what in ("inference", "training"):
        figures = report[what]
        if figures and figures["ratio"]:
            yield f"  {what:14s} {figures['ratio']:6.2f}  against {figures['against']}"
    products = report["matrix_products"]
    yield (f"  {'matrix product':14s} {products['ratio']:6.2f}  against NumPy, "
           f"lowest {products['lowest_ratio']:.2f}")
    if report["hint"]:
        yield report["hint"]




# ---- the command line


def _parse(argv):
    count = console.number(int, 1, 10**6)
    parser = console.OneLineParser(
        prog=PROGRAM, allow_abbrev=False,
        description="Time a net with random weights against the same net in PyTorch, and the "
                    "matrix product on the sizes of its layers against NumPy's: same threads, in "
                    "turns. Results are compared before anything is timed.",
        epilog="Exit codes: 0 fine, 1 results differ or memory ran out, 2 usage, "
               "130 interrupted.")
    parser.add_argument("--model", choices=MODELS, default="fcn8s", help="default: fcn8s")
    parser.add_argument("--size", type=_size, metavar="HxW",
                        help="of the image (default: 375x500; 224x224 for vgg16)")
    parser.add_argument("--batch", type=count, default=1, metavar="N",
                        help="images at a time in inference (default: 1)")
    parser.add_argument("--classes", type=console.number(int, 1, IGNORE_LABEL), default=21,
                        metavar="N", help="default: 21")
    parser.add_argument("--width", type=console.number(float, 0, 100, above=True), default=1.0,
                        metavar="W", help="scales the channels of VGG's blocks (default: 1)")
    parser.add_argument("--fc-channels", type=count, default=4096, metavar="N",
                        help="of fc6 and fc7 (default: 4096)")
    parser.add_argument("--threads", type=console.number(int, 1, _cores()), metavar="N",
                        help="default: all cores")
    parser.add_argument("--peers", choices=("torch", "none"),
                        help="whom to compare the net with (default: torch, if it is installed)")
    parser.add_argument("--repeat", type=count, default=5, metavar="N",
                        help="timed runs of each (default: 5)")
    parser.add_argument("--train", action="store_true",
                        help="time a step of training too: forward, backward, SGD with momentum, "
                             "on one image")
    parser.add_argument("--layers", action="store_true", help="show the time of each layer")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    parser.add_argument("--seed", type=console.number(int, 0), default=0, metavar="N",
                        help="of the random numbers (default: 0)")
    options = parser.parse_args(argv)
    if options.size is None:
        options.size = (224, 224) if options.model == "vgg16" else (375, 500)
    if options.threads is None:
        # An earlier wish of the user's, made to Numba, holds.
        with contextlib.suppress(KeyError, ValueError):
            options.threads = int(os.environ["NUMBA_NUM_THREADS"])
        options.threads = options.threads or _cores()
    return options


def _size(text):
    height, _, width = text.lower().partition("x")
    side = console.number(int, 1, 99999)
    try:
        return side(height), side(width)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"must be HEIGHTxWIDTH such as 375x500, not {text!r}") from None


if __name__ == "__main__":
    sys.exit(main())
