"""Files that appear whole and together, or not at all."""
import os
import stat

import pytest

from tinyfcn.data.outputs import staged_files


def test_files_appear_when_the_block_ends(tmp_path):
    with staged_files() as stage:
        stage(str(tmp_path / "a"), b"one")
        stage(str(tmp_path / "b"), b"two")
        assert not (tmp_path / "a").exists()
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a": b"one", "b": b"two"}


def test_what_was_there_is_replaced(tmp_path):
    (tmp_path / "a").write_bytes(b"old and longer")
    with staged_files() as stage:
        stage(str(tmp_path / "a"), b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, ValueError])
def test_an_error_leaves_nothing(tmp_path, error):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(error):
        with staged_files() as stage:
            stage(str(tmp_path / "a"), b"new")
            stage(str(tmp_path / "b"), b"new")
            raise error
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a": b"old"}


def test_a_full_disk_leaves_nothing_and_names_the_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        with staged_files() as stage:
            stage(str(tmp_path / "a"), b"new")
    assert caught.value.filename == str(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError) as caught:
        with staged_files() as stage:
            stage(str(tmp_path / "a"), b"new")
    assert caught.value.filename == str(tmp_path / "a")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.skipif(os.name != "posix", reason="permission bits of POSIX")
def test_others_may_read_what_is_written(tmp_path):
    old = os.umask(0o022)
    try:
        with staged_files() as stage:
            stage(str(tmp_path / "a"), b"new")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644
