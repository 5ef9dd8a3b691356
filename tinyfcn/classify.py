"""Classify photos: `python -m tinyfcn.classify PHOTO... --weights FILE`

Prints the most probable classes of each photo on stdout, or all as JSON. With --heatmap it also
writes `PHOTO_heatmap.png`, where in the photo a class is seen. Exit codes: 0 fine, 1 some inputs
failed and the others are done, 2 usage, 3 weights, 130 interrupted.
"""

# What takes long to import is imported by the functions that need it, so that --help answers at
# once and an interrupt at any time is answered by one line.
import json
import logging
import os
import re
import sys
import time
import warnings

from . import console, photos

PROGRAM = "tinyfcn-classify"
MODELS = (
    "lenet", "alexnet", "caffenet", "alexnet-single-tower", "vgg11", "vgg13", "vgg16", "vgg19",
)
SUFFIX = "_heatmap.png"

_log = logging.getLogger(__name__)


def main(argv=None):
    """Run the command with these arguments (sys.argv's by default) and return its exit code."""
    return console.run(PROGRAM, _parse, _run, argv)


def read_labels(path):
    """Read the names of classes.

    Parameters
    ----------
    path : str or os.PathLike
        A text file with a name on each line, in the order of the classes, or JSON: a list of
        names, or Keras's object of {"0": ["n01440764", "tench"], ...}.

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        It is neither.
    OSError
    """
    with open(path, encoding="utf-8-sig") as file:
        text = file.read(1 << 24)
    if not text.lstrip().startswith(("[", "{")):
        return [line.strip() for line in text.rstrip().splitlines()]
    content = json.loads(text)
    if isinstance(content, dict):
        content = [content[str(index)] for index in range(len(content))]
    names = [name[-1] if isinstance(name, list) and name else name for name in content]
    if not all(isinstance(name, str) for name in names):
        raise ValueError("its names are not texts")
    return names


def find_class(text, names, classes):
    """The index of the class that a user means by a number, a name or a part of one name.

    Raises ValueError if that is none or several of them.
    """
    names = names or []
    wanted = text.strip().lower()
    if wanted.isdecimal() and wanted not in (name.lower() for name in names):
        if int(wanted) >= classes:
            raise ValueError(f"there is no class {wanted}: the net has {classes}, from 0 on")
        return int(wanted)
    if not names:
        raise ValueError(f"there is no class {text!r}: the net's classes have no names (give them "
                         "with --labels, or a class's number)")
    # The names of ImageNet are several, "tabby, tabby cat", and may follow a number.
    for fits in (
        lambda name: name == wanted,
        lambda name: wanted in re.split(r"\s*,\s*", re.sub(r"^n?\d+:?\s+", "", name)),
        lambda name: wanted in name,
    ):
        found = [index for index, name in enumerate(names) if fits(name.lower())]
        if len(found) == 1:
            return found[0]
        if found:
            some = ", ".join(names[index] for index in found[:4]) + (", ..." if found[4:] else "")
            raise ValueError(f"{text!r} is in the names of {len(found)} classes: {some}")
    raise ValueError(f"there is no class {text!r}")


def _run(options):
    with warnings.catch_warnings():
        # Decoders warn of oddities in metadata, of no use to who wants a class.
        warnings.filterwarnings("ignore", module="PIL")
        return _classify_all(options)


def _classify_all(options):
    device = console.use_device(options)
    suffixes = () if options.heatmap is None else (SUFFIX,)
    jobs, failures = photos.find(options.photos, options.output or os.curdir, suffixes)
    if jobs:
        weights = console.find_weights(options, default="vgg16")
        if options.heatmap is not None:
            photos.make_output_folder(options.output)
    for line in failures:
        console.say(f"{PROGRAM}: {line}")
    if not jobs:
        return console.FAILED

    classifier, about, names = _load(options, weights)
    if device != "cpu":
        classifier.net.to(device)
    index = None
    if options.heatmap is not None:
        try:
            index = find_class(options.heatmap, names, about["classes"])
        except ValueError as error:
            raise console.CommandError(f"--heatmap: {error}", console.USAGE) from None
    failed, results = bool(failures), []

    def classify(job):
        result = _classify_photo(classifier, job, options, names, index)
        results.append(result)
        return None if options.json else _text(result)

    for job in jobs:
        failed |= not photos.do(PROGRAM, job, classify, options.quiet)
    if options.json:
        text = json.dumps({**about, "images": results}, indent=2, allow_nan=False)
        failed |= not console.print_result(PROGRAM, text)
    return console.FAILED if failed else console.DONE


def _load(options, path):
    """The classifier, what is said of it, and the names of its classes."""
    from tinyfcn import loading
    from tinyfcn.classification import Classifier
    from tinyfcn.data.images import printable
    from tinyfcn.weights import WeightsError, sha256

    try:
        net = loading.load_model(path, **console.loading_options(options))
        if net.name not in MODELS:
            raise console.CommandError(
                f"{printable(path)}: holds {net.name}, which does not classify photos",
                console.WEIGHTS)
        about = {"model": net.name, "classes": net.arguments["classes"],
                 "weights": {"path": path, "sha256": sha256(path)}}
        names = net.class_names
        if options.labels is not None:
            names = _check_labels(options.labels, about["classes"])
        return Classifier(net), about, names
    except WeightsError as error:
        raise console.CommandError(str(error), console.WEIGHTS) from None
    except ValueError as error:
        raise console.CommandError(f"{printable(path)}: {error}", console.WEIGHTS) from None
    except OSError as error:
        message = f"{printable(path)}: {error.strerror or error}"
        raise console.CommandError(message, console.WEIGHTS) from None
    except MemoryError:
        raise console.CommandError("not enough memory for the net", console.WEIGHTS) from None


