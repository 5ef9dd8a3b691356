"""`python -m tinyfcn.segment PHOTO --compare`: what several nets see in a photo, side by side.

The paper's picture: photo | 32s | 16s | 8s | truth.
"""

# What takes long to import is imported by the functions that need it.
import os
import pathlib
import time
from typing import NamedTuple

from . import console, photos, segmenters

SUFFIX = "_compare.png"
STAGES = ("fcn32s", "fcn16s", "fcn8s")
TITLES = {"fcn32s": "FCN-32s", "fcn16s": "FCN-16s", "fcn8s": "FCN-8s",
          "fcn8s-atonce": "FCN-8s at once", "fcn_alexnet": "FCN-AlexNet"}
MOST_NETS = 8


class Compared(NamedTuple):
    """One of the nets: what it is called in the panel, and itself."""

    caption: str
    net: object


def run(program, options, device):
    """Write the panels of all photos and return the command's exit code."""
    jobs, failures = photos.find(options.photos, options.output, (SUFFIX,))
    if jobs:
        paths = _find_weights(options)
        _check_truth(options, jobs)
        photos.make_output_folder(options.output)
    for line in failures:
        console.say(f"{program}: {line}")
    if not jobs:
        return console.FAILED
    nets = _load(program, paths, options)
    if device != "cpu":
        for each in nets:
            each.net.to(device)
    failed = bool(failures)
    for job in jobs:
        failed |= not photos.do(
            program, job, lambda job: _compare(nets, job, options), options.quiet)
    return console.FAILED if failed else console.DONE


def _find_weights(options):
    """The weight files: those given, separated by commas, or those that come with tinyfcn."""
    from . import weights

    if options.weights is not None:
        # A file may have a comma in its name.
        single = os.path.exists(options.weights)
        paths = [options.weights] if single else options.weights.split(",")
        if "" in paths or len(paths) > MOST_NETS:
            raise console.CommandError(
                f"--weights {options.weights}: give 1 to {MOST_NETS} files separated by commas",
                console.USAGE)
        return paths
    paths = [weights.shipped(model) for model in STAGES]
    missing = [model for model, path in zip(STAGES, paths) if path is None]
    if missing:
        raise console.CommandError(
            f"no weights for {' and '.join(missing)} come with tinyfcn: give files with --weights "
            "W32,W16,W8", console.WEIGHTS)
    return paths


def _check_truth(options, jobs):
    """Refuse a truth that is not there, that is of one of several photos, or would be lost."""
    from .data.images import printable

    truth = options.truth
    if truth is None or os.path.isdir(truth):
        return
    if not os.path.exists(truth):
        raise console.CommandError(f"{printable(truth)}: No such file or directory", console.USAGE)
    if len(jobs) > 1:
        raise console.CommandError(
            f"--truth {printable(truth)}: is the label map of one photo; for {len(jobs)} photos "
            "give a folder of label maps", console.USAGE)
    target = os.path.join(options.output, jobs[0].stem + SUFFIX)
    if os.path.realpath(target) == os.path.realpath(truth):
        raise console.CommandError(
            f"{printable(truth)} would be overwritten by a result of {printable(jobs[0].photo)}: "
            "choose another output folder with -o", console.USAGE)


def _load(program, paths, options):
    """The nets of the files, which must have the same classes."""
    from .data.images import printable

    nets = [segmenters.load(path, options) for path in paths]
    first = nets[0]
    for path, net in zip(paths[1:], nets[1:]):
        count, expected = net.arguments["classes"], first.arguments["classes"]
        if count != expected:
            raise console.CommandError(
                f"{printable(path)}: is for {count} classes, {printable(paths[0])} for {expected}",
                console.WEIGHTS)
        if None not in (net.class_names, first.class_names) \
                and list(net.class_names) != list(first.class_names):
            console.say(f"{program}: warning: {printable(path)}: its classes have other names than "
                        f"those of {printable(paths[0])}")
    return [Compared(caption, net) for caption, net in zip(_captions(nets, paths), nets)]


def _captions(nets, paths):
    """The names of the nets, or of their files where two nets have one name."""
    from .data.images import printable
    from .drawing import shortened

    names = [TITLES[net.name] for net in nets]
    if len(set(names)) == len(names):
        return names
    for depth in range(1, 5):           # as many folders as it takes
        files = ["/".join(pathlib.Path(path).parts[-depth:]) for path in paths]
        if len(set(files)) == len(files):
            break
    return [shortened(printable(file)) for file in files]


def _compare(nets, job, options):
    """Segment with each net, draw, write. Returns the line for stdout."""
    from . import drawing, inference, metrics, panels, reports
    from .data.pairs import Pair, read_pair
    from .data.images import printable, read_photo
    from .data.outputs import staged_files

    start = time.perf_counter()
    named = next((each.net for each in nets if each.net.class_names is not None), nets[0].net)
    classes, truth = segmenters.classes_of(named), None
    count, void = len(classes.names), classes.ignore_label
    if options.truth is None:
        photo = read_photo(job.photo)
    else:
        path = pathlib.Path(options.truth)
        if path.is_dir():
            path /= job.stem + ".png"
        photo, truth = read_pair(Pair(job.stem, job.photo, path, classes), count, void)

    alpha = 1 if options.alpha is None else options.alpha

    def picture(labels, caption, void=None):
        pixels = panels.class_picture(labels, classes.colours, void, photo, alpha)
        return panels.Picture(panels.fit(pixels), caption)

    row, seen, captions = [panels.Picture(panels.fit(photo), "photo")], [], []
    for caption, net in nets:
        labels = inference.segment(net, photo, **segmenters.view_options(options)).labels
        seen.append(labels)
        if truth is not None:
            matrix = metrics.confusion_matrix(truth, labels, count, void)
            caption += f", mean IU {reports.figure(metrics.scores(matrix)['mean_iu'])}"
        captions.append(caption)
        row.append(picture(labels, caption))
    if truth is not None:
        row.append(picture(truth, "truth", void))
    found = panels.present(seen, [] if truth is None else [truth], void)
    entries = panels.legend_entries(found, classes.names, classes.colours)
    target = os.path.join(options.output, job.stem + SUFFIX)
    os.makedirs(os.path.dirname(target) or os.curdir, exist_ok=True)
    with staged_files() as stage:
        stage(target, drawing.png(panels.panel([row], entries)))
    h, w, _ = photo.shape
    return (f"{printable(job.photo)}: {w}x{h}, {'; '.join(captions)}, "
            f"{time.perf_counter() - start:.2f} s")
