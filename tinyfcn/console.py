"""What the commands share: exit codes, the two streams, and the numbers among their options."""

# Nothing here takes long to import: --help answers at once.
import argparse
import contextlib
import logging
import math
import os
import re
import shutil
import sys

DONE, FAILED, USAGE, WEIGHTS, INTERRUPTED = 0, 1, 2, 3, 130

PRECISIONS = ("float32", "tf32", "bf16")

MODELS = ("fcn32s", "fcn16s", "fcn8s", "fcn8s-atonce", "fcn_alexnet")


class CommandError(Exception):
    """Ends a command: a line for stderr and the exit code."""

    def __init__(self, message, code):
        super().__init__(message)
        self.code = code


# What the kernels read when they are imported.
KERNEL_VARIABLES = ("TINYFCN_SIMD", "TINYFCN_THREADS")


def check_environment():
    """Raise CommandError where a variable asks of the kernels what they don't know."""
    if not any(os.environ.get(name) for name in KERNEL_VARIABLES):
        return
    try:
        from .kernels import cpu  # noqa: F401
    except ValueError as error:
        raise CommandError(str(error), USAGE) from None


def run(program, parse, body, argv):
    """Run a command and return its exit code, whatever ends it.

    Parameters
    ----------
    program : str
        Begins each line on stderr.
    parse : callable
        parse(argv) -> options; may exit, as argparse does. Their `quiet` and `verbose`, where there
        are such, say how much of the library's log is shown.
    body : callable
        body(options) -> exit code; may raise CommandError.
    argv : list of str or None
    """
    try:
        options = parse(argv)
    except SystemExit as stop:
        return stop.code
    shown = vars(options)
    level = logging.WARNING if shown.get("quiet") else logging.INFO
    try:
        with logging_to_stderr(program, logging.DEBUG if shown.get("verbose") else level):
            check_environment()
            return body(options)
    except CommandError as error:
        say(f"{program}: {error}")
        return error.code
    except MemoryError as error:
        say(f"{program}: {memory_shortage(error)}")
        return FAILED
    except KeyboardInterrupt:
        say(f"{program}: interrupted")
        return INTERRUPTED
    except RuntimeError as error:
        from .arrays import DeviceError

        if not isinstance(error, DeviceError):
            raise
        say(f"{program}: {error}")
        return FAILED


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong with the options in one line."""

    def error(self, message):
        self.exit(USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def number(kind, low, high=math.inf, above=False, below=False):
    """Make an option's type: an int or a finite float from `low` to `high`.

    `above` and `below` leave out the ends.
    """
    what = f"{'above' if above else 'at least'} {low}"
    if high < math.inf:
        what += f" and {'below' if below else 'at most'} {high}"

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            what_kind = "whole number" if kind is int else "number"
            raise argparse.ArgumentTypeError(f"not a {what_kind}: {text!r}") from None
        # A NaN fails every comparison.
        fits = (value > low if above else value >= low) and (
            value < high if below else value <= high
        )
        if not fits or abs(value) == math.inf:
            raise argparse.ArgumentTypeError(f"must be {what}, not {text}")
        return value

    return parse


def add_device_options(parser, default="auto", precision=True):
    """Add --device and, where convolutions are computed for their results, --precision."""
    parser.add_argument("--device", type=_device, default=default, metavar="DEVICE",
                        help="cpu, cuda, cuda:N, or auto, the first usable NVIDIA GPU or else the "
                             f"CPU (default: {default})")
    if precision:
        parser.add_argument("--precision", choices=PRECISIONS, default="float32",
                            help="of the factors in convolutions; tf32 and bf16 need a GPU "
                                 "(default: float32)")


def use_device(options):
    """The device that the options name, "cpu" or "cuda:N", ready for use; a GPU is announced.

    Raises CommandError where it cannot be used. Of "auto" that is so only with a precision that
    needs a GPU: from one that fails at the first touch, since another program has it for itself,
    say, it falls to the CPU.
    """
    from . import arrays

    precision = getattr(options, "precision", "float32")
    try:
        device = arrays.find(options.device)
        arrays.set_precision(precision, device)
    except arrays.DeviceError as error:
        if options.device != "auto" or precision != "float32":
            raise CommandError(f"--device {options.device}: {error}", USAGE) from None
        logging.getLogger("tinyfcn").warning("%s; the CPU is used", error)
        device = arrays.CPU
    if device != arrays.CPU:
        logging.getLogger("tinyfcn").info("device %s", arrays.describe(device))
    return device


def memory_shortage(error):
    """A line for a MemoryError: a GPU's says how much was needed."""
    from .arrays import DeviceMemoryError

    return str(error) if isinstance(error, DeviceMemoryError) else "not enough memory"


