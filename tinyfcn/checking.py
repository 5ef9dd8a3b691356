"""Whether a data set can be trained on: every file that stands in the way, and its classes."""

# What takes long to import is imported by the functions that need it.
import math

from . import console

SPLITS = ("train", "val")


def refuse_faults(program, readers):
    """Read all pairs; raises CommandError, after a line for each that can't be used.

    Parameters
    ----------
    program : str
        Begins each line on stderr.
    readers : dict
        {split: loader.PairReader}
    """
    from .data.examination import examine

    faults, summary = [], []
    total = sum(map(len, readers.values()))
    with console.progress(total, "photos read") as show:
        done = 0
        for split, reader in readers.items():
            found = [each.fault for each in examine(reader, lambda n: show(done + n)) if each.fault]
            done += len(reader)
            faults += found
            summary += _summary(split, len(found), len(reader))
    for fault in faults:
        console.say(f"{program}: {fault}")
    if faults:
        raise console.CommandError(_joined(summary), console.FAILED)


def run(program, root):
    """Print the class statistics of a data set and what is wrong with it; return the exit code.

    CommandError is raised where there is no data set to look at.
    """
    from .data import layouts
    from .data.errors import DataError
    from .data.images import printable
    from .data.loader import PairReader

    try:
        data = layouts.find(root)
        splits = data.splits()
        pairs = {split: data.pairs(split) for split in SPLITS
                 if split == SPLITS[0] or split in splits}
    except DataError as error:
        raise console.CommandError(error, console.USAGE) from None
    classes, ignore_label = data.classes, data.classes.ignore_label
    lines = [f"{printable(root)}: {data.layout.NAME}, {len(classes.names)} classes, label "
             f"{ignore_label} is ignored"]
    faults, summary = [], []
    for split, found in pairs.items():
        reader = PairReader(found, len(classes.names), ignore_label, keep_bytes=0)
        table, wrong = _examine_split(split, reader, classes)
        lines += ["", *table]
        faults += wrong
        summary += _summary(split, len(wrong), len(reader))
        strays = data.strays(split)
        faults += [f"{printable(path)}: there is no photo of this name" for path in strays]
        if strays:
            summary.append(f"{len(strays)} label maps of {split} without a photo")
    if faults:
        lines += ["", *faults]
    lines += ["", _joined(summary) if faults
              else f"all {sum(map(len, pairs.values()))} photos and label maps are fine"]
    printed = console.print_result(program, "\n".join(lines))
    return console.DONE if printed and not faults else console.FAILED


def _examine_split(split, reader, classes):
    """Lines about a split, and a line for each of its pairs that can't be used."""
    from .data.examination import examine
    from .data.statistics import ClassStatistics

    statistics = ClassStatistics(len(classes.names), classes.ignore_label)
    faults, sizes = [], set()
    with console.progress(len(reader), f"photos of {split}") as show:
        for examined in examine(reader, show):
            if examined.fault:
                faults.append(examined.fault)
            else:
                statistics.add(examined.histogram)
                sizes.add(examined.size)
    return [f"{split}: {statistics.images} photos{_sizes(sizes)}",
            *_table(statistics, classes)], faults


def _sizes(sizes):
    if not sizes:
        return ""
    heights, widths = zip(*sizes)
    return f" of {_range(widths)}x{_range(heights)} pixels"


def _range(values):
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"({low} to {high})"


def _table(statistics, classes):
    from .data.images import printable

    names = [*map(printable, classes.names), "(ignored)"]
    width = max(map(len, names))
    rows = [*zip(names, statistics.shares(), statistics.shown_in, statistics.weights()),
            (names[-1], statistics.ignored / max(statistics.total, 1), statistics.ignored_in, None)]
    yield f"{'class':{width}}  {'share':>9}  {'images':>7}  {'weight':>9}"
    for name, share, images, weight in rows:
        shown = "" if weight is None else "n/a" if math.isnan(weight) else f"{weight:.4f}"
        yield f"{name:{width}}  {100 * share:7.3f} %  {images:7}  {shown:>9}".rstrip()


def _summary(split, faults, count):
    return [f"{faults} of {count} photos of {split} cannot be used"] if faults else []


def _joined(parts):
    return "; ".join(parts)
