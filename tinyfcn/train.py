"""Train a net on a data set: `python -m tinyfcn.train --data DIR -o RUN`

Into the folder RUN it writes, after each epoch, a checkpoint, the log, and the best net so far;
`--resume RUN` goes on from there. Exit codes: 0 fine, 1 the training failed, 2 usage, 3 weights,
130 interrupted.
"""

# What takes long to import is imported by the functions that need it, so that --help answers at
# once and an interrupt at any time is answered by one line.
import argparse
import os
import shlex
import sys
import tempfile

from . import console

PROGRAM = "tinyfcn-train"

# A new run's options; those of a Recipe and of the net by their names there.
RECIPE = {
    "epochs": 100,
    "batch": 4,
    "crop": [288, 384],
    "rate": 0.05,
    "warm_up": 100,
    "optimizer": "sgd",
    "momentum": 0.9,
    "average": 0.0,
    "decay": 5e-4,
    "balance": False,
    "seed": 0,
}
NET = {
    "width": 0.25,
    "fc_channels": 384,
    "batch_norm": False,
    "upsampling": "fixed",
    "dropout": 0.3,
}
OTHERS = {"data": None, "output": None, "check": False, "model": "fcn8s", "init": None}

# The mean and spread of ImageNet's photos, as is usual; any photos are like them.
PREPROCESSING = {
    "channel_order": "RGB",
    "scale": 1 / 255,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}


def main(argv=None):
    """Run the command with these arguments (sys.argv's by default) and return its exit code."""
    return console.run(PROGRAM, _parse, _run, argv)


def _parse(argv):
    parser = console.OneLineParser(
        prog=PROGRAM,
        allow_abbrev=False,
        description="Train a VGG FCN on photos with label maps: DIR/images/train/NAME.jpg, "
        "DIR/labels/train/NAME.png (8-bit, a class index per pixel), the same for the split val, "
        'and DIR/classes.json ({"names": [...], "colours": [[r, g, b], ...], "ignore": 255}); or '
        "on a folder of PASCAL VOC's layout or of labelme's JSON files. "
        "After each epoch RUN holds checkpoint.h5, best.h5 (by mean IU on val) and log.csv, and "
        "a line of the log goes to stdout.",
        epilog="Exit codes: 0 fine, 1 the training failed, 2 usage, 3 weights, 130 interrupted.",
    )
    parser.add_argument("--resume", metavar="RUN", help="go on with the run in this folder")
    console.add_device_options(parser)
    group = parser.add_argument_group("a new run")

    def add(*names, help, **settings):
        option = names[-1].lstrip("-").replace("-", "_")
        default = {**RECIPE, **NET, **OTHERS}[option]
        if default is not None and default is not False:
            shown = " ".join(map(str, default)) if isinstance(default, list) else default
            help += f" (default: {shown})"
        # Absent where it isn't given: with --resume none may be.
        group.add_argument(*names, help=help, default=argparse.SUPPRESS, **settings)

    add("--data", metavar="DIR", help="the data set")
    add("-o", "--output", metavar="RUN", help="the run's folder, made if it is missing")
    add("--check", action="store_true", help="train nothing: print how often each class occurs and "
        "every file that cannot be used, and exit with 1 if there is one")
    add("--model", choices=console.MODELS, help="the net")
    add("--init", metavar="FILE", help="begin with the weights of such a net or of a classifier")
    width = console.number(float, 0, 16, above=True)
    add("--width", type=width, metavar="X", help="scales VGG's channels")
    channels = console.number(int, 1, 65536)
    add("--fc-channels", type=channels, metavar="N", help="channels of fc6 and fc7")
    add("--batch-norm", action="store_true", help="after each convolution of VGG")
    add("--upsampling", choices=("fixed", "learned"), help="bilinear, or beginning there")
    share = console.number(float, 0, 1, below=True)
    add("--dropout", type=share, metavar="X", help="after fc6 and fc7")
    add("--epochs", type=console.number(int, 1), metavar="N", help="how often each photo is seen")
    add("--batch", type=console.number(int, 1), metavar="N", help="photos a step")
    side = console.number(int, 1, 8192)
    add("--crop", type=side, nargs=2, metavar=("H", "W"), help="size of the views")
    rate = console.number(float, 0, 1e6, above=True)
    add("--rate", type=rate, metavar="X", help="top learning rate")
    add("--warm-up", type=console.number(int, 0), metavar="N", help="steps up to that rate")
    add("--optimizer", choices=("sgd", "adamw"), help="how the net follows its gradient")
    add("--momentum", type=console.number(float, 0, 1, below=True), metavar="X", help="of SGD")
    average = console.number(float, 0, 1, below=True)
    add("--average", type=average, metavar="X",
        help="keep so much of a running average of the net each step, and score that")
    add("--decay", type=console.number(float, 0, 1e6), metavar="X", help="of weights, towards zero")
    add("--balance", action="store_true", help="weigh rare classes up")
    add("--seed", type=console.number(int, 0, 2**31), metavar="N", help="of all that is random")

    given = parser.parse_args(argv)
    new = [name for name in vars(given) if name not in ("resume", "device", "precision")]
    if given.resume is not None and new:
        option = new[0].replace("_", "-")
        parser.error(f"--{option} belongs to a new run; --resume goes on as the run was started")
    if "check" in new and "data" not in new:
        parser.error("--check needs --data")
    if given.resume is None and not {"data", "output"} <= set(new) and "check" not in new:
        parser.error("a new run needs --data and --output, an old one --resume")
    return argparse.Namespace(**{**RECIPE, **NET, **OTHERS, **vars(given)})


