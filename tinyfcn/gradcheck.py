"""Check the hand-written gradients against numerical ones: `python -m tinyfcn.gradcheck`

Prints a table on stdout, a line for each input and parameter. Exit codes: 0 all agree, 1 a gradient
is wrong, 2 usage, 130 interrupted.
"""

# What takes long to import is imported by the functions that need it, so that --help answers at
# once.
import argparse
import sys

from . import console

PROGRAM = "tinyfcn-gradcheck"
NETS = (
    "fcn32s", "fcn16s", "fcn8s", "fcn8s-atonce", "fcn_alexnet", "lenet", "alexnet", "caffenet",
    "alexnet-single-tower", "vgg11", "vgg13", "vgg16", "vgg19",
)
# The smallest images that classifiers are checked with; they have no geometry.
INPUT_SIZES = {
    "lenet": 18, "alexnet": 67, "caffenet": 67, "alexnet-single-tower": 63, "vgg11": 48,
    "vgg13": 48, "vgg16": 48, "vgg19": 48,
}
LAYERS = (
    "Add", "BatchNorm", "Convolution", "Crop", "Dropout", "Linear", "LocalResponseNormalization",
    "MaxPooling", "ReLU", "Scale", "TransposedConvolution", "softmax_loss",
)

COLUMNS = "{:<58} {:<20} {:>9} {:>9} {:>6} {:>5}"
HEAD = COLUMNS.format("layer", "parameter", "error", "threshold", "kinks", "seed")


def main(argv=None):
    """Run the command with these arguments (sys.argv's by default) and return its exit code."""
    return console.run(PROGRAM, _parse, _run, argv)


def _run(options):
    device = console.use_device(options)
    reference = "numerical ones" if device == "cpu" else "the CPU's"
    return _report(_rows(options, device), reference)


def check_layer(kind, seed=0, device="cpu"):
    """Check one of `LAYERS` with several shapes; yield a `gradient_check.Row` for each gradient.

    On the CPU against numerical gradients, on a GPU against the CPU's.
    """
    import numpy as np

    from .gradient_check import Settings, check_adjoint, check_gradients, compare_devices

    rng = np.random.default_rng(seed)
    if kind == "softmax_loss":
        yield from _check_loss(rng, seed, device)
        return
    settings = Settings(seed, entries=60)
    for label, layer, shapes, options in _layer_cases(kind):
        for key, w in layer.params.items():
            if key not in ("running_mean", "running_var"):
                w[...] = rng.standard_normal(w.shape)
        inputs = [rng.standard_normal(shape) for shape in shapes]
        name = f"{kind} {label}".rstrip()
        if device != "cpu":
            yield from compare_devices(
                layer, *inputs, device=device, name=name, seed=seed, **options)
            continue
        yield from check_gradients(layer, *inputs, name=name, settings=settings, **options)
        if kind not in ("BatchNorm", "LocalResponseNormalization", "MaxPooling", "ReLU"):
            yield from check_adjoint(layer, *inputs, name=name, seed=seed, **options)