def _device(text):
    if re.fullmatch(r"auto|cpu|cuda(:\d{1,4})?", text) is None:
        raise argparse.ArgumentTypeError(f"must be auto, cpu, cuda or cuda:N, not {text!r}")
    return text


def find_weights(options, otherwise="", default="fcn8s"):
    """The file of `options.weights`, else the one that comes with tinyfcn for `options.model`.

    Raises CommandError where there is none; `otherwise` says what else a user can do, and
    `default` is the model where none is named.
    """
    from . import weights

    if options.weights is not None:
        return options.weights
    model = options.model or default
    path = weights.shipped(model)
    if path is None:
        message = f"no weights for {model} come with tinyfcn: give a file with --weights"
        raise CommandError(message + otherwise, WEIGHTS)
    return os.fspath(path)


def add_loading_options(parser):
    """Add how a weight file is to be read; see `check_layout` and `loading_options`."""
    parser.add_argument("--layout", metavar="NAME",
                        help="where the weights come from, if that cannot be told from their "
                             "names and shapes, such as torchvision-vgg-caffe")
    parser.add_argument("--allow-partial", action="store_true",
                        help="load what fits, and only warn of what is missing (it stays zero), "
                             "unused or misshaped")


def loading_options(options):
    """The keyword arguments of `loading.load_model` that a user chose."""
    return {"model": options.model, "layout": options.layout,
            "allow_partial": options.allow_partial}


def check_layout(parser, options):
    """Let the parser refuse an `options.layout` that there is not."""
    if options.layout is None:
        return
    from .weights.layouts import LAYOUTS

    if options.layout not in LAYOUTS:
        parser.error(f"no layout {options.layout}; there are {', '.join(LAYOUTS)}")


def say(line):
    """Write a line to stderr, if that takes it."""
    with contextlib.suppress(OSError):
        _write(sys.stderr, line)


def print_result(program, text):
    """Write a result to stdout; return whether it took it or nobody wants it any more."""
    try:
        _write(sys.stdout, text)
    except OSError as error:
        # What stdout still holds is flushed once more at the end, which must not fail again.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        if isinstance(error, BrokenPipeError):  # the reader has seen enough
            return True
        say(f"{program}: stdout: {error.strerror}")
        return False
    return True


def _write(stream, text):
    if stream is None:  # closed before the program began
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()


@contextlib.contextmanager
def progress(total, what):
    """Give a function that shows on stderr, if that is a terminal, how many are done."""
    with status() as show:
        yield lambda done: show(f"{done}/{total} {what}")


@contextlib.contextmanager
def status():
    """Give a function that shows a line on stderr, if that is a terminal, in place of the last."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda line: None
        return

    shown = ""

    def show(line):
        nonlocal shown
        line = line[:shutil.get_terminal_size().columns - 1]
        if line == shown:
            return
        clear = "\x1b[K" if len(line) < len(shown) else ""
        shown = line
        with contextlib.suppress(OSError):
            sys.stderr.write(f"\r{line}{clear}")
            sys.stderr.flush()

    try:
        yield show
    finally:
        show("")


def bar(done, total, width=20):
    """How much is done, drawn: such as [=====     ]."""
    filled = width * done // max(1, total)
    return f"[{'=' * filled:{width}}]"


def duration(seconds):
    """Such as 40 s, 12 min or 3 h 05 min."""
    minutes = round(seconds / 60)
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


@contextlib.contextmanager
def logging_to_stderr(program, level=logging.INFO):
    """Show the library's log on stderr while a command runs."""

    class Handler(logging.Handler):
        def emit(self, record):
            prefix = "warning: " if record.levelno >= logging.WARNING else ""
            say(f"{program}: {prefix}{self.format(record)}")

    logger = logging.getLogger("tinyfcn")
    handler, before = Handler(), logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
