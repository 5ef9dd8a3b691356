"""Fetching, from a server on loopback that cuts, lies and refuses."""
import hashlib
import http.server
import os
import threading

import numpy as np
import pytest

from tinyfcn.weights import WeightsError, catalogue, fetching
from tinyfcn.weights.catalogue import KnownFile
from tinyfcn.weights.fetching import FetchError

pytest.importorskip("pooch")

CONTENT = np.random.default_rng(0).bytes(1_000_000)


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT, as `plan` says: one entry for each request, then as it should.

    An entry is a dict of: status; cut, the bytes after which the connection ends; ranges, whether
    a part can be asked for; content; length, what is said of it.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan, self.asked = [], []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/weights.bin"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.asked.append(asked)
        step = server.plan.pop(0) if server.plan else {}
        self.close_connection = True
        if "status" in step:
            self.send_error(step["status"])
            return
        content, start = step.get("content", CONTENT), 0
        if asked and step.get("ranges", True):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            said = step.get("start", start)
            self.send_header("Content-Range", f"bytes {said}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if step.get("length", True):
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][:step.get("cut", len(content))])


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetching, "FIRST_WAIT", 0.001)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def known(server):
    return KnownFile("file", "a file", server.url, "weights.bin",
                     f"sha256:{hashlib.sha256(CONTENT).hexdigest()}")


def content_of(path):
    with open(path, "rb") as stream:
        return stream.read()


def test_a_file_comes_once_into_the_cache(server, known, tmp_path):
    seen = []
    path = fetching.fetch(known, tmp_path / "new" / "cache", lambda *a: seen.append(a))
    assert path == str(tmp_path / "new" / "cache" / "weights.bin")
    assert content_of(path) == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT)) and len(seen) > 1
    assert fetching.fetch(known, tmp_path / "new" / "cache") == path
    assert server.asked == [None]
    assert os.listdir(tmp_path / "new" / "cache") == ["weights.bin"]


def begins(asked, cut, blocks=1):
    """What was asked for begins at the cut, or within the last blocks before it."""
    start = 0 if asked is None else int(asked.removeprefix("bytes=").removesuffix("-"))
    assert cut - blocks * fetching.BLOCK_BYTES < start <= cut + blocks * fetching.BLOCK_BYTES


def test_a_connection_that_is_cut_goes_on_where_it_was(server, known, tmp_path):
    server.plan = [{"cut": 300_000}, {"cut": 1}, {"cut": 0}, {"cut": 400_000}]
    assert content_of(fetching.fetch(known, tmp_path)) == CONTENT
    begins(server.asked[0], 0)
    begins(server.asked[1], 300_000)
    begins(server.asked[4], 700_000 - fetching.BLOCK_BYTES, 2)
    assert len(server.asked) == 5


def test_a_later_call_goes_on_too(server, known, tmp_path):
    server.plan = [{"cut": 250_000}] + [{"cut": 0}] * fetching.TRIES
    with pytest.raises(FetchError, match="24[0-9]{4} bytes are kept to go on from"):
        fetching.fetch(known, tmp_path)
    assert os.listdir(tmp_path) == ["weights.bin.part"]
    server.plan.clear()
    server.asked.clear()
    assert content_of(fetching.fetch(known, tmp_path)) == CONTENT
    assert len(server.asked) == 1
    begins(server.asked[0], 250_000)
    assert os.listdir(tmp_path) == ["weights.bin"]


def test_a_server_without_ranges_begins_again(server, known, tmp_path):
    server.plan = [{"cut": 300_000}, {"ranges": False, "cut": 200_000}, {"ranges": False}]
    assert content_of(fetching.fetch(known, tmp_path)) == CONTENT


def test_a_server_that_goes_on_elsewhere_is_not_believed(server, known, tmp_path):
    server.plan = [{"cut": 300_000}, {"start": 0}]
    assert content_of(fetching.fetch(known, tmp_path)) == CONTENT
    assert len(server.asked) == 3 and server.asked[2] is None
    begins(server.asked[1], 300_000)


def test_a_part_that_is_whole_already(server, known, tmp_path):
    (tmp_path / "weights.bin.part").write_bytes(CONTENT)
    assert content_of(fetching.fetch(known, tmp_path)) == CONTENT
    (tmp_path / "weights.bin").unlink()
    (tmp_path / "weights.bin.part").write_bytes(CONTENT + b"more")
    assert content_of(fetching.fetch(known, tmp_path)) == CONTENT