def _check_labels(path, classes):
    from tinyfcn.data.images import printable

    try:
        names = read_labels(path)
    except OSError as error:
        reason = error.strerror or str(error)
    except (ValueError, KeyError, RecursionError):
        reason = "is no list of names: neither a line for each class nor JSON"
    else:
        if len(names) == classes:
            return names
        reason = f"has {len(names)} names; the net has {classes} classes"
    raise console.CommandError(f"{printable(path)}: {reason}", console.USAGE)


def _classify_photo(classifier, job, options, names, index):
    """Classify one photo and write its heat map. Returns what there is to say of it."""
    from tinyfcn.data.images import read_photo
    from tinyfcn.inference import class_name

    start = time.perf_counter()
    photo = read_photo(job.photo)
    probabilities = classifier.classify(photo)
    best = probabilities.argsort(kind="stable")[::-1][:options.top]
    result = {
        "path": job.photo, "width": photo.shape[1], "height": photo.shape[0],
        "top": [{"index": int(each), "name": class_name(each, names),
                 "probability": float(probabilities[each])} for each in best]}
    if index is not None:
        result["heatmap"] = _write_heat_map(
            classifier, photo, index, class_name(index, names), job, options)
    result["seconds"] = round(time.perf_counter() - start, 4)
    return result


def _write_heat_map(classifier, photo, index, name, job, options):
    from tinyfcn import drawing
    from tinyfcn.data.outputs import staged_files

    path = os.path.join(options.output, job.stem) + SUFFIX
    heat = classifier.heat_map(photo, index)
    os.makedirs(os.path.dirname(path) or os.curdir, exist_ok=True)
    with staged_files() as stage:
        stage(path, drawing.png(drawing.heat_overlay(photo, heat, name, options.alpha)))
    return {"path": path, "index": int(index), "name": name, "largest": float(heat.max())}


def _text(result):
    from tinyfcn.data.images import printable
    from tinyfcn.drawing import percent

    lines = [f"{printable(result['path'])}: {result['width']}x{result['height']}, "
             f"{result['seconds']:.2f} s"]
    lines += [f"{percent(each['probability']):>9}  {printable(each['name'])}"
              for each in result["top"]]
    if "heatmap" in result:
        heat = result["heatmap"]
        lines.append(f"  {printable(heat['name'])}: at most {percent(heat['largest'])} "
                     f"in {printable(heat['path'])}")
    return "\n".join(lines)


def _parse(argv):
    from tinyfcn import __version__

    parser = console.OneLineParser(
        prog=PROGRAM, allow_abbrev=False,
        description="Classify photos: print the most probable classes of each on stdout. With "
                    "--heatmap, write PHOTO_heatmap.png: how probable one class is around every "
                    "pixel of a photo of any size.",
        epilog="Exit codes: 0 fine, 1 some inputs failed and the others are done, 2 usage, "
               "3 weights, 130 interrupted.")
    parser.add_argument("photos", nargs="+", metavar="PHOTO",
                        help="image files, or folders: their images and the folders below them")
    parser.add_argument("--model", choices=MODELS,
                        help="the net (default: what the weight file holds)")
    parser.add_argument("--weights", metavar="FILE",
                        help="weight file of Caffe, Keras, PyTorch, safetensors, NumPy, MatConvNet "
                             "or tinyfcn")
    console.add_loading_options(parser)
    parser.add_argument("--top", type=console.number(int, 1), default=5, metavar="N",
                        help="how many classes to tell (default: 5)")
    parser.add_argument("--labels", metavar="FILE",
                        help="names of the classes: a line for each, or JSON")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--heatmap", metavar="CLASS",
                        help="write a map of this class, by its name, a part of it, or its number")
    parser.add_argument("-o", "--output", metavar="DIR",
                        help="folder of the heat maps, made if it is missing (default: the "
                             "current one)")
    parser.add_argument("--alpha", type=console.number(float, 0, 1), default=0.6, metavar="A",
                        help="weight of the colours in the heat map, 0..1 (default: 0.6)")
    console.add_device_options(parser)
    talk = parser.add_mutually_exclusive_group()
    talk.add_argument("-q", "--quiet", action="store_true",
                      help="say nothing but results, warnings and errors")
    talk.add_argument("-v", "--verbose", action="store_true", help="say more on stderr")
    parser.add_argument("--version", action="version", version=f"tinyfcn {__version__}")

    options = parser.parse_args(argv)
    console.check_layout(parser, options)
    if options.output is not None and options.heatmap is None:
        parser.error("-o needs --heatmap: nothing else is written")
    if options.heatmap is not None and options.output is None:
        options.output = os.curdir
    return options


if __name__ == "__main__":
    sys.exit(main())
