"""The size of the L2 cache, as Linux tells it, or assumed."""
import pytest

from tinyfcn.kernels.cpu import caches


def tell(folder, *indices):
    """Write what Linux says of caches: (level, type, size) each."""
    for index, (level, kind, size) in enumerate(indices):
        entry = folder / f"index{index}"
        entry.mkdir()
        for name, text in (("level", level), ("type", kind), ("size", size)):
            if text is not None:
                (entry / name).write_text(f"{text}\n")
    return folder


def test_the_second_level_counts(tmp_path):
    folder = tell(tmp_path, ("1", "Data", "48K"), ("1", "Instruction", "32K"),
                  ("2", "Unified", "1280K"), ("3", "Unified", "307200K"))
    assert caches.l2_bytes(folder) == 1280 * 1024


@pytest.mark.parametrize("indices", [
    [],
    [("1", "Data", "48K"), ("3", "Unified", "8192K")],
    [("2", "Unified", None)],
    [("2", "Unified", "many")],
    [(None, "Unified", "1024K")],
])
def test_assumed_where_the_system_does_not_say(indices, tmp_path):
    assert caches.l2_bytes(tell(tmp_path, *indices)) == caches.ASSUMED_BYTES


def test_assumed_without_the_folder(tmp_path):
    assert caches.l2_bytes(tmp_path / "nothing") == caches.ASSUMED_BYTES
    assert 256 << 10 <= caches.ASSUMED_BYTES <= 1 << 20
