"""The scores as text, JSON and Markdown; the tables themselves are checked with the command."""
import json
import math

import numpy as np

from tinyfcn import reports
from tinyfcn.metrics import scores

REPORT = reports.Report(scores(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]])), ["a|b", "road", "c*"],
                        2, "net_1.h5", "abc")


def test_markdown():
    report = REPORT._replace(worst=[("p_1", 0.25), ("q", 0.5)], views="each photo also mirrored")
    assert reports.to_markdown(report).splitlines() == [
        "2 photos, net\\_1.h5 (SHA-256 abc), each photo also mirrored",
        "",
        "| measure | value |",
        "|---|---:|",
        "| pixel accuracy | 87.50 % |",
        "| mean accuracy | 87.50 % |",
        "| mean IU | 77.50 % |",
        "| frequency weighted IU | 77.50 % |",
        "",
        "| class | IU | accuracy | share |",
        "|---|---:|---:|---:|",
        "| a\\|b | 75.00 % | 75.00 % | 50.00 % |",
        "| road | 80.00 % | 100.00 % | 50.00 % |",
        "| c\\* | n/a | n/a | 0.00 % |",
        "",
        "| worst photos | mean IU |",
        "|---|---:|",
        "| p\\_1 | 25.00 % |",
        "| q | 50.00 % |",
    ]


def test_names_cannot_break_a_table():
    report = REPORT._replace(names=["two\nlines", "<b>|`x`", "\x1b[31mred"])
    lines = reports.to_markdown(report).splitlines()
    assert len(lines) == 14
    assert lines[11] == "| two lines | 75.00 % | 75.00 % | 50.00 % |"
    assert lines[12].startswith("| \\<b\\>\\|\\`x\\` | ")
    assert lines[13].startswith("| \\\\x1b\\[31mred | ")
    text = reports.to_text(report)
    assert len(text.splitlines()) == 11 and "\x1b" not in text
    assert "two\\nlines" in text
    assert json.loads(reports.to_json(report))["per_class"][0]["name"] == "two\nlines"


def test_views_are_named():
    assert reports.to_text(REPORT).splitlines()[0] == "2 photos, net_1.h5 (SHA-256 abc)"
    assert reports.to_text(REPORT._replace(views="scales 1, 2")).splitlines()[0] == (
        "2 photos, net_1.h5 (SHA-256 abc), scales 1, 2")


def test_figures():
    assert [reports.figure(value) for value in (0, 0.12345, 1, math.nan)] == [
        "0.00 %", "12.35 %", "100.00 %", "n/a"]
