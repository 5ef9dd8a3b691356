"""Writing files so that each is there whole or not at all."""

import contextlib
import os
import secrets


@contextlib.contextmanager
def staged_files():
    """Write several files that appear together, once all of them are complete.

        with staged_files() as stage:
            stage("a.png", png_bytes)
            stage("a.json", json_bytes)

    Each is written beside its place under a hidden name that ends in ``.part``. When the block
    ends they are renamed, in the order staged; when it raises, whatever it raises, they are
    removed and nothing else has changed.

    Yields
    ------
    stage(path, data)
        `path` is a str. Raises an OSError with that `filename` where it cannot be written.
    """
    parts = []

    def stage(path, data):
        part = os.path.join(os.path.dirname(path), f".tinyfcn-{secrets.token_hex(8)}.part")
        parts.append((part, path))
        # Not `tempfile`, whose files only their owner may read.
        try:
            with open(part, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())         # a full disk may show only here
        except OSError as error:
            error.filename = path               # the name that means something to the reader
            raise

    try:
        yield stage
        for part, path in parts:
            try:
                os.replace(part, path)
            except OSError as error:
                error.filename, error.filename2 = path, None
                raise
    finally:
        for part, _ in parts:
            with contextlib.suppress(OSError):  # renamed, or never made
                os.unlink(part)
