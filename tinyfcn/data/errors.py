"""What is wrong with a data set, in one line."""

from .images import printable


class DataError(ValueError):
    """A data set that cannot be used; the message is one line that names the file."""


def data_error(path, reason):
    """A `DataError` about the file or folder `path`."""
    return DataError(f"{printable(path)}: {printable(reason)}")
