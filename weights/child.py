"""A process beside this one, for libraries that damaged files can crash, hang or make greedy."""
import contextlib
import importlib
import json
import os
import subprocess
import sys

from tinyfcn.weights.errors import WeightsError, weights_error


def child(path, function, what, seconds, size):
    """Call a function of this package in a process of its own.

    Parameters
    ----------
    path : str or path-like
        The file, and the function's argument.
    function : str
        "module:function", called with the path. It may raise any error.
    what : (str, str)
        For messages: the kind of file and the library that reads it.
    seconds : float
        The time that it may take.
    size : int
        The bytes of memory that it may take, where the system can limit them.

    Raises
    ------
    WeightsError
        It raised an error, crashed or took too long.
    """
    program = (f"import sys; sys.path[:] = {sys.path!r}\n"
               "from tinyfcn.weights.child import main; main()")
    # One thread: the memory limit counts address space, and every idle thread has a share of it.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1",
                   "MKL_NUM_THREADS": "1"}
    try:
        process = subprocess.run(
            [sys.executable, "-c", program, function, what[0], str(size), os.path.abspath(path)],
            env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise weights_error(
            path, f"damaged {what[0]} (reading it did not end in {seconds:.3g} s)") from None
    except OSError as error:
        raise weights_error(path, f"cannot be examined: {error.strerror or error}") from error
    if process.returncode < 0:
        raise weights_error(path, f"damaged {what[0]} (reading it crashes {what[1]})")
    try:
        refusal = json.loads(process.stdout)
    except ValueError:
        lines = process.stderr.decode("utf-8", "replace").strip().splitlines() or ["no answer"]
        raise weights_error(path, f"cannot be examined: {lines[-1][:200]}") from None
    if refusal is not None:
        raise weights_error(path, refusal)


def main():
    """The process: sys.argv is the function, the kind of file, the memory limit, and the path."""
    function, what, size, path = sys.argv[1:]
    with contextlib.suppress(ImportError, ValueError, OSError):
        # Not every system has such limits; the time limit remains.
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (int(size), int(size)))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    module, name = function.split(":")
    refusal = None
    try:
        getattr(importlib.import_module(module), name)(path)
    except WeightsError as error:
        refusal = error.reason
    except Exception as error:
        reason = " ".join((str(error) or type(error).__name__).split())
        refusal = f"damaged {what} ({reason[:160]})"
    print(json.dumps(refusal), flush=True)
    # The library's own clean-up at exit is one more chance to crash.
    os._exit(0)
