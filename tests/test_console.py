"""What commands show while they work."""
import io
import sys

import pytest

from tinyfcn import console


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_line_takes_the_place_of_the_last(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "20")
    with console.status() as show:
        show("short")
        show("a line that is too long for it")
        show("short")
    assert terminal.getvalue() == "\rshort\ra line that is too \rshort\x1b[K\r\x1b[K"


def test_nothing_is_shown_in_a_file(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with console.progress(3, "photos") as show:
        show(1)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("done, total, drawn", [
    (0, 4, "[        ]"), (1, 4, "[==      ]"), (4, 4, "[========]"), (0, 0, "[        ]")])
def test_bar(done, total, drawn):
    assert console.bar(done, total, 8) == drawn


@pytest.mark.parametrize("seconds, text", [
    (0, "0 s"), (59.6, "60 s"), (99, "99 s"), (100, "2 min"), (5940, "99 min"),
    (6000, "1 h 40 min"), (36000 + 5 * 60, "10 h 05 min")])
def test_duration(seconds, text):
    assert console.duration(seconds) == text
