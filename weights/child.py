"""A process beside this one, for libraries that damaged files can crash, hang or make greedy."""
import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading

from tinyfcn.weights.errors import WeightsError, one_line, weights_error
from tinyfcn.weights.tensors import BLOCK_BYTES

MAX_ANSWER_BYTES = 64 << 20


@contextlib.contextmanager
def child(path, function, what, seconds, size):
    """Call a function of this package in a process of its own.

    Parameters
    ----------
    path : str or path-like
        The file, and the function's argument.
    function : str
        "module:function", called with the path. It returns a JSON value and an iterable of
        bytes-like blocks, and may raise any error.
    what : (str, str)
        For messages: the kind of file and the library that reads it.
    seconds : float
        The time that it may take.
    size : int
        The bytes of memory that it may take, where the system can limit them.

    Yields
    ------
    (value, stream)
        The JSON value, and a binary stream of the blocks.

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
    late = threading.Event()
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                [sys.executable, "-c", program, function, what[0], str(size),
                 os.path.abspath(path)], env=environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=errors)
        except OSError as error:
            reason = error.strerror or error
            raise weights_error(path, f"cannot be examined: {reason}") from error
        timer = threading.Timer(seconds, lambda: (late.set(), process.kill()))
        with process:
            timer.start()
            try:
                line = process.stdout.readline(MAX_ANSWER_BYTES)
                if not line.endswith(b"\n"):
                    process.stdout.close()
                    process.wait()
                    raise weights_error(
                        path, _ending(late, process.returncode, errors, what, seconds))
                answer = json.loads(line)
                if "refusal" in answer:
                    raise weights_error(path, answer["refusal"])
                yield answer["value"], process.stdout
            finally:
                timer.cancel()
                process.kill()


def _ending(late, code, errors, what, seconds):
    if late.is_set():
        return f"damaged {what[0]} (reading it did not end in {seconds:g} s)"
    if code < 0:
        return f"damaged {what[0]} (reading it crashes {what[1]})"
    errors.seek(0)
    lines = errors.read().decode("utf-8", "replace").strip().splitlines() or ["no answer"]
    return f"cannot be examined: {lines[-1][:200]}"


def main():
    """The process: sys.argv is the function, the kind of file, the memory limit, and the path."""
    function, what, size, path = sys.argv[1:]
    with contextlib.suppress(ImportError, ValueError, OSError):
        # Not every system has such limits; the time limit remains.
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (int(size), int(size)))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    module, name = function.split(":")
    blocks = ()
    try:
        value, blocks = getattr(importlib.import_module(module), name)(path)
        answer = {"value": value}
    except WeightsError as error:
        answer = {"refusal": str(error)[len(one_line(path)) + 2:]}
    except Exception as error:
        reason = " ".join((str(error) or type(error).__name__).split())
        answer = {"refusal": f"damaged {what} ({reason[:160]})"}
    out = sys.stdout.buffer
    out.write(json.dumps(answer).encode("ascii") + b"\n")
    for block in blocks:
        for start in range(0, len(block), BLOCK_BYTES):
            out.write(block[start:start + BLOCK_BYTES])
    out.flush()
    # The library's own clean-up at exit is one more chance to crash.
    os._exit(0)
