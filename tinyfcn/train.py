"""Train a net on a data set: python -m tinyfcn.train --data DIR -o RUN"""

import argparse
import dataclasses
import os
import sys


def main(argv=None):
    """Run the command; return its exit code: 0 fine, 1 failed, 2 usage, 3 weights, 130 stopped."""
    arguments = _parse(argv)
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        print(f"tinyfcn-train: stopped; --resume {arguments.output} goes on", file=sys.stderr)
        return 130


def _parse(argv):
    parser = argparse.ArgumentParser(
        prog="tinyfcn-train",
        description="Train a VGG FCN on photos with label maps (images/SPLIT/NAME.jpg, "
        "labels/SPLIT/NAME.png, classes.json). A checkpoint is written after each epoch.",
    )
    from_start = parser.add_argument_group("a new run")
    from_start.add_argument("--data", metavar="DIR", help="the data set")
    from_start.add_argument("-o", "--output", metavar="RUN", help="the run's folder, made anew")
    from_start.add_argument("--model", default="fcn8s", help="fcn32s, fcn16s, fcn8s, fcn8s-atonce")
    from_start.add_argument("--init", metavar="FILE", help="start from the weights of such a net")
    from_start.add_argument("--width", type=float, default=0.25, help="scales VGG's channels")
    from_start.add_argument("--fc-channels", type=int, default=384, help="channels of fc6 and fc7")
    from_start.add_argument("--batch-norm", action="store_true")
    from_start.add_argument("--upsampling", choices=("fixed", "learned"), default="fixed")
    from_start.add_argument("--dropout", type=float, default=0.3)
    from_start.add_argument("--epochs", type=int, default=100)
    from_start.add_argument("--batch", type=int, default=4)
    from_start.add_argument("--crop", type=int, nargs=2, metavar=("H", "W"), default=(288, 384))
    from_start.add_argument("--rate", type=float, default=0.05, help="largest learning rate")
    from_start.add_argument("--warm-up", type=int, default=100, help="steps up to that rate")
    from_start.add_argument("--momentum", type=float, default=0.9)
    from_start.add_argument("--decay", type=float, default=5e-4)
    from_start.add_argument("--balance", action="store_true", help="weigh rare classes up")
    from_start.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", metavar="RUN", help="go on with the run in this folder")
    arguments = parser.parse_args(argv)
    if arguments.resume:
        arguments.output = arguments.resume
    elif not (arguments.data and arguments.output):
        parser.error("a new run needs --data and -o, an old one --resume")
    for name in ("epochs", "batch", "fc_channels", "width", "rate"):
        if not getattr(arguments, name) > 0:
            parser.error(f"--{name.replace('_', '-')} must be above 0")
    if min(arguments.crop) < 1:
        parser.error("--crop must be at least 1 1")
    if not 0 <= arguments.dropout < 1:
        parser.error("--dropout must be at least 0 and below 1")
    return arguments


def _run(arguments):
    # After the command line is read, since these take a second.

    from . import loading, models, training
    from .data.folders import DataError, find_pairs, read_classes
    from .data.images import ImageError
    from .weights import WeightsError

    def fail(message, code):
        print(f"tinyfcn-train: {message}", file=sys.stderr)
        return code

    try:
        if arguments.resume:
            config = training.read_config(arguments.resume)
        else:
            config = _config(arguments)
        if config["model"] not in models.BY_NAME or not config["model"].startswith("fcn"):
            return fail(f"no such model: {config['model']}", 2)
        classes = read_classes(config["data"])
        train_pairs = find_pairs(config["data"], "train")
        has_val = os.path.isdir(os.path.join(config["data"], "images", "val"))
        val_pairs = find_pairs(config["data"], "val") if has_val else []
    except (DataError, training.TrainingError) as error:
        return fail(error, 2)

    recipe = training.Recipe(**config["recipe"])
    net = models.BY_NAME[config["model"]](
        classes=len(classes.names), init="scratch", seed=recipe.seed, **config["net"]
    )
    net.class_names, net.colours = classes.names, classes.colours
    net.ignore_label = classes.ignore_label
    net.preprocessing = {
        "channel_order": "RGB",
        "scale": 1 / 255,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }
    try:
        if config["init"]:
            loading.load_weights(net, config["init"])
        if not arguments.resume:
            os.makedirs(arguments.output, exist_ok=True)
            training.write_config(arguments.output, config)
        size = sum(w.size for w in net.params.values())
        print(
            f"{config['model']}: {size / 1e6:.2f} M parameters, {len(train_pairs)} photos",
            file=sys.stderr,
        )
        training.train(
            net, train_pairs, val_pairs, classes.ignore_label, recipe, arguments.output, _report
        )
    except FileExistsError:
        return fail(f"{arguments.output}: there is a run already; --resume goes on with it", 2)
    except WeightsError as error:
        return fail(error, 3)
    except (DataError, ImageError, training.TrainingError) as error:
        return fail(error, 1)
    except OSError as error:
        return fail(f"{error.filename}: {error.strerror}", 2)
    return 0


def _config(arguments):
    """What `config.json` holds: all that decides how the run goes."""
    from .training import Recipe

    recipe = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(Recipe)}
    return {
        "model": arguments.model,
        "data": os.path.abspath(arguments.data),
        "init": arguments.init and os.path.abspath(arguments.init),
        "net": {
            name: getattr(arguments, name)
            for name in ("width", "fc_channels", "batch_norm", "upsampling", "dropout")
        },
        "recipe": recipe,
    }


def _report(row):
    print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
