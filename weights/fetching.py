"""Fetches known files into the cache: goes on where it was cut, and trusts the hash alone.

pooch keeps the cache and compares the hashes; the downloader is this project's, since pooch's
begins again after a cut. What has arrived so far waits in NAME.part; the final name appears when
the hash is right.
"""
import contextlib
import os
import re
import time

from tinyfcn.weights import catalogue
from tinyfcn.weights.errors import one_line, weights_error

# Tries in a row that bring nothing new; the wait before each is twice as long as before.
TRIES = 5
FIRST_WAIT = 1.0
TIMEOUT = 30
# What is lost of a block when the connection is cut comes again.
BLOCK_BYTES = 1 << 14
# Of files whose size is not known: more is no weight file of the catalogue.
MAX_BYTES = 2 << 30


class FetchError(Exception):
    """A file could not be fetched; one line."""


def fetch(known, folder=None, report=None):
    """Bring a known file into the cache, unless it is there.

    Parameters
    ----------
    known : KnownFile
        One that is not manual.
    folder : str, optional
        The cache; by default `catalogue.cache_folder()`.
    report : callable, optional
        report(bytes so far, all bytes or None) is called as they arrive.

    Returns
    -------
    str
        The path of the file, whose hash is right.

    Raises
    ------
    FetchError
        The server or the way to it fails.
    WeightsError
        What came is another file: it is thrown away.
    """
    try:
        import pooch
    except ImportError:
        raise FetchError("fetching takes the package pooch (pip install pooch)") from None
    folder = catalogue.cache_folder() if folder is None else folder
    final = os.path.join(folder, known.file)
    part = final + ".part"

    def downloader(url, output_file, _):
        download(url, part, known.size, report)
        os.replace(part, output_file)

    pooch.get_logger().setLevel("ERROR")
    try:
        os.makedirs(folder, exist_ok=True)
        return pooch.retrieve(known.url, known.hash, known.file, folder, downloader=downloader)
    except ValueError as error:
        # pooch's word for a wrong hash.
        raise weights_error(final, f"not {known.name}, thrown away: what {known.url} gives has "
                                   "another hash than is known of it") from error
    except OSError as error:
        raise FetchError(one_line(f"{final}: cannot be written: "
                                  f"{error.strerror or error}")) from error


def download(url, part, size=None, report=None):
    """Download into a file, beginning after what it holds already.

    Parameters
    ----------
    url : str
    part : str
        Is made or gets longer; it is left as it is when an error ends this.
    size : int, optional
        The bytes that it must have.
    report : callable, optional
        As `fetch` takes it.

    Raises
    ------
    FetchError
    OSError
        The file cannot be written.
    """
    import requests

    failures, most = 0, 0
    while True:
        try:
            _try_once(requests, url, part, size, report)
            return
        except requests.RequestException as error:
            reason = _reason(error)
        # What the server takes back does not count as progress.
        have = os.path.getsize(part) if os.path.exists(part) else 0
        failures = 0 if have > most else failures + 1
        most = max(have, most)
        if failures >= TRIES:
            raise FetchError(one_line(f"{url}: {reason}; {have} bytes are kept to go on from"))
        time.sleep(FIRST_WAIT * 2 ** failures)


def _try_once(requests, url, part, size, report):
    have = os.path.getsize(part) if os.path.exists(part) else 0
    # Compressed on the way, a part could not be told from the whole.
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == 416:
            # Nothing lies beyond what is here: it is whole, or not of this file.
            total = _number(response, r"bytes \*/(\d+)")
            if total != have:
                _cut(part, 0)
                raise requests.ConnectionError("the server has another file than before")
            return
        if response.status_code >= 400:
            if response.status_code not in (408, 429) and response.status_code < 500:
                raise FetchError(one_line(
                    f"{url}: the server says {response.status_code} {response.reason}"))
            raise requests.ConnectionError(
                f"the server says {response.status_code} {response.reason}")
        start, length = 0, response.headers.get("Content-Length", "")
        if response.status_code == 206:
            start = _number(response, r"bytes (\d+)-\d+/(?:\d+|\*)")
            if start != have:
                _cut(part, 0)
                raise requests.ConnectionError("the server goes on at another place")
        total = start + int(length) if length.isdigit() else None
        if total is not None and total > (size or MAX_BYTES):
            raise FetchError(one_line(f"{url}: the server has a file of {total} bytes, "
                                      f"{size or MAX_BYTES} is the most that is expected"))
        have = _receive(requests, response, part, start, size or MAX_BYTES, total, report)
        if have < (total or size or 0):
            raise requests.ConnectionError("the connection was cut")


def _receive(requests, response, part, start, most, total, report):
    """Write what comes after the first `start` bytes; returns the bytes that are there then."""
    have = start
    with open(part, "r+b" if start else "wb") as stream:
        stream.seek(start)
        try:
            for block in response.iter_content(BLOCK_BYTES):
                have += len(block)
                if have > most:
                    # Nothing of it is kept.
                    stream.seek(0)
                    raise FetchError(one_line(f"{response.url}: sends more than {most} bytes"))
                stream.write(block)
                if report is not None:
                    report(have, total)
        finally:
            stream.truncate()
            stream.flush()
            os.fsync(stream.fileno())
    return have


def _cut(part, size):
    with contextlib.suppress(OSError):
        os.truncate(part, size)


def _number(response, pattern):
    match = re.fullmatch(pattern, response.headers.get("Content-Range", "").strip())
    return int(match[1]) if match else None


def _reason(error):
    """What a user can do something with, out of an error of requests."""
    while error.__context__ is not None and error.args and not isinstance(error.args[0], str):
        error = error.__context__
    reason = getattr(error, "reason", None) or error
    text = " ".join(str(reason).split())
    text = re.sub(r"^<?[\w.]+(?:\([^)]*\))?(?: object at 0x\w+>)?: ", "", text)
    return text if len(text) <= 160 else text[:157] + "..."
