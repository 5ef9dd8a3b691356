"""Score a net on photos with label maps: `python -m tinyfcn.evaluate --data DIR`

It prints the four measures of the paper and a table of the classes; with -o it writes them and the
confusion matrix into files, with the worst photos. Exit codes: 0 fine, 1 some photos could not be
read and the figures are of the others, 2 usage, 3 weights, 130 interrupted.
"""

# What takes long to import is imported by the functions that need it, so that --help answers at
# once and an interrupt at any time is answered by one line.
import math
import os
import sys
import warnings

from . import console, photos, segmenters

PROGRAM = "tinyfcn-evaluate"
JSON, MARKDOWN, TABLE, MATRIX, WORST = FILES = (
    "scores.json", "scores.md", "confusion.csv", "confusion.png", "worst.png")
WORST_SIDE = 480                    # pixels of a picture in the panel of the worst photos


def main(argv=None):
    """Run the command with these arguments (sys.argv's by default) and return its exit code."""
    return console.run(PROGRAM, _parse, _run, argv)


def _parse(argv):
    parser = console.OneLineParser(
        prog=PROGRAM,
        allow_abbrev=False,
        description="Score a net on a data set, laid out as train takes it, or on a folder of "
        "photos and one of label maps: pixel accuracy, mean accuracy, mean IU and frequency "
        "weighted IU, and IU and accuracy of each class.",
        epilog="Exit codes: 0 fine, 1 some photos could not be read and the figures are of the "
        "others, 2 usage, 3 weights, 130 interrupted.",
    )
    parser.add_argument("--data", metavar="DIR", help="the data set")
    parser.add_argument("--split", metavar="NAME", help="which of its photos (default: val)")
    parser.add_argument("--images", metavar="DIR", help="or a folder of photos")
    parser.add_argument("--labels", metavar="DIR",
                        help="and one of label maps, NAME.png for the photo NAME.jpg")
    parser.add_argument("--classes", metavar="FILE",
                        help="with --images: what the labels mean, a file like classes.json "
                             "(default: what the weight file says)")
    parser.add_argument(
        "--weights", metavar="FILE", help="weight file (default: the one that comes with tinyfcn)"
    )
    console.add_loading_options(parser)
    parser.add_argument(
        "--model",
        choices=console.MODELS,
        help="the net (default: what the weight file holds; fcn8s without one)",
    )
    segmenters.add_view_options(parser)
    console.add_device_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("-o", "--output", metavar="DIR",
                        help=f"write {', '.join(FILES[:-1])} and {FILES[-1]} into this folder, "
                             "made if it is missing")
    parser.add_argument("--worst", type=console.number(int, 0, 100), metavar="N",
                        help=f"write {WORST}, photo, prediction and truth of the N photos with "
                             "the lowest mean IU, into the output folder or the current one "
                             "(default: 6 with -o, else 0)")
    options = parser.parse_args(argv)
    console.check_layout(parser, options)
    if options.data is not None:
        for name in ("images", "labels", "classes"):
            if getattr(options, name) is not None:
                parser.error(f"--data and --{name} exclude each other")
    elif options.images is None or options.labels is None:
        parser.error("--data DIR, or --images DIR and --labels DIR, are required")
    elif options.split is not None:
        parser.error("--split needs --data")
    if options.worst is None:
        options.worst = 6 if options.output is not None else 0
    return options


def _run(options):
    with warnings.catch_warnings():
        # Decoders warn of oddities in metadata, of no use to who wants figures.
        warnings.filterwarnings("ignore", module="PIL")
        return _evaluate(options)


def _evaluate(options):
    from . import metrics, reports
    from .weights import sha256

    device = console.use_device(options)
    pairs, classes = _find_data(options)
    path = console.find_weights(options)
    folder = os.curdir if options.output is None else options.output
    files = _files(options)
    if files:
        _check_files(folder, files, pairs)
    net = segmenters.load(path, options)
    if classes is None:
        classes = segmenters.classes_of(net)
        pairs = [pair._replace(classes=classes) for pair in pairs]
    else:
        _check_classes(net, classes, path, options)
    digest = sha256(path)
    if device != "cpu":
        net.to(device)

    matrix, worst, failures = _score(net, pairs, classes, path, options)
    for error in failures:
        console.say(f"{PROGRAM}: {error}")
    images = len(pairs) - len(failures)
    if failures:
        console.say(f"{PROGRAM}: {len(failures)} of {len(pairs)} photos failed")
    if not images:
        return console.FAILED
    report = reports.Report(
        metrics.scores(matrix), classes.names, images, _shown(path), digest,
        segmenters.describe_views(options), [(name, value) for value, name, _ in worst])
    written = _write(folder, files, report, matrix, [row for *_, row in worst], classes)
    text = reports.to_json(report) if options.json else reports.to_text(report)
    printed = console.print_result(PROGRAM, text)
    return console.DONE if printed and written and not failures else console.FAILED


