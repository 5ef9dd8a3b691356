"""Score a net on a data set: `python -m tinyfcn.evaluate --data DIR`

It prints the four measures of the paper and a table of the classes. Exit codes: 0 fine, 1 some
photos could not be read and the figures are of the others, 2 usage, 3 weights, 130 interrupted.
"""

# What takes long to import is imported by the functions that need it, so that --help answers at
# once and an interrupt at any time is answered by one line.
import json
import math
import sys

from . import console

PROGRAM = "tinyfcn-evaluate"
MEASURES = ("pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu")


def main(argv=None):
    """Run the command with these arguments (sys.argv's by default) and return its exit code."""
    return console.run(PROGRAM, _parse, _run, argv)


def _parse(argv):
    parser = console.OneLineParser(
        prog=PROGRAM,
        allow_abbrev=False,
        description="Score a net on a data set (DIR/images/SPLIT/NAME.jpg, "
        "DIR/labels/SPLIT/NAME.png, DIR/classes.json): pixel accuracy, mean accuracy, mean IU and "
        "frequency weighted IU, and IU and accuracy of each class.",
        epilog="Exit codes: 0 fine, 1 some photos could not be read and the figures are of the "
        "others, 2 usage, 3 weights, 130 interrupted.",
    )
    parser.add_argument("--data", required=True, metavar="DIR", help="the data set")
    parser.add_argument("--split", default="val", help="which photos (default: val)")
    parser.add_argument(
        "--weights", metavar="FILE", help="weight file (default: the one that comes with tinyfcn)"
    )
    console.add_loading_options(parser)
    parser.add_argument(
        "--model",
        choices=console.MODELS,
        help="the net (default: what the weight file holds; fcn8s without one)",
    )
    console.add_device_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    console.check_layout(parser, options)
    return options


def _run(options):
    from . import evaluation, metrics
    from .data.folders import DataError, find_pairs, read_classes

    device = console.use_device(options)
    try:
        classes = read_classes(options.data)
        pairs = find_pairs(options.data, options.split)
    except DataError as error:
        raise console.CommandError(error, console.USAGE) from None
    path = console.find_weights(options)
    net, digest = _load_net(path, options, classes)
    if device != "cpu":
        net.to(device)

    failures = []
    try:
        with console.progress(len(pairs), "photos") as show:
            matrix = evaluation.evaluate(net, pairs, classes.ignore_label, show, failures.append)
    except ValueError as error:  # the net's scores are not finite
        raise console.CommandError(f"{_shown(path)}: {error}", console.WEIGHTS) from None
    for error in failures:
        console.say(f"{PROGRAM}: {error}")
    images = len(pairs) - len(failures)
    if failures:
        console.say(f"{PROGRAM}: {len(failures)} of {len(pairs)} photos failed")
    if not images:
        return console.FAILED
    scores = metrics.scores(matrix)
    if options.json:
        text = _json(scores, classes, images, digest)
    else:
        text = _text(scores, classes, images, _shown(path), digest)
    return console.DONE if console.print_result(PROGRAM, text) and not failures else console.FAILED


def _load_net(path, options, classes):
    from . import loading, models
    from .weights import WeightsError, sha256

    try:
        digest = sha256(path)
        net = loading.load_model(path, **console.loading_options(options))
    except WeightsError as error:
        raise console.CommandError(error, console.WEIGHTS) from None
    if net.name not in console.MODELS:
        raise console.CommandError(
            f"{_shown(path)}: holds {net.name}, which does not segment", console.WEIGHTS
        )
    channels = net.arguments.get("in_channels", 3)
    if channels != 3:
        raise console.CommandError(
            f"{_shown(path)}: takes {channels} channels; a photo has 3", console.WEIGHTS
        )
    count = net.arguments["classes"]
    if count != len(classes.names):
        raise console.CommandError(
            f"{_shown(path)}: is for {count} classes; {_shown(options.data)} has "
            f"{len(classes.names)}",
            console.WEIGHTS,
        )
    if net.class_names is not None and net.class_names != classes.names:
        console.say(
            f"{PROGRAM}: warning: {_shown(path)}: its classes have other names than the data set's"
        )
    return models.fold_batch_norm(net), digest


def _shown(path):
    from .data.images import printable

    return printable(path)


def _json(scores, classes, images, digest):
    per_class = [
        {
            "index": index,
            "name": name,
            **{key: _or_none(scores[key][index]) for key in ("iu", "accuracy", "share")},
        }
        for index, name in enumerate(classes.names)
    ]
    content = {
        **{name: _or_none(scores[name]) for name in MEASURES},
        "per_class": per_class,
        "images": images,
        "weights_sha256": digest,
    }
    return json.dumps(content, indent=2, allow_nan=False)


def _or_none(value):
    """JSON has no NaN: a class that is not there has no figure."""
    return None if math.isnan(value) else float(value)


def _text(scores, classes, images, path, digest):
    width = max(len("frequency weighted IU"), *map(len, classes.names))
    lines = [f"{images} photos, {path} (SHA-256 {digest})", ""]
    for name in MEASURES:
        label = name.replace("_iu", "_IU").replace("_", " ")
        lines.append(f"{label:{width}}  {_figure(scores[name])}")
    lines += ["", f"{'class':{width}}  {'IU':>8}  {'accuracy':>8}  {'share':>8}"]
    for index, name in enumerate(classes.names):
        figures = (_figure(scores[key][index]) for key in ("iu", "accuracy", "share"))
        lines.append(f"{name:{width}}  {'  '.join(figures)}")
    return "\n".join(lines)


def _figure(value):
    return f"{'n/a' if math.isnan(value) else f'{100 * value:.2f} %':>8}"


if __name__ == "__main__":
    sys.exit(main())
