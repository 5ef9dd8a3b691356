"""Segment photos: `python -m tinyfcn.segment PHOTO...`

Per photo it writes `PHOTO_labels.png`, `PHOTO_overlay.png` and `PHOTO.json`, or with --compare
`PHOTO_compare.png`, and one line on stdout. Exit codes: 0 fine, 1 some inputs failed and the others
are done, 2 usage, 3 weights, 130 interrupted.
"""

# What takes long to import is imported by the functions that need it, so that --help answers at
# once and an interrupt at any time is answered by one line.
import json
import logging
import os
import sys
import time
import warnings

from . import comparison, console, photos, segmenters

PROGRAM = "tinyfcn-segment"
SUFFIXES = ("_labels.png", "_overlay.png", ".json")

_log = logging.getLogger(__name__)


def main(argv=None):
    """Run the command with these arguments (sys.argv's by default) and return its exit code."""
    return console.run(PROGRAM, _parse, _run, argv)


def _run(options):
    with warnings.catch_warnings():
        # Decoders warn of oddities in metadata, of no use to who wants a segmentation.
        warnings.filterwarnings("ignore", module="PIL")
        return _segment_all(options)


def _segment_all(options):
    device = console.use_device(options)
    if options.compare:
        return comparison.run(PROGRAM, options, device)
    jobs, failures = photos.find(options.photos, options.output, SUFFIXES)
    if jobs:
        weights = _find_weights(options)
        photos.make_output_folder(options.output)
    for line in failures:
        console.say(f"{PROGRAM}: {line}")
    if not jobs:
        return console.FAILED

    start = time.perf_counter()
    net = _load_net(options, weights)
    if device != "cpu":
        net.to(device)
    seconds = time.perf_counter() - start
    about = _describe(net, weights)
    _log.debug("model %s, weights %s", about["model"], weights or "random")
    failed = bool(failures)

    def segment(job):
        return _segment_photo(net, job, options, about, seconds)

    for job in jobs:
        failed |= not photos.do(PROGRAM, job, segment, options.quiet)
    return console.FAILED if failed else console.DONE


def _find_weights(options):
    """The weight file to use; None for random weights."""
    if options.random_weights:
        return None
    return console.find_weights(options, ", or try the net untrained with --random-weights")


def _load_net(options, weights):
    from tinyfcn import models

    if weights is not None:
        return segmenters.load(weights, options)
    try:
        return models.prepare(models.BY_NAME[options.model or "fcn8s"](
            classes=options.classes or 21, init="scratch"))
    except MemoryError:
        raise console.CommandError("not enough memory for the net", console.WEIGHTS) from None


def _describe(net, weights):
    """What the summary says of the net and the program."""
    import numba
    import numpy as np

    import tinyfcn
    from tinyfcn.weights import sha256

    return {"model": net.name,
            "weights": None if weights is None else {"path": weights, "sha256": sha256(weights)},
            "versions": {"tinyfcn": tinyfcn.__version__, "numpy": np.__version__,
                         "numba": numba.__version__}}


def _segment_photo(net, job, options, about, load_seconds):
    """Decode, segment, draw, write. Returns the line for stdout."""
    from tinyfcn import drawing, inference
    from tinyfcn.data.images import printable, read_photo
    from tinyfcn.data.outputs import staged_files

    clock = [time.perf_counter()]
    photo = read_photo(job.photo)
    clock.append(time.perf_counter())
    segmentation = inference.segment(net, photo, **segmenters.view_options(options))
    clock.append(time.perf_counter())
    statistics = inference.class_statistics(segmentation, net.class_names)

    stem = os.path.join(options.output, job.stem)
    labels, overlay, summary = (stem + suffix for suffix in SUFFIXES)
    os.makedirs(os.path.dirname(stem) or os.curdir, exist_ok=True)
    with staged_files() as stage:
        stage(labels, drawing.labels_png(segmentation.labels, net.colours))
        stage(overlay, drawing.png(drawing.overlay(
            photo, segmentation.labels, statistics, net.colours,
            0.5 if options.alpha is None else options.alpha)))
        clock.append(time.perf_counter())
        decode, forward, write = (b - a for a, b in zip(clock, clock[1:]))
        h, w = segmentation.labels.shape
        # Staged last, so that where the summary is, the pictures are too.
        stage(summary, _json({
            "image": {"path": job.photo, "width": w, "height": h},
            **about,
            "views": {"flip": options.flip, "scales": list(options.scales)},
            "classes": statistics,
            "totals": {"classes": len(statistics),
                       "pixels": h * w,
                       "mean_confidence": float(segmentation.confidence.mean(dtype=float))},
            "seconds": {"load": round(load_seconds, 4), "decode": round(decode, 4),
                        "forward": round(forward, 4), "write": round(write, 4)},
        }))
    top = ", ".join(f"{each['name']} {drawing.percent(each['share'])}" for each in statistics[:3])
    return (f"{printable(job.photo)}: {w}x{h}, {top}, "
            f"{time.perf_counter() - clock[0]:.2f} s")


