"""Look at weight files, compare, convert and fetch them: `python -m tinyfcn.weights ...`

Exit codes: 0 fine, 1 the files differ (compare) or a file could not be fetched, 2 usage, 3 weights
(a file is damaged, hostile or not what it should be), 130 interrupted.
"""
# What takes long to import is imported by the functions that need it, so that --help answers at
# once and an interrupt at any time is answered by one line.
import contextlib
import json
import logging
import os
import sys

from . import console

PROGRAM = "tinyfcn-weights"
# How many tensors a warning lists; the count is always told.
LISTED = 5
FORMATS = (".h5", ".safetensors")
AS_STORED = "none"

logger = logging.getLogger(__name__)


def main(argv=None):
    """Run the command with these arguments (sys.argv's by default) and return its exit code."""
    return console.run(PROGRAM, _parse, _run, argv)


def _parse(argv):
    parser = console.OneLineParser(
        prog=PROGRAM,
        allow_abbrev=False,
        description="Look at weight files of Caffe, Keras, PyTorch, safetensors, NumPy, MatConvNet "
        "and tinyfcn; compare, convert and fetch them.",
        epilog="Exit codes: 0 fine, 1 the files differ (compare) or a file could not be fetched "
        "(fetch), 2 usage, 3 a file is damaged, hostile or not what it should be, 130 interrupted.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name, help):
        command = commands.add_parser(name, help=help, description=help, allow_abbrev=False)
        command.set_defaults(body=globals()[f"_{name}"])
        return command

    command = add("inspect", "say what a file holds: format, layout, every tensor, SHA-256")
    command.add_argument("file", metavar="FILE")
    command.add_argument("--json", action="store_true", help="print one JSON object")

    command = add("compare", "compare the tensors of two files, across formats and layouts; "
                             "exit code 1 if they differ")
    command.add_argument("files", nargs=2, metavar="FILE")
    command.add_argument("--json", action="store_true", help="print one JSON object")

    command = add("convert", "write the tensors of a file in tinyfcn's names and order")
    command.add_argument("file", metavar="FILE")
    command.add_argument("out", metavar="OUT", help="a name that ends in .h5 or .safetensors")
    command.add_argument(
        "--layout", metavar="NAME", help="where FILE comes from, if that is not recognised "
        f"rightly (inspect shows it); {AS_STORED} keeps names and order")
    command.add_argument("--dtype", choices=("float16", "float32", "float64"),
                         help="store floating-point numbers so (default: as they are)")

    command = add("list", "list the files that fetch knows, and whether they are in the cache")
    command.add_argument("--json", action="store_true", help="print one JSON object")

    command = add("fetch", "bring a known file into the cache and print its path")
    command.add_argument("name", metavar="NAME", help="as list shows it")
    return parser.parse_args(argv)


def _run(options):
    from tinyfcn.weights.errors import WeightsError

    try:
        return options.body(options)
    except WeightsError as error:
        raise console.CommandError(error, console.WEIGHTS) from None


def _done(text):
    return console.DONE if console.print_result(PROGRAM, text) else console.FAILED


# inspect


def _inspect(options):
    from tinyfcn import weights
    from tinyfcn.weights import layouts
    from tinyfcn.weights.inspection import statistics

    path = options.file
    tensors = weights.read(path)
    layout = layouts.recognise(tensors)
    found = {name: statistics(array) for name, array in tensors.items()}
    own = layout and layouts.to_own(tensors, layout)
    net, problem = _net(path, own) if own else (None, None)
    about = {
        "file": path, "format": tensors.format, "notes": tensors.notes + [problem] * bool(problem),
        "layout": layout and {"name": layout.name, "about": layout.about},
        "net": net, "preprocessing": own and _preprocessing(path, own),
        "description": weights.describe(path), "sha256": weights.sha256(path),
    }
    about["tensors"] = [
        {"name": name, "shape": list(tensors[name].shape), "dtype": str(tensors[name].dtype),
         "min": numbers.low, "max": numbers.high, "nan": numbers.nan,
         "infinite": numbers.infinite} for name, numbers in found.items()]
    _warn_of_nan(path, found)
    return _done(json.dumps(about) if options.json else _inspection(about))


def _net(path, tensors):
    """({the model and its arguments} that tensors in tinyfcn's layout are for or None, why not)."""
    from tinyfcn.origins import identify
    from tinyfcn.weights.errors import WeightsError

    try:
        model, arguments = identify(path, tensors)
    except WeightsError as error:
        return None, error.reason
    return {"model": model, "arguments": arguments}, None


def _preprocessing(path, tensors):
    """What the net of tensors in tinyfcn's layout sees, or None if that is not known."""
    from tinyfcn import weights
    from tinyfcn.descriptions import check_settings
    from tinyfcn.weights.errors import WeightsError

    if tensors.layout.preprocessing is not None:
        return tensors.layout.preprocessing
    channels = tensors.shapes[_first(tensors)][2]
    try:
        return check_settings(path, weights.describe(path), None, channels).get("preprocessing")
    except WeightsError:
        return None


def _first(tensors):
    """The name of the weights of the first convolution."""
    return next(name for name in ("conv1_1/weights", "conv1/weights") if name in tensors)


def _inspection(about):
    from tinyfcn.descriptions import in_words

    layout, tensors = about["layout"], about["tensors"]
    size = sum(_bytes(tensor) for tensor in tensors)
    lines = [
        console_line(about["file"]),
        f"  format  {about['format']}",
        "  layout  " + (f"{layout['name']}: {layout['about']}" if layout else "not known here"),
    ]
    if about["net"]:
        arguments = ", ".join(f"{k} {v}" for k, v in about["net"]["arguments"].items())
        lines.append(f"  net     {about['net']['model']} ({arguments})")
    if about["preprocessing"]:
        lines.append(f"  input   {in_words(about['preprocessing'])}")
    lines += [f"  note    {console_line(note)}" for note in about["notes"]]
    lines.append(f"  sha256  {about['sha256']}")
    rows = [("tensor", "shape", "type", "min", "max", "NaN", "Inf")]
    for tensor in tensors:
        rows.append((console_line(tensor["name"]), "x".join(map(str, tensor["shape"])) or "-",
                     tensor["dtype"], _number(tensor["min"]), _number(tensor["max"]),
                     str(tensor["nan"]), str(tensor["infinite"])))
    lines += ["", *_table(rows, "<<<>>>>"), "",
              f"{len(tensors)} tensors, {size} bytes of numbers"]
    return "\n".join(lines)


def _bytes(tensor):
    import math

    import numpy as np

    return math.prod(tensor["shape"]) * np.dtype(tensor["dtype"]).itemsize


def _number(value):
    return "-" if value is None else f"{value:.6g}"


def _table(rows, sides):
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths))
            .rstrip() for row in rows]