def _score(net, pairs, classes, path, options):
    """The confusion matrix, the worst photos as (mean IU, name, row of the panel), the errors."""
    from . import evaluation, metrics

    worst, failures = [], []

    def rank(scored):
        value = metrics.scores(scored.matrix)["mean_iu"]
        # Where nothing is labelled the value is NaN, and nothing is wrong.
        if not math.isnan(value) and (len(worst) < options.worst or value < worst[-1][0]):
            worst.append((value, scored.pair.name, _panel_row(scored, value, classes)))
            worst.sort(key=lambda entry: entry[0])
            del worst[options.worst:]

    try:
        with console.progress(len(pairs), "photos") as show:
            matrix = evaluation.evaluate(
                net, pairs, classes.ignore_label, show, failures.append,
                rank if options.worst else None, **segmenters.view_options(options))
    except ValueError as error:  # the net's scores are not finite
        raise console.CommandError(f"{_shown(path)}: {error}", console.WEIGHTS) from None
    return matrix, worst, failures


def _find_data(options):
    """The pairs to score and their classes; None where the weight file is to name them."""
    from .data import layouts
    from .data.classes import read_classes_file
    from .data.errors import DataError
    from .data.folders import match_pairs

    try:
        if options.data is not None:
            data = layouts.find(options.data)
            return data.pairs(options.split or "val"), data.classes
        classes = None if options.classes is None else read_classes_file(options.classes)
        pairs = match_pairs(options.images, options.labels)
        return [pair._replace(classes=classes) for pair in pairs], classes
    except DataError as error:
        raise console.CommandError(error, console.USAGE) from None


def _check_classes(net, classes, path, options):
    source = options.classes if options.data is None else options.data
    count = net.arguments["classes"]
    if count != len(classes.names):
        raise console.CommandError(
            f"{_shown(path)}: is for {count} classes; {_shown(source)} has {len(classes.names)}",
            console.WEIGHTS)
    if net.class_names is not None and list(net.class_names) != list(classes.names):
        console.say(f"{PROGRAM}: warning: {_shown(path)}: its classes have other names than the "
                    "data set's")


def _files(options):
    """The names of the files to write."""
    if options.output is None:
        return (WORST,) if options.worst else ()
    return FILES if options.worst else FILES[:-1]


def _check_files(folder, files, pairs):
    """Refuse, before anything is done, to overwrite what is scored, or what can't be written."""
    inputs = {os.path.realpath(path) for pair in pairs for path in (pair.image, pair.labels)}
    for name in files:
        path = os.path.join(folder, name)
        if os.path.realpath(path) in inputs:
            raise console.CommandError(
                f"{_shown(path)} is one of the photos or label maps and would be overwritten: "
                "choose another output folder with -o", console.USAGE)
    photos.make_output_folder(folder)


def _panel_row(scored, value, classes):
    """The pictures of a photo in the panel, and what the legend needs to know of them."""
    from . import drawing, panels

    def fit(pixels):
        return panels.fit(pixels, WORST_SIDE)

    colours, void = classes.colours, classes.ignore_label
    row = [panels.Picture(fit(scored.photo), drawing.shortened(_shown(scored.pair.name))),
           panels.Picture(fit(panels.class_picture(scored.predicted, colours)),
                          f"mean IU {100 * value:.1f} %"),
           panels.Picture(fit(panels.class_picture(scored.truth, colours, void)), "truth")]
    return row, panels.present([scored.predicted], [scored.truth], void)


def _write(folder, files, report, matrix, worst, classes):
    """Write the files that were asked for, all or none; returns whether that worked."""
    from . import confusion, drawing, panels, reports
    from .data.outputs import staged_files

    def worst_panel():
        present = set().union(*(present for _, present in worst))
        entries = panels.legend_entries(present, classes.names, classes.colours)
        return drawing.png(panels.panel([row for row, _ in worst], entries))

    contents = {
        JSON: lambda: (reports.to_json(report) + "\n").encode(),
        MARKDOWN: lambda: reports.to_markdown(report).encode(),
        TABLE: lambda: confusion.to_csv(matrix, classes.names),
        MATRIX: lambda: drawing.png(confusion.picture(matrix, classes.names)),
        WORST: worst_panel,
    }
    try:
        with staged_files() as stage:
            for name in files:
                if name != WORST or worst:  # no photo has a labelled pixel
                    stage(os.path.join(folder, name), contents[name]())
    except OSError as error:
        console.say(f"{PROGRAM}: {_shown(error.filename or folder)}: {error.strerror or error}")
        return False
    return True


def _shown(path):
    from .data.images import printable

    return printable(path)


if __name__ == "__main__":
    sys.exit(main())