def _json(content):
    # ASCII escapes also carry file names that are no text.
    return (json.dumps(content, indent=2, ensure_ascii=True, allow_nan=False) + "\n").encode()


def _parse(argv):
    from tinyfcn import __version__

    parser = console.OneLineParser(
        prog=PROGRAM, allow_abbrev=False,
        description="Segment photos. For each PHOTO it writes PHOTO_labels.png (indexed PNG, the "
                    "value of a pixel is its class; looks coloured only in viewers that know "
                    "palettes), PHOTO_overlay.png and PHOTO.json, and one line on stdout.",
        epilog="Exit codes: 0 fine, 1 some inputs failed and the others are done, 2 usage, "
               "3 weights, 130 interrupted.")
    parser.add_argument("photos", nargs="+", metavar="PHOTO",
                        help="image files, or folders: their images and the folders below them")
    parser.add_argument("-o", "--output", default=os.curdir, metavar="DIR",
                        help="output folder, made if it is missing (default: the current one)")
    parser.add_argument("--model", choices=console.MODELS,
                        help="the net (default: what the weight file holds; fcn8s without one)")
    parser.add_argument("--weights", metavar="FILE",
                        help="weight file of Caffe, Keras, PyTorch, safetensors, NumPy, MatConvNet "
                             "or tinyfcn (default: the one that comes with tinyfcn)")
    parser.add_argument("--compare", action="store_true",
                        help="write PHOTO_compare.png instead: the photo, what FCN-32s, FCN-16s "
                             "and FCN-8s see in it, and the truth, side by side; --weights takes "
                             "several files then, W32,W16,W8")
    parser.add_argument("--truth", metavar="LABELS",
                        help="with --compare: the label map of the photo, or a folder with a "
                             "NAME.png for each photo NAME.jpg")
    console.add_loading_options(parser)
    parser.add_argument("--random-weights", action="store_true",
                        help="run an untrained net of full width: all its weights are random")
    parser.add_argument("--classes", type=console.number(int, 1, 256), metavar="N",
                        help="number of classes with --random-weights, 1..256 (default: 21)")
    parser.add_argument("--alpha", type=console.number(float, 0, 1), metavar="A",
                        help="weight of the class colours over the photo, 0..1 (default: 0.5; "
                             "1 with --compare)")
    segmenters.add_view_options(parser)
    console.add_device_options(parser)
    talk = parser.add_mutually_exclusive_group()
    talk.add_argument("-q", "--quiet", action="store_true",
                      help="say nothing but warnings and errors")
    talk.add_argument("-v", "--verbose", action="store_true", help="say more on stderr")
    parser.add_argument("--version", action="version", version=f"tinyfcn {__version__}")

    options = parser.parse_args(argv)
    console.check_layout(parser, options)
    if options.random_weights and options.weights is not None:
        parser.error("--weights and --random-weights exclude each other")
    if options.classes is not None and not options.random_weights:
        parser.error("--classes needs --random-weights: a weight file says its classes itself")
    if options.compare and (options.random_weights or options.model is not None):
        parser.error("--compare excludes --model and --random-weights: weight files say their nets")
    if options.truth is not None and not options.compare:
        parser.error("--truth needs --compare")
    return options


if __name__ == "__main__":
    sys.exit(main())