def _layer_cases(kind):
    """Yield (label, layer, shapes of its inputs, options of its forward)."""
    import numpy as np

    from . import layers

    f8 = np.float64
    if kind == "Add":
        yield "", layers.Add(), [(2, 3, 5, 4)] * 2, {}
    elif kind == "BatchNorm":
        for shape in (2, 5, 7, 3), (3, 1, 1, 9), (1, 6, 4, 17):
            yield f"{shape}", layers.BatchNorm(shape[3], dtype=f8), [shape], {}
    elif kind == "Convolution":
        for label, shape, out, kernel, options in (
            ("1x1", (2, 4, 5, 9), 7, 1, {}),
            ("3x3 padding 1", (2, 5, 7, 9), 17, 3, {"padding": 1}),
            ("3x3 padding 100", (1, 3, 2, 2), 3, 3, {"padding": 100}),
            ("7x7 padding 3 on 2x3 pixels", (1, 2, 3, 3), 4, 7, {"padding": 3}),
            ("5x3 stride 2,3 padding 1,2", (2, 8, 9, 3), 4, (5, 3),
             {"stride": (2, 3), "padding": (1, 2)}),
            ("3x2 dilation 2,3", (1, 8, 7, 3), 5, (3, 2), {"dilation": (2, 3)}),
            ("3x3 stride 2 groups 2", (2, 7, 6, 4), 6, 3, {"stride": 2, "groups": 2}),
            ("2x2 stride 3 groups 5, no bias", (2, 7, 8, 5), 5, 2,
             {"stride": 3, "groups": 5, "bias": False}),
        ):
            layer = layers.Convolution(shape[3], out, kernel, dtype=f8, **options)
            yield label, layer, [shape], {}
    elif kind == "Crop":
        for offset, size in ((1, 2), (3, 4)), ((0, 0), (1, 1)), ((5, 9), (2, 1)):
            yield f"{size} at {offset}", layers.Crop(offset), [(2, 7, 10, 3)], {"size": size}
    elif kind == "Dropout":
        for rate in 0.5, 0.1:
            yield f"{rate}", layers.Dropout(rate), [(2, 4, 5, 6)], {}
    elif kind == "Linear":
        for shape, out in ((3, 4, 2, 5), 6), ((2, 17), 9):
            features = np.prod(shape[1:])
            yield f"{shape[1:]} to {out}", layers.Linear(features, out, dtype=f8), [shape], {}
    elif kind == "LocalResponseNormalization":
        for label, shape, settings in (
            ("5 of 9 channels", (2, 3, 4, 9), {"alpha": 2.0}),
            ("5 of 3 channels, k 2", (1, 2, 5, 3), {"alpha": 1.0, "k": 2.0}),
            ("3 of 7 channels, beta 0.5", (2, 3, 2, 7), {"size": 3, "alpha": 3.0, "beta": 0.5}),
        ):
            yield label, layers.LocalResponseNormalization(**settings), [shape], {}
    elif kind == "MaxPooling":
        for label, shape, kernel, stride, padding, ceil in (
            ("2x2 stride 2 ceil", (2, 5, 7, 9), 2, 2, 0, True),
            ("2x2 stride 2 floor", (1, 5, 6, 3), 2, 2, 0, False),
            ("3x3 stride 2 padding 1", (1, 7, 6, 3), 3, 2, 1, False),
            ("2x3 stride 1,2 padding 0,1 ceil", (2, 4, 6, 3), (2, 3), (1, 2), (0, 1), True),
        ):
            yield label, layers.MaxPooling(kernel, stride, padding, ceil), [shape], {}
    elif kind == "ReLU":
        yield "", layers.ReLU(), [(2, 5, 3, 7)], {}
    elif kind == "Scale":
        yield "0.01", layers.Scale(0.01), [(2, 3, 4, 5)], {}
    elif kind == "TransposedConvolution":
        for label, shape, kernel, stride, padding, size in (
            ("4x4 stride 2", (2, 3, 4, 5), 4, 2, 0, None),
            ("4x4 stride 2 padding 1 to 5x7", (2, 3, 4, 9), 4, 2, 1, (5, 7)),
            ("16x16 stride 8 padding 4 to 13x17", (1, 2, 3, 3), 16, 8, 4, (13, 17)),
            ("3x5 stride 1,3 padding 1,0 to 9x9", (1, 4, 2, 2), (3, 5), (1, 3), (1, 0), (9, 9)),
            ("64x64 stride 32 from 1 pixel", (1, 1, 1, 2), 64, 32, 0, None),
        ):
            layer = layers.TransposedConvolution(
                shape[3], kernel, stride, padding, fixed=False, dtype=f8
            )
            yield label, layer, [shape], {"size": size}


def _check_loss(rng, seed, device):
    import numpy as np

    from .arrays import to_device, to_host
    from .gradient_check import Settings, compare, compare_arrays
    from .losses import softmax_loss

    scores = rng.standard_normal((2, 3, 4, 5)) * 3
    labels = rng.integers(0, 6, (2, 3, 4)).astype(np.uint8)  # 5 is to be ignored
    for label, options in (
        ("summed", {"average": False}),
        ("averaged", {}),
        ("averaged, weighted", {"class_weights": (1.5, 1, 0.25, 3, 2)}),
    ):
        def run(options=options):
            loss, _ = softmax_loss(scores, labels, 5, **options)
            return np.array(loss), []

        _, gscores = softmax_loss(scores, labels, 5, **options)
        name = f"softmax_loss {label}"
        if device != "cpu":
            single = scores.astype(np.float32)
            _, expected = softmax_loss(single.astype(np.float64), labels, 5, **options)
            _, found = softmax_loss(to_device(single, device), labels, 5, **options)
            yield compare_arrays(name, "scores", to_host(found), expected, seed)
            continue
        yield compare(name, "scores", run, scores, gscores, np.ones(()), rng, Settings(seed))


