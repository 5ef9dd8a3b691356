"""The scores of a net on a data set as text, JSON and Markdown."""

import json
import math
from typing import NamedTuple

from .data.images import printable

MEASURES = ("pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu")
_OF_A_CLASS = ("iu", "accuracy", "share")


class Report(NamedTuple):
    """What there is to say of an evaluation.

    Attributes
    ----------
    scores : dict
        As `metrics.scores` gives them.
    names : list of str
        Of the classes.
    images : int
        How many photos were scored.
    weights : str
        The weight file, as shown.
    digest : str
        Its SHA-256.
    views : str
        The views that probabilities were averaged over; empty for the photo alone.
    worst : list of (str, float)
        Names of photos and their mean IU, the worst first.
    """

    scores: dict
    names: list
    images: int
    weights: str
    digest: str
    views: str = ""
    worst: list = ()


def to_json(report):
    """One object; what has no value, such as the IU of a class that is not there, is null."""
    per_class = [
        {
            "index": index,
            "name": name,
            **{key: _or_none(report.scores[key][index]) for key in _OF_A_CLASS},
        }
        for index, name in enumerate(report.names)
    ]
    content = {
        **{name: _or_none(report.scores[name]) for name in MEASURES},
        "per_class": per_class,
        "images": report.images,
        "weights_sha256": report.digest,
    }
    return json.dumps(content, indent=2, allow_nan=False)


def to_text(report):
    """The measures and a table of the classes, for a terminal."""
    names = [printable(name) for name in (*report.names, *(name for name, _ in report.worst))]
    width = max(len("frequency weighted IU"), *map(len, names))
    lines = [_heading(report), ""]
    lines += [f"{_title(name):{width}}  {figure(report.scores[name]):>8}" for name in MEASURES]
    lines += ["", f"{'class':{width}}  {'IU':>8}  {'accuracy':>8}  {'share':>8}"]
    for name, figures in _rows(report):
        lines.append(f"{printable(name):{width}}  {'  '.join(f'{each:>8}' for each in figures)}")
    if report.worst:
        lines += ["", f"{'worst photos':{width}}  {'mean IU':>8}"]
        lines += [f"{printable(name):{width}}  {figure(value):>8}"
                  for name, value in report.worst]
    return "\n".join(lines)


def to_markdown(report):
    """The same as tables of Markdown."""
    lines = [_escaped(_heading(report)), ""]
    lines += _table(["measure", "value"],
                    [[_title(name), figure(report.scores[name])] for name in MEASURES])
    lines += ["", *_table(["class", "IU", "accuracy", "share"],
                          [[name, *figures] for name, figures in _rows(report)])]
    if report.worst:
        lines += ["", *_table(["worst photos", "mean IU"],
                              [[name, figure(value)] for name, value in report.worst])]
    return "\n".join(lines) + "\n"


def _heading(report):
    views = f", {report.views}" if report.views else ""
    return f"{report.images} photos, {report.weights} (SHA-256 {report.digest}){views}"


def _rows(report):
    for index, name in enumerate(report.names):
        yield name, [figure(report.scores[key][index]) for key in _OF_A_CLASS]


def _table(head, rows):
    yield f"| {' | '.join(head)} |"
    yield f"|---|{'---:|' * (len(head) - 1)}"
    for first, *figures in rows:
        yield f"| {_escaped(first)} | {' | '.join(figures)} |"


def _escaped(text):
    """Text that Markdown shows as it is, in one line."""
    text = printable(" ".join(text.split()))
    return "".join(f"\\{c}" if c in r"\`*_{}[]<>#|~" else c for c in text)


def _title(measure):
    return measure.replace("_iu", "_IU").replace("_", " ")


def figure(value):
    """A share as per cent; what is NaN has none."""
    return "n/a" if math.isnan(value) else f"{100 * value:.2f} %"


def _or_none(value):
    """JSON has no NaN: a class that is not there has no figure."""
    return None if math.isnan(value) else float(value)