def test_wrong_bytes_are_thrown_away(server, known, tmp_path):
    wrong = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
    server.plan = [{"content": wrong}]
    with pytest.raises(WeightsError, match="weights.bin: not file, thrown away: .* another hash"):
        fetching.fetch(known, tmp_path)
    assert os.listdir(tmp_path) == []
    assert content_of(fetching.fetch(known, tmp_path)) == CONTENT


def test_a_wrong_part_is_thrown_away(server, known, tmp_path):
    (tmp_path / "weights.bin.part").write_bytes(bytes(1000))
    with pytest.raises(WeightsError, match="another hash"):
        fetching.fetch(known, tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_damaged_file_in_the_cache_is_fetched_again(server, known, tmp_path):
    (tmp_path / "weights.bin").write_bytes(CONTENT[:-1])
    assert content_of(fetching.fetch(known, tmp_path)) == CONTENT


def test_errors_of_the_server(server, known, tmp_path):
    server.plan = [{"status": 404}]
    with pytest.raises(FetchError, match="the server says 404 Not Found"):
        fetching.fetch(known, tmp_path)
    assert len(server.asked) == 1
    server.plan = [{"status": 503}, {"status": 429}]
    assert content_of(fetching.fetch(known, tmp_path)) == CONTENT
    server.plan = [{"status": 500}] * fetching.TRIES
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(FetchError, match="the server says 500"):
        fetching.fetch(known, tmp_path)
    assert not (tmp_path / "weights.bin").exists()


def test_a_server_that_is_not_there(known, server, tmp_path):
    nowhere = known._replace(url="http://127.0.0.1:9/weights.bin")
    with pytest.raises(FetchError, match="^http://127.0.0.1:9/weights.bin: .*0 bytes are kept"):
        fetching.fetch(nowhere, tmp_path)


@pytest.mark.parametrize("length", [True, False])
def test_more_than_is_known_of_is_not_taken(server, known, tmp_path, length):
    server.plan = [{"length": length}]
    with pytest.raises(FetchError, match="999999 is the most|more than 999999 bytes"):
        fetching.fetch(known._replace(size=999_999), tmp_path)
    assert not (tmp_path / "weights.bin").exists()
    assert all(each.stat().st_size == 0 for each in tmp_path.iterdir())


def test_a_cut_that_no_length_tells_is_seen_by_the_size(server, known, tmp_path):
    server.plan = [{"length": False, "cut": 1000}]
    path = fetching.fetch(known._replace(size=len(CONTENT)), tmp_path)
    assert content_of(path) == CONTENT


def test_a_folder_that_takes_no_file(server, known, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FetchError, match="cannot be written"):
        fetching.fetch(known, tmp_path / "file")


# The catalogue.


def test_every_entry_makes_sense():
    files = list(catalogue.FILES.values())
    assert len(files) >= 25
    assert len({known.file for known in files}) == len(files)
    for known in files:
        assert known.url.startswith(("https://", "http://"))
        assert os.path.basename(known.file) == known.file
        assert known.about and known.licence
        if known.hash:
            algorithm, _, digest = known.hash.partition(":")
            full = 2 * hashlib.new(algorithm).digest_size
            assert set(digest) <= set("0123456789abcdef") and 8 <= len(digest) <= full
        # What a program fetches is checked by a whole hash.
        assert known.manual or len(digest) == full
        if "drive.google" in known.url or known.hash is None:
            assert known.manual


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("TINYFCN_HOME", str(tmp_path))
    assert catalogue.cache_folder() == str(tmp_path / "weights")
    monkeypatch.delenv("TINYFCN_HOME")
    assert os.path.basename(catalogue.cache_folder()) == "weights"


def test_a_file_of_the_user_is_checked_as_far_as_it_can_be(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    base = KnownFile("x", "about", "https://x", "a")
    digest = hashlib.sha256(b"abc").hexdigest()
    assert catalogue.check(path, base) == ""
    assert catalogue.check(path, base._replace(hash=f"sha256:{digest[:8]}", size=3)) \
        == "size and beginning of sha256"
    assert catalogue.check(path, base._replace(hash=f"sha256:{digest}", by_hand=True)) == "sha256"
    with pytest.raises(WeightsError, match="is not x, or damaged: its md5 is 9001"):
        catalogue.check(path, base._replace(hash="md5:" + "0" * 32))
    with pytest.raises(WeightsError, match="has 3 bytes, x has 4"):
        catalogue.check(path, base._replace(size=4))