def console_line(text):
    """A text out of a file or of the user as one printable line."""
    from tinyfcn.weights.errors import one_line

    return one_line(os.fsdecode(text))


def _warn_of_nan(path, found):
    names = [name for name, numbers in found.items() if numbers.nan or numbers.infinite]
    if names:
        shown = ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
        logger.warning("%s", console_line(f"{path}: NaN or infinite values in {len(names)} of "
                                          f"{len(found)} tensors: {shown}"))


# compare


def _compare(options):
    from tinyfcn import weights
    from tinyfcn.weights import inspection, layouts

    files = [weights.read(path) for path in options.files]
    found = [layouts.recognise(tensors) for tensors in files]
    mapped, orders, flipped = all(found), [None, None], None
    if mapped:
        files = [layouts.to_own(tensors, layout) for tensors, layout in zip(files, found)]
        orders = [(_preprocessing(path, tensors) or {}).get("channel_order")
                  for path, tensors in zip(options.files, files)]
        if set(orders) == {"RGB", "BGR"}:
            flipped = _first(files[0])
    result = inspection.compare(*files, flipped)
    about = {
        "files": options.files, "layouts": [layout and layout.name for layout in found],
        "names": "tinyfcn's" if mapped else "as stored", "channel_order": orders,
        "flipped": flipped, "same": result.same,
        "only": [result.only_first, result.only_second], "misshaped": [
            {"name": name, "shapes": [list(a), list(b)]} for name, a, b in result.misshaped],
        "differences": {name: value if value < float("inf") else "infinite"
                        for name, value in result.differences.items()},
    }
    printed = console.print_result(
        PROGRAM, json.dumps(about) if options.json else _comparison(about, result))
    return console.DONE if printed and result.same else console.FAILED


def _comparison(about, result):
    lines = []
    for letter, file, layout in zip("AB", about["files"], about["layouts"]):
        lines.append(f"{letter}: {console_line(file)} (layout {layout or 'not known here'})")
    if about["names"] == "as stored":
        lines.append("names are compared as they are stored")
    if about["flipped"]:
        lines.append(f"A sees {about['channel_order'][0]}, B {about['channel_order'][1]}: the "
                     f"input channels of {about['flipped']} are compared the other way round")
    for letter, names in zip("AB", about["only"]):
        lines += [f"only in {letter}: {console_line(name)}" for name in names]
    lines += [f"other shapes: {console_line(name)} {a} {b}" for name, a, b in result.misshaped]
    apart = {name: value for name, value in result.differences.items() if value}
    if apart:
        rows = [("tensor", "largest difference"),
                *((console_line(name), f"{value:.6g}") for name, value in apart.items())]
        lines += _table(rows, "<>")
    common = len(result.differences) + len(result.misshaped)
    equal = len(result.differences) - len(apart)
    largest = f"; the largest difference is {max(apart.values()):.6g}, in " \
        f"{console_line(max(apart, key=apart.get))}" if apart else ""
    lines.append(("the same: " if result.same else "not the same: ")
                 + f"{equal} of {common} common tensors are equal{largest}")
    return "\n".join(lines)


# convert


