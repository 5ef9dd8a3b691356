"""The folder of a run: what it was started with, its log, and the lock of who trains in it."""

import contextlib
import csv
import io
import json
import logging
import os
import pathlib

from .data.images import printable
from .data.outputs import staged_files
from .recipes import Recipe

logger = logging.getLogger(__name__)

CONFIG, LOG, LOCK = "config.json", "log.csv", ".lock"
CHECKPOINT, LAST, BEST = "checkpoint.h5", "last.h5", "best.h5"
CURVE, SAMPLES = "curve.png", "samples"


class TrainingError(RuntimeError):
    """Training that cannot go on; the message is one line."""


@contextlib.contextmanager
def locked(folder):
    """Hold a run's folder for this process alone; the lock ends with the process, however it ends.

    Raises
    ------
    TrainingError
        If another process holds it, or the file of the lock can't be made.
    """
    path = os.path.join(folder, LOCK)
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise TrainingError(f"{printable(path)}: {error.strerror}") from None
    try:
        try:
            _lock(handle)
        except (BlockingIOError, PermissionError):
            raise TrainingError(
                f"{printable(folder)}: another process is training in this folder"
            ) from None
        except OSError as error:  # some file systems of networks have no locks
            logger.warning("%s: cannot be locked: %s", printable(path), error.strerror)
        yield
    finally:
        os.close(handle)


def _lock(handle):
    """Raise an OSError at once where another process holds the file."""
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def has_run(folder):
    """Whether there is a run in a folder, begun or further."""
    return any(os.path.lexists(os.path.join(folder, name)) for name in (CONFIG, CHECKPOINT))


def write_config(folder, config):
    """Keep in the folder what a run is started with; the recipe as a dict.

    Raises
    ------
    TrainingError
        If there is a run already, or the file can't be written.
    """
    if has_run(folder):
        raise TrainingError(f"{printable(folder)}: there is a run already")
    text = json.dumps(config, indent=2) + "\n"
    write_file(pathlib.Path(folder) / CONFIG, text.encode())


# What must be in a config.json; and what may be, with what it is otherwise.
_PARTS = {"model": str, "data": str, "init": (str, type(None)), "net": dict, "recipe": dict}
_OPTIONAL_PARTS = {"stages": (list, [])}
_STAGE_PARTS = {"model": str, "rate": (int, float), "epochs": int}


def read_config(folder):
    """What the run in `folder` was started with; its "recipe" as a `Recipe`.

    Raises
    ------
    TrainingError
        If there is no run in it, or its config.json is damaged.
    """
    path = pathlib.Path(folder) / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(
            f"{printable(path)}: no run to go on with ({error.strerror})"
        ) from None
    except (ValueError, RecursionError) as error:
        raise TrainingError(f"{printable(path)}: damaged ({error})") from None
    if isinstance(config, dict):
        config = {**{name: value for name, (_, value) in _OPTIONAL_PARTS.items()}, **config}
    kinds = {**_PARTS, **{name: kind for name, (kind, _) in _OPTIONAL_PARTS.items()}}
    for name, kind in kinds.items():
        if not isinstance(config, dict) or not isinstance(config.get(name), kind):
            raise TrainingError(f"{printable(path)}: damaged (it does not say its {name})")
    for stage in config["stages"]:
        for name, kind in _STAGE_PARTS.items():
            if not isinstance(stage, dict) or not isinstance(stage.get(name), kind):
                raise TrainingError(f"{printable(path)}: damaged (a stage has no {name})")
    try:
        config["recipe"] = Recipe(**config["recipe"])
    except (TypeError, ValueError) as error:
        raise TrainingError(f"{printable(path)}: damaged ({printable(str(error))})") from None
    return config


def write_log(folder, rows):
    """Write the rows of all epochs, dicts, as a table.

    Raises
    ------
    TrainingError
        If the file can't be written; it is as it was then.
    """
    text = io.StringIO(newline="")
    columns = dict.fromkeys(name for row in rows for name in row)
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_file(pathlib.Path(folder) / LOG, text.getvalue().encode())


def write_file(path, content):
    """Write bytes in one step.

    Raises
    ------
    TrainingError
        If the file can't be written; one of that name is as it was then.
    """
    try:
        with staged_files() as stage:
            stage(os.fspath(path), content)
    except OSError as error:
        raise TrainingError(f"{printable(path)}: {error.strerror or error}") from None
