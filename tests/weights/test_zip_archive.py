"""Zip archives: members that lead elsewhere, lie or unpack to air are refused at once."""
import io
import struct
import zipfile

import numpy as np
import pytest

from tinyfcn import weights
from tinyfcn.weights import zip_archive


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def archive(path, members, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in members:
            file.writestr(name, data)
    return path


@pytest.fixture
def good(tmp_path):
    return archive(tmp_path / "good.npz", [("a.npy", npy(np.arange(3.0)))])


@pytest.mark.parametrize("name", ["../a.npy", "/etc/a.npy", "x/../../a.npy", "c:/a.npy",
                                  "x\\..\\a.npy"])
def test_names_that_lead_elsewhere(tmp_path, refuse, name):
    path = archive(tmp_path / "a.npz", [("b.npy", npy(np.ones(1))), (name, npy(np.ones(1)))])
    # zipfile writes what it is told, but for the separator of the system.
    refuse(path, "has a name that leads elsewhere")


def test_duplicate_names(tmp_path, refuse):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = archive(tmp_path / "a.npz", [("a.npy", npy(np.ones(1)))] * 2)
    refuse(path, "its member a.npy is there twice")


def test_a_ratio_bomb_is_refused_before_it_is_unpacked(tmp_path, refuse, monkeypatch):
    header = npy(np.empty((0,), np.uint8))
    air = header.replace(b"(0,), }  ", b"(99999872,), }"[:9].ljust(9)) + bytes(100_000_000)
    path = archive(tmp_path / "a.npz", [("a.npy", air)], zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 200_000

    def fail(*_):
        raise AssertionError("unpacked")

    monkeypatch.setattr(zip_archive.Archive, "_unpack", fail)
    refuse(path, "unpacks to 100000128 bytes from 97")


def test_small_air_is_no_bomb(tmp_path):
    path = tmp_path / "zeros.npz"
    np.savez_compressed(path, upscore=np.zeros((64, 64, 21, 21), np.float32))
    assert not weights.read(path)["upscore"].any()


def test_a_wrong_checksum(good, refuse):
    content = bytearray(good.read_bytes())
    content[content.index(np.arange(3.0).tobytes()) + 7] ^= 1
    good.write_bytes(content)
    refuse(good, "a.npy: its content does not have its checksum")


def test_a_wrong_checksum_of_a_compressed_member(tmp_path, refuse):
    path = archive(tmp_path / "a.npz", [("a.npy", npy(np.arange(999.0)))], zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    refuse(path, "damaged zip archive: a.npy")


def test_sizes_that_lie(good, refuse):
    content = good.read_bytes()
    entry = content.index(b"PK\x01\x02")
    for at, value, pattern in (
            (20, 1 << 30, "declares .* bytes, .* are stored"),
            (24, 1 << 30, "declares 1073741824 bytes"),
            (24, 0xFFFFFFF0, "declares 4294967280 bytes"),
            (42, 1 << 20, "more bytes than there are|damaged zip"),
            (8, 1, "is encrypted"),
            (10, 12, "compressed by method 12, which is not read")):
        layout = "<H" if at in (8, 10) else "<I"
        changed = bytearray(content)
        changed[entry + at:entry + at + struct.calcsize(layout)] = struct.pack(layout, value)
        good.write_bytes(changed)
        refuse(good, pattern)


def test_members_that_overlap(tmp_path, refuse):
    path = archive(tmp_path / "a.npz", [("a.npy", npy(np.ones(9))), ("b.npy", npy(np.ones(9)))])
    content = bytearray(path.read_bytes())
    second = content.rindex(b"PK\x01\x02")
    # Both entries of the table point to the first member.
    content[second + 42:second + 46] = struct.pack("<I", 0)
    path.write_bytes(content)
    refuse(path, "more bytes than there are before the next|damaged zip archive")


def test_a_table_of_very_many_members(good, refuse):
    content = bytearray(good.read_bytes())
    end = content.rindex(b"PK\x05\x06")
    content[end + 10:end + 12] = struct.pack("<H", 65535)
    good.write_bytes(content)
    refuse(good, "a zip archive of 65535 members; 20000 is the most")


@pytest.mark.parametrize("cut", [1, 10, 30, 100, 200])
def test_truncation(good, refuse, cut):
    good.write_bytes(good.read_bytes()[:-cut])
    refuse(good, "damaged zip archive")


def test_archives_of_something_else(tmp_path, refuse):
    refuse(archive(tmp_path / "a.zip", [("readme.txt", b"x")]), "but a zip archive without arrays")
