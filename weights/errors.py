"""The one exception of the readers and writers of weight files."""
import os


class WeightsError(ValueError):
    """A weight file cannot be read, written or used; one line that begins with its path.

    Attributes
    ----------
    reason : str
        What follows the path.
    """


def weights_error(path, reason):
    """Make a `WeightsError` whose message is one printable line.

    Parameters
    ----------
    path : str or path-like
        The file; its name opens the message.
    reason : str
        What is wrong. Names that come out of a file may hold anything: line breaks and control
        characters are escaped.

    Returns
    -------
    WeightsError
        To be raised by the caller.
    """
    error = WeightsError(one_line(f"{os.fsdecode(path)}: {reason}"))
    error.reason = one_line(reason)
    return error


def one_line(text):
    """Escape what is not printable, so that the text stays on its line."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode("ascii")
        for c in text
    )