def check_net(name, seed=0, geometry="same", batch_norm=False, entries=2, size=(17, 33),
              device="cpu"):
    """Check a whole net, narrow and with random weights everywhere; yield its Rows.

    Parameters
    ----------
    name : str
        One of `NETS`.
    seed : int
    geometry : "same" or "caffe"
        Of an FCN.
    batch_norm : bool
        Of an FCN or a VGG.
    entries : int
        How many entries of each array to compare one by one; a direction is compared besides.
    size : (h, w)
        Of the images; classifiers have their own, `INPUT_SIZES`.
    device : str
        On a GPU, its gradients are compared with the CPU's.
    """
    import numpy as np

    from . import models
    from .gradient_check import Settings, check_gradients, compare_devices
    from .layers import Convolution

    options = {"seed": seed}
    if name != "lenet":
        options |= {"width": 1 / 16, "fc_channels": 16}
    if has_batch_norm(name):
        options["batch_norm"] = batch_norm
    if name in INPUT_SIZES:
        geometry = ""
        options["input_size"] = INPUT_SIZES[name]
        size = (INPUT_SIZES[name],) * 2
    else:
        options |= {"geometry": geometry, "upsampling": "learned"}
    net = models.BY_NAME[name](classes=3, init="scratch", dtype=np.float64, **options)
    if geometry == "caffe":
        # Far out in the padding all pixels are alike, and the maxima of pools tie. Winograd's
        # rounding would break those ties: a kink at every step.
        for layer in net.layers.values():
            if isinstance(layer, Convolution):
                layer.geometry["algorithm"] = "im2col"
    rng = np.random.default_rng(seed)
    for key, w in net.params.items():
        if key.endswith(("/bias", "/beta")):
            w[...] = rng.normal(0, 0.2, w.shape)
    # Batch norm takes any mean away again, so a bias before it has no effect and no gradient.
    skip = [
        f"{node.inputs[0]}/bias" for node in net.nodes if node.name.startswith("bn")
    ]
    # Padded by 100 on all sides, one image is large enough.
    channels = net.arguments["in_channels"]
    x = rng.standard_normal((1 if geometry == "caffe" else 2, *size, channels))
    label = " ".join(filter(None, (name, geometry, "batch norm" if batch_norm else "")))
    if device != "cpu":
        yield from compare_devices(net, x, device=device, name=label, seed=seed, skip=skip)
        return
    settings = Settings(seed, entries, threshold=1e-5)
    yield from check_gradients(net, x, name=label, settings=settings, skip=skip)


def has_batch_norm(name):
    """Whether a net can have batch norm."""
    return name.startswith(("fcn", "vgg"))


def _rows(options, device):
    """Yield a Row for all that was asked for."""
    everything = options.layer is None and options.net is None
    for kind in LAYERS if everything else [options.layer] if options.layer else []:
        yield from check_layer(kind, options.seed, device)
    if everything:
        for net in NETS:
            yield from check_net(net, options.seed, device=device)
        yield from check_net("fcn8s", options.seed, batch_norm=True, device=device)
        yield from check_net(
            "fcn8s", options.seed, "caffe", entries=0, size=(3, 5), device=device)
    elif options.net is not None:
        yield from check_net(options.net, options.seed, entries=4, device=device)
        if has_batch_norm(options.net):
            yield from check_net(options.net, options.seed, batch_norm=True, device=device)
        if options.net not in INPUT_SIZES:
            yield from check_net(
                options.net, options.seed, "caffe", entries=0, size=(3, 5), device=device)


def _report(rows, reference):
    """Print the table, each row as soon as it is there. Returns the exit code."""
    total = wrong = 0
    printed = console.print_result(PROGRAM, HEAD)
    for row in rows:
        line = COLUMNS.format(row.layer, row.parameter, f"{row.error:.1e}",
                              f"{row.threshold:.0e}", row.kinks, row.seed)
        if not row.passed:
            line += f"\n  WRONG {row.problem}"
            wrong += 1
        total += 1
        printed &= console.print_result(PROGRAM, line)
    summary = f"{total - wrong} of {total} gradients agree with {reference}"
    printed &= console.print_result(PROGRAM, summary)
    return console.FAILED if wrong or not printed else console.DONE


def _parse(argv):
    parser = console.OneLineParser(
        prog=PROGRAM, allow_abbrev=False,
        description="Compare the hand-written gradients with numerical ones, in float64: every "
                    "layer and whole nets, or only what is named. Of each input and parameter it "
                    "prints the largest relative error. With --device cuda, compare the GPU's "
                    "float32 gradients with the CPU's float64 ones.",
        epilog="Exit codes: 0 all agree, 1 a gradient is wrong, 2 usage, 130 interrupted.")
    parser.add_argument("--layer", type=_layer, metavar="NAME",
                        help=f"check this kind of layer: {', '.join(LAYERS)}")
    parser.add_argument("--net", choices=NETS, help="check this net, narrow, in all its forms")
    console.add_device_options(parser, default="cpu", precision=False)
    parser.add_argument("--seed", type=console.number(int, 0), default=0, metavar="N",
                        help="of all that is random (default: 0)")
    return parser.parse_args(argv)


def _layer(text):
    """The layer's name, in whatever case and with or without underscores."""
    def plain(name):
        return name.replace("_", "").lower()

    for name in LAYERS:
        if plain(name) == plain(text):
            return name
    raise argparse.ArgumentTypeError(f"no layer {text}; there are {', '.join(LAYERS)}")


if __name__ == "__main__":
    sys.exit(main())