def _run(options):
    if options.check:
        from . import checking

        return checking.run(PROGRAM, options.data)
    folder = options.resume or options.output
    try:
        _train(options, folder)
    except MemoryError as error:
        message = f"{console.memory_shortage(error)}: try a smaller --batch or --crop"
        raise console.CommandError(message, console.FAILED) from None
    except KeyboardInterrupt:
        begun = os.path.exists(os.path.join(folder, "config.json"))
        again = f"; to go on: {PROGRAM} --resume {shlex.quote(folder)}" if begun else ""
        raise console.CommandError(f"interrupted{again}", console.INTERRUPTED) from None
    return console.DONE


def _train(options, folder):
    from . import checking, training
    from .data.errors import DataError
    from .data.images import ImageError, printable
    from .data.loader import PairReader
    from .weights import WeightsError

    device = console.use_device(options)
    config = _config(options)
    recipe = config["recipe"]
    classes, train_pairs, val_pairs = _find_data(config["data"], recipe)
    net = _build_net(config, classes, folder)
    labels = len(classes.names), classes.ignore_label
    try:
        photos = PairReader(train_pairs, *labels)
        # A bad one of val shall not end the run after its first epoch.
        val = PairReader(val_pairs, *labels, keep_bytes=0)
        checking.refuse_faults(PROGRAM, {"train": photos, "val": val})
        _check_writable(folder)
        if options.resume is None:
            stored = {**config, "recipe": {name: getattr(options, name) for name in RECIPE}}
            training.write_config(folder, stored)
        size = sum(array.size for array in net.params.values())
        console.say(
            f"{PROGRAM}: {net.name}, {size / 1e6:.2f} M parameters; {len(photos)} photos to train "
            f"on, {len(val_pairs)} to validate"
        )
        rows = training.train(
            net, photos, val_pairs, classes.ignore_label, recipe, folder, _report, device
        )
    except WeightsError as error:
        raise console.CommandError(error, console.WEIGHTS) from None
    except (DataError, ImageError, training.TrainingError) as error:
        raise console.CommandError(error, console.FAILED) from None
    best = printable(os.path.join(folder, training.BEST))
    console.say(f"{PROGRAM}: done, {len(rows)} epochs: {best}")


def _config(options):
    """All that decides how the run goes: what the options say, or what `config.json` holds."""
    from .data.images import printable
    from .training import Recipe, TrainingError, has_run, read_config

    if options.resume is not None:
        try:
            return read_config(options.resume)
        except TrainingError as error:
            raise console.CommandError(error, console.USAGE) from None
    if has_run(options.output):
        raise console.CommandError(
            f"{printable(options.output)}: there is a run already; --resume goes on with it",
            console.USAGE,
        )
    return {
        "model": options.model,
        "data": os.path.abspath(options.data),
        "init": options.init and os.path.abspath(options.init),
        "net": {name: getattr(options, name) for name in NET},
        "recipe": Recipe(**{name: getattr(options, name) for name in RECIPE}),
    }


def _find_data(root, recipe):
    from .data import layouts
    from .data.errors import DataError
    from .training import TrainingError, steps_per_epoch

    try:
        data = layouts.find(root)
        train_pairs = data.pairs("train")
        val_pairs = data.pairs("val") if "val" in data.splits() else []
        steps_per_epoch(train_pairs, recipe)
    except (DataError, TrainingError) as error:
        raise console.CommandError(error, console.USAGE) from None
    return data.classes, train_pairs, val_pairs


def _build_net(config, classes, folder):
    """The net as the run begins, or began; a checkpoint's weights come later."""
    from . import loading, models
    from .data.images import printable
    from .training import CHECKPOINT, CONFIG
    from .weights import WeightsError

    try:
        if config["model"] not in console.MODELS:
            raise ValueError(f"no such net: {config['model']}")
        net = models.BY_NAME[config["model"]](
            classes=len(classes.names),
            # Score layers that other weights leave alone start at zero, as the authors' do.
            init="classifier" if config["init"] else "scratch",
            seed=config["recipe"].seed,
            **config["net"],
        )
    except (TypeError, ValueError, OverflowError) as error:
        reason = printable(str(error))
        where = printable(os.path.join(folder, CONFIG))
        message = f"{where}: no net can be built from it ({reason})"
        raise console.CommandError(message, console.USAGE) from None
    net.preprocessing = dict(PREPROCESSING)
    if config["init"] and not os.path.exists(os.path.join(folder, CHECKPOINT)):
        try:
            # The weights expect what they were trained on, so its preprocessing holds too.
            loading.load_weights(net, config["init"])
        except WeightsError as error:
            raise console.CommandError(error, console.WEIGHTS) from None
    net.class_names, net.colours = classes.names, classes.colours
    net.ignore_label = classes.ignore_label
    return net


def _check_writable(folder):
    from .data.images import printable

    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise console.CommandError(
            f"{printable(folder)}: cannot write to this folder: {error.strerror}", console.USAGE
        ) from None


def _report(row):
    console.print_result(PROGRAM, "  ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    sys.exit(main())
