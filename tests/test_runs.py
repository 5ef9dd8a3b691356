"""The folder of a run: its config, its log and its lock."""
import json
import os
import subprocess
import sys

import pytest

from tinyfcn import runs
from tinyfcn.recipes import Recipe
from tinyfcn.runs import TrainingError

CONFIG = {"model": "fcn8s", "data": "d", "init": None, "net": {"width": 0.5},
          "recipe": {"epochs": 3, "crop": [5, 6]}}


def test_config(tmp_path):
    assert not runs.has_run(tmp_path)
    runs.write_config(tmp_path, CONFIG)
    assert runs.has_run(tmp_path)
    config = runs.read_config(tmp_path)
    assert config == {**CONFIG, "recipe": Recipe(epochs=3, crop=[5, 6]), "stages": []}
    with pytest.raises(TrainingError, match="there is a run already"):
        runs.write_config(tmp_path, CONFIG)
    assert os.listdir(tmp_path) == ["config.json"]


@pytest.mark.parametrize("content, reason", [
    (None, "no run to go on with (No such file or directory)"),
    ("", "damaged ("),
    ("[" * 100000, "damaged ("),
    ("[]", "damaged (it does not say its model)"),
    ({**CONFIG, "data": 3}, "damaged (it does not say its data)"),
    ({**CONFIG, "init": 3}, "damaged (it does not say its init)"),
    ({**CONFIG, "net": None}, "damaged (it does not say its net)"),
    ({**CONFIG, "recipe": {"epochs": 0}}, "damaged (epochs cannot be 0)"),
    ({**CONFIG, "recipe": {"rate": 10 ** 400}}, "damaged (rate cannot be 1"),
    ({**CONFIG, "recipe": {"new": 0}}, "damaged ("),
    ({**CONFIG, "stages": 3}, "damaged (it does not say its stages)"),
    ({**CONFIG, "stages": [{"model": "fcn32s", "rate": 1}]}, "damaged (a stage has no epochs)"),
    ({**CONFIG, "stages": [7]}, "damaged (a stage has no model)"),
])
def test_config_that_makes_no_sense(tmp_path, content, reason):
    if content is not None:
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(TrainingError) as caught:
        runs.read_config(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'config.json'}: {reason}")
    assert str(caught.value).isprintable()


def test_config_on_a_full_disk(tmp_path, monkeypatch):
    def fsync(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(TrainingError, match="config.json: No space left on device"):
        runs.write_config(tmp_path, CONFIG)
    assert os.listdir(tmp_path) == []


HOLDING = """
import sys, time
from tinyfcn import runs

with runs.locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_ends_with_its_process(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDING, tmp_path], stdout=subprocess.PIPE,
                              text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(TrainingError) as caught:
            with runs.locked(tmp_path):
                pytest.fail("both hold it")
        assert str(caught.value) == f"{tmp_path}: another process is training in this folder"
    finally:
        holder.kill()
        holder.communicate()
    with runs.locked(tmp_path):
        pass
    with runs.locked(tmp_path):
        pass


def test_a_folder_that_takes_no_lock(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"file/\.lock: Not a directory$"):
        with runs.locked(tmp_path / "file"):
            pass


def test_a_file_system_without_locks(tmp_path, monkeypatch, caplog):
    def none(handle):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(runs, "_lock", none)
    with runs.locked(tmp_path):
        assert caplog.messages == [f"{tmp_path / '.lock'}: cannot be locked: "
                                   "Function not implemented"]


def test_log(tmp_path):
    runs.write_log(tmp_path, [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25, "iu": None}])
    assert (tmp_path / "log.csv").read_text() == "epoch,loss,iu\n1,0.5,\n2,0.25,\n"