def _convert(options):
    from tinyfcn import weights
    from tinyfcn.weights import layouts
    from tinyfcn.weights.errors import weights_error
    from tinyfcn.weights.inspection import statistics

    path, name = options.file, options.layout
    if not options.out.endswith(FORMATS):
        raise console.CommandError(f"{console_line(options.out)}: a name that ends in "
                                   f"{' or '.join(FORMATS)} is needed", console.USAGE)
    if name not in (None, AS_STORED, *layouts.LAYOUTS):
        raise console.CommandError(
            f"no layout {name!r}; there are {', '.join(layouts.LAYOUTS)} and {AS_STORED}",
            console.USAGE)
    tensors = weights.read(path)
    layout = None
    if name != AS_STORED:
        layout = layouts.recognise(tensors) if name is None else layouts.LAYOUTS[name]
        if layout is None:
            logger.warning("%s", console_line(f"{path}: its layout is not known here; names and "
                                              "order stay as they are"))
    # What is written follows from the file: the description of one of this project's goes along.
    about = {key: value for key, value in weights.describe(path).items() if key != "format"}
    about["converted"] = {"from": tensors.format, "layout": layout and layout.name,
                          "sha256": weights.sha256(path)}
    _warn_of_nan(path, {key: statistics(array) for key, array in tensors.items()})
    if layout is not None:
        try:
            tensors = layouts.to_own(tensors, layout)
        except ValueError as error:
            raise weights_error(path, str(error)) from None
        if layout.preprocessing is not None:
            about |= _describe(path, tensors)
    weights.write(options.out, tensors, about, options.dtype)
    return _done(f"{console_line(options.out)}: {len(tensors)} tensors"
                 + (f", from {layout.name} to tinyfcn's names and order"
                    if layout and layout.name != "tinyfcn" else ""))


def _describe(path, tensors):
    """What the tables know of a file: what it takes to build the net again and feed it."""
    layout = tensors.layout
    about = {"preprocessing": dict(layout.preprocessing)}
    net, _ = _net(path, tensors)
    if net is not None:
        about |= net
        classes = net["arguments"].get("classes")
        if layout.class_names is not None and len(layout.class_names) == classes:
            about["class_names"] = list(layout.class_names)
    return about


# list and fetch


def _list(options):
    from tinyfcn.weights import catalogue

    folder = catalogue.cache_folder()
    entries = []
    for known in catalogue.FILES.values():
        path = os.path.join(folder, known.file)
        state = "yes" if os.path.exists(path) else "in part" if os.path.exists(path + ".part") \
            else "no"
        entries.append({"name": known.name, "about": known.about, "url": known.url,
                        "file": known.file, "size": known.size, "hash": known.hash,
                        "licence": known.licence, "manual": known.manual, "cached": state})
    if options.json:
        return _done(json.dumps({"cache": folder, "files": entries}))
    lines = [f"cache: {console_line(folder)}"]
    for entry in entries:
        size = f"{entry['size']} bytes" if entry["size"] else "size not stated"
        lines += ["", f"{entry['name']}: {entry['about']}",
                  f"  from     {entry['url']}" + (" (by hand)" if entry["manual"] else ""),
                  f"  file     {entry['file']}, {size}, {entry['hash'] or 'no published hash'}",
                  f"  licence  {entry['licence']}",
                  f"  cached   {entry['cached']}"]
    return _done("\n".join(lines))


def _fetch(options):
    from tinyfcn.weights import catalogue

    known = catalogue.FILES.get(options.name)
    if known is None:
        raise console.CommandError(
            f"no file {options.name!r} is known; {PROGRAM} list shows those that are",
            console.USAGE)
    path = _find_manual(known) if known.manual else _fetch_known(known)
    return _done(console_line(path))


def _fetch_known(known):
    from tinyfcn.weights.fetching import FetchError, fetch

    with contextlib.ExitStack() as stack:
        show = None

        def report(done, total):
            nonlocal show
            if show is None:
                megabytes = "?" if total is None else max(1, total >> 20)
                show = stack.enter_context(console.progress(megabytes, f"MB of {known.file}"))
            show(done >> 20)

        try:
            return fetch(known, report=report)
        except FetchError as error:
            raise console.CommandError(error, console.FAILED) from None


def _find_manual(known):
    """Find a file that the user has put into the cache, and check it as far as it can be."""
    from tinyfcn import weights
    from tinyfcn.weights import catalogue, layouts

    path = os.path.join(catalogue.cache_folder(), known.file)
    if not os.path.exists(path):
        why = "cannot be fetched by a program" if known.by_hand else "has no published hash"
        raise console.CommandError(
            f"{known.name} {why}: get {known.url} and put it where {console_line(path)} is "
            "expected; then this command checks it", console.FAILED)
    checked = catalogue.check(path, known)
    tensors = weights.read(path)
    layout = layouts.recognise(tensors)
    console.say(f"{PROGRAM}: {console_line(path)}: {tensors.format}, layout "
                f"{layout.name if layout else 'not known here'}; checked by "
                f"{checked or 'reading it alone: no hash is published'}")
    return path


if __name__ == "__main__":
    sys.exit(main())
