"""What commands do with photos: find them, plan where results go, and do one after the other."""

# What takes long to import is imported by the functions that need it.
import logging
import os
import tempfile
from typing import NamedTuple

from . import console

_log = logging.getLogger(__name__)


class Job(NamedTuple):
    """One photo and where its results go.

    `photo` is the path of the image, `stem` that of its outputs without their suffixes, below
    the output folder.
    """

    photo: str
    stem: str


def find(paths, output, suffixes):
    """Find the photos to do and where their results go, and refuse what could overwrite.

    A file is named by its own name, whatever its extension. Of a folder all images that have an
    image's extension are taken, folders below it too, hidden ones left out; its tree is mirrored
    below the output folder. What is given twice is done once.

    Parameters
    ----------
    paths : list of str
        Files and folders.
    output : str
        The output folder; it need not exist.
    suffixes : tuple of str
        What is written for each photo, in place of its extension.

    Returns
    -------
    jobs : list of Job
        In the order given, sorted within folders.
    failures : list of str
        One line for each path that leads to no photo.

    Raises
    ------
    CommandError
        Two photos have the same output, or an output would overwrite a photo.
    """
    from tinyfcn.data.images import ImageError, check_file, printable

    jobs, failures = [], []
    for path in paths:
        if os.path.isdir(path):
            found, unreadable = _images_below(path, output)
            failures += unreadable
            if not found and not unreadable:
                failures.append(f"{printable(path)}: no images in this folder")
            jobs += [Job(os.path.join(path, each), _stem(each)) for each in found]
        else:
            try:
                check_file(path)
            except ImageError as error:
                failures.append(str(error))
            else:
                jobs.append(Job(path, _stem(os.path.basename(path))))

    photos = {}                     # real path -> job, each photo once
    for job in jobs:
        photos.setdefault((os.path.realpath(job.photo), job.stem), job)
    jobs = list(photos.values())
    _refuse_collisions(jobs, [*paths, *(job.photo for job in jobs)], output, suffixes)
    return jobs, failures


def _stem(path):
    """The path without its extension if that is an image's: v1.2 keeps its .2."""
    from tinyfcn.data.images import EXTENSIONS

    stem, extension = os.path.splitext(path)
    return stem if extension.lower() in EXTENSIONS else path


def _images_below(folder, output):
    """Relative paths of the images in a folder's tree, and one line per unreadable folder."""
    from tinyfcn.data.images import EXTENSIONS, printable

    found, unreadable, visited = [], [], set()

    def note(error):
        unreadable.append(f"{printable(error.filename)}: {error.strerror}")

    for here, folders, files in os.walk(folder, onerror=note, followlinks=True):
        # Links may lead back up: a folder is entered once, by whichever way comes first.
        identity = os.path.realpath(here)
        is_output = here != folder and identity == os.path.realpath(output)
        if identity in visited or is_output:
            folders.clear()
            continue
        visited.add(identity)
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        relative = os.path.relpath(here, folder)
        found += [os.path.normpath(os.path.join(relative, file)) for file in sorted(files)
                  if not file.startswith(".")
                  and os.path.splitext(file)[1].lower() in EXTENSIONS]
    return found, unreadable


def _refuse_collisions(jobs, inputs, output, suffixes):
    from tinyfcn.data.images import printable

    inputs = {os.path.normcase(os.path.realpath(path)): path for path in inputs}
    owners = {}
    for job in jobs:
        for suffix in suffixes:
            target = os.path.join(output, job.stem + suffix)
            key = os.path.normcase(os.path.realpath(target))
            if key in inputs:
                raise console.CommandError(
                    f"{printable(inputs[key])} would be overwritten by a result of "
                    f"{printable(job.photo)}: choose another output folder with -o", console.USAGE)
            if key in owners:
                raise console.CommandError(
                    f"{printable(owners[key])} and {printable(job.photo)} would both be written "
                    f"to {printable(target)}: do them in two calls with different -o",
                    console.USAGE)
            owners[key] = job.photo


def make_output_folder(folder):
    """Make a folder for results; raises CommandError unless files can be written there."""
    from tinyfcn.data.images import printable

    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise console.CommandError(
            f"{printable(folder)}: cannot write to this output folder: {error.strerror}",
            console.USAGE,
        ) from None


def do(program, job, work, quiet=False):
    """Do what there is to do for one photo, whatever comes in the way.

    Parameters
    ----------
    program : str
        Begins lines on stderr.
    job : Job
    work : callable
        work(job) -> the lines for stdout, or None.
    quiet : bool
        Print nothing on stdout.

    Returns
    -------
    bool
        Whether that worked; if not, a line on stderr says why.
    """
    from tinyfcn.arrays import DeviceError
    from tinyfcn.data.errors import DataError
    from tinyfcn.data.images import ImageError, printable

    name = printable(job.photo)
    try:
        text = work(job)
    except DeviceError:  # nothing will work any more
        raise
    except (DataError, ImageError) as error:
        console.say(f"{program}: {error}")
    except MemoryError as error:
        console.say(f"{program}: {name}: {console.memory_shortage(error)}")
    except OSError as error:
        where = printable(error.filename) if error.filename else name
        console.say(f"{program}: {where}: {error.strerror or error}")
    except Exception as error:      # whatever it is, the other photos can still be done
        reason = " ".join(str(error).split())
        # Such as scores that are not finite; of all else the type helps to find the mistake.
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        console.say(f"{program}: {name}: {kind}{reason}")
        _log.debug("where it happened:", exc_info=True)
    else:
        return quiet or text is None or console.print_result(program, text)
    return False
