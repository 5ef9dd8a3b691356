"""Measurements that need a process of their own: memory, compiling, starting.

The peak of a process's memory never goes down, and a process compiles a kernel once. So each of
`TASKS` runs as ``python -m tinyfcn.benchmarks.processes TASK ARGUMENTS``, both JSON.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time

from ..console import FAILED, CommandError
from .machine import BLAS_THREADS, NUMBA_THREADS

PHOTO_SIZE = 360, 480
CACHE = "NUMBA_CACHE_DIR"


def start(command, environment):
    """Run a command with variables added to the environment; (seconds, its stdout).

    Raises CommandError, with the last line that it wrote, if it fails.
    """
    began = time.perf_counter()
    # From this folder, wherever the package is imported from.
    paths = [path or os.getcwd() for path in sys.path]
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment})
    seconds = time.perf_counter() - began
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise CommandError(f"{' '.join(command[:2])}: {said}", FAILED)
    return seconds, done.stdout


def run(task, arguments, threads, **environment):
    """Run one of `TASKS` in a process of its own and return its result."""
    environment.update(thread_limits(threads))
    _, out = start([__spec__.name, task, json.dumps(arguments)], environment)
    return json.loads(out.splitlines()[-1])


def thread_limits(threads):
    """The environment in which a process uses so many threads."""
    return dict.fromkeys((NUMBA_THREADS, *BLAS_THREADS), str(threads))


def compile_times(network, threads):
    """Seconds of each kernel of an inference, and of training, where nothing is compiled yet."""
    with tempfile.TemporaryDirectory(prefix="tinyfcn-") as folder:
        return run("compile", network, threads, **{CACHE: folder})


def peak_memory(network, threads, engine):
    """Bytes at the peak of two inferences, or of two steps of training, in a new process.

    Parameters
    ----------
    network : dict
        As `network` of `inference` makes it; with "train" for training.
    threads : int
    engine : "tinyfcn", or a layout of PyTorch
    """
    return run("memory", {**network, "engine": engine}, threads)


def segment_seconds(threads, repeat):
    """Seconds of `tinyfcn.segment` with the model that ships: warm ones, and with an empty cache.

    From the start of the process until its end, when the files are written.
    """
    import numpy as np
    from PIL import Image

    with tempfile.TemporaryDirectory(prefix="tinyfcn-") as folder:
        photo = os.path.join(folder, "photo.jpg")
        coarse = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
        Image.fromarray(coarse).resize(PHOTO_SIZE[::-1], Image.Resampling.BICUBIC).save(photo)
        command = ["tinyfcn.segment", photo, "-o", os.path.join(folder, "results")]
        limits, cache = thread_limits(threads), os.path.join(folder, "cache")
        cold, _ = start(command, {**limits, CACHE: cache})
        warm = [start(command, {**limits, CACHE: cache})[0] for _ in range(repeat)]
    return warm, cold


# ---- in the process


def main(task, arguments):
    result = TASKS[task](**json.loads(arguments))
    print(json.dumps(result))


def _compile(model, options, shape, train):
    """A row for each kernel, for all its signatures; what it inlines counts there."""
    from numba.core import event

    with event.install_recorder("numba:compile") as recorder:
        import numpy as np

        from .. import models

        net, x = models.BY_NAME[model](**options), np.ones(shape, np.float32)
        began = time.perf_counter()
        if train:
            _train(net, x)
        models.prepare(net).forward(x)
        done = time.perf_counter()
    kernels, depth = {}, 0
    for moment, each in recorder.buffer:
        if each.is_start:
            if depth == 0:
                started = moment
            depth += 1
        else:
            depth -= 1
            if depth == 0:
                function = each.data["dispatcher"].__wrapped__
                name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
                row = kernels.setdefault(name, {"kernel": name, "seconds": 0.0, "count": 0})
                row["seconds"] += moment - started
                row["count"] += 1
    kernels = sorted(kernels.values(), key=lambda row: -row["seconds"])
    return {"seconds": done - began, "kernels": kernels}


def _memory(model, options, shape, train, engine):
    """Peak and the part of it that PyTorch's process has only because it knows our nets."""
    import numpy as np

    before = _resident()
    from .. import models
    from ..peers import pytorch

    ours = _resident() - before
    # Zeros take no memory until they are written; copies and new numbers do.
    net, x = models.BY_NAME[model](**{**options, "init": None}), np.ones(shape, np.float32)
    if engine == "tinyfcn":
        for array in net.params.values():
            array[...] = 1e-3
        if train:
            _train(net, x)
        else:
            net = models.prepare(net)
            for _ in range(2):
                net.forward(x)
        return {"peak": _peak()}
    import torch

    if train:
        _train(net, x, engine)
    else:
        run = pytorch.load(net, x, torch.get_num_threads(), engine).run
        for _ in range(2):
            run()
    return {"peak": _peak() - ours}


def _train(net, x, layout=None):
    import numpy as np

    from .training import our_step, random_labels, their_step

    classes = net.arguments["classes"]
    labels = random_labels((*x.shape[:3], classes), np.random.default_rng(0))
    step = (our_step(net, x, labels) if layout is None else their_step(net, x, labels, layout))[-1]
    for _ in range(2):
        step()


def _peak():
    """Bytes that this process held at most."""
    found = _status("VmHWM")
    if found is None:
        import resource

        # Kilobytes, but bytes on macOS.
        found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found *= 1 if sys.platform == "darwin" else 1024
    return found


def _resident():
    """Bytes that it holds now; 0 where the system does not tell."""
    return _status("VmRSS") or 0


def _status(key):
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="utf-8") as file:
        for line in file:
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024
    return None


TASKS = {"compile": _compile, "memory": _memory}

if __name__ == "__main__":
    main(*sys.argv[1:])
