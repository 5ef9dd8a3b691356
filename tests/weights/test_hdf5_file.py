"""HDF5: what is written comes back; what is damaged or hostile is refused in one line."""
import os
import re
import shutil
import stat
import subprocess
import sys
import textwrap

import h5py
import numpy as np
import pytest

from tinyfcn import weights
from tinyfcn.weights import WeightsError, hdf5_safety


def some_tensors():
    rng = np.random.default_rng(3)
    return {
        "conv1_1/weights": rng.standard_normal((3, 3, 3, 8)).astype(np.float32),
        "conv1_1/bias": rng.standard_normal(8).astype(np.float32),
        "fc6/weights": rng.standard_normal((7, 7, 8, 16)),
        "steps": np.array(12345678901),
    }


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.h5"
    weights.write(path, some_tensors(), {"model": "fcn8s"})
    return path


@pytest.fixture
def make(tmp_path):
    """Make a file with h5py alone: no checksum, nothing held back."""
    def _make(fill, name="made.h5", **options):
        path = tmp_path / name
        with h5py.File(path, "w", **options) as file:
            fill(file)
        return path
    return _make


def refuse(path, pattern, function=weights.read):
    with pytest.raises(WeightsError) as caught:
        function(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert re.search(pattern, message), message
    return message


# Round trips.


def test_tensors_come_back_bit_for_bit(good):
    tensors = some_tensors()
    back = weights.read(good)
    assert sorted(back) == sorted(tensors)
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        assert back[name].shape == tensor.shape
        assert back[name].tobytes() == tensor.tobytes()


def test_description_comes_back_with_its_format(tmp_path):
    about = {"model": "fcn8s", "class_names": ["Sky", "Bäume"], "ignore_label": 11,
             "colours": [[1, 2, 3], [4, 5, 6]], "training": {"rate": 1e-3, "note": None}}
    weights.write(tmp_path / "a.h5", {}, about)
    assert weights.describe(tmp_path / "a.h5") == {"format": 1, **about}


def test_shapes_are_told_without_data(good):
    assert weights.shapes(good) == {
        "conv1_1/bias": (8,), "conv1_1/weights": (3, 3, 3, 8), "fc6/weights": (7, 7, 8, 16),
        "steps": ()}


def test_half_precision_touches_floating_point_only(tmp_path):
    path = tmp_path / "half.h5"
    weights.write(path, {"a": np.array([1.0, 1 / 3, -65504, np.inf], np.float32),
                         "b": np.array([70000, -1])}, {}, dtype="float16")
    back = weights.read(path)
    assert back["a"].dtype == np.float16
    np.testing.assert_array_equal(
        back["a"], np.array([1.0, 0.333251953125, -65504, np.inf], np.float16))
    assert back["b"].tolist() == [70000, -1]


def test_half_precision_refuses_to_turn_numbers_into_infinities(tmp_path):
    path = tmp_path / "half.h5"
    with pytest.raises(WeightsError, match="conv/weights has values beyond float16"):
        weights.write(path, {"conv/weights": np.array([1e6], np.float32)}, {}, dtype="float16")
    assert os.listdir(tmp_path) == []


def test_other_programs_read_the_file(good):
    with h5py.File(good, "r") as file:
        np.testing.assert_array_equal(file["conv1_1/bias"][:], some_tensors()["conv1_1/bias"])


def test_same_content_gives_the_same_bytes(tmp_path):
    for name in ("a.h5", "b.h5"):
        weights.write(tmp_path / name, some_tensors(), {"model": "fcn8s"})
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_a_file_changed_with_h5py_can_still_be_read(good):
    with h5py.File(good, "r+") as file:
        file["conv1_1/bias"][0] = 7
        file["more"] = np.zeros(3, np.float32)
    back = weights.read(good)
    assert back["conv1_1/bias"][0] == 7
    assert back["more"].shape == (3,)


def test_plain_files_of_others_are_read(make):
    def fill(file):
        file["a/b"] = np.arange(6, dtype=">f4").reshape(2, 3)
        file.create_dataset("zip", data=np.arange(1000.0), compression="gzip", shuffle=True,
                            fletcher32=True)
        file.create_dataset("none", shape=(0, 4), dtype="f4")
        file.create_group("empty group")
        file.attrs["keras_version"] = "2.2.4-tf"

    for options in ({}, {"libver": "latest"}, {"userblock_size": 1024}):
        path = make(fill, **options)
        assert weights.describe(path) == {}
        back = weights.read(path)
        assert sorted(back) == ["a/b", "none", "zip"]
        assert back["a/b"].dtype == np.dtype("=f4")
        assert back["a/b"].dtype.isnative
        assert back["a/b"].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert back["none"].shape == (0, 4)
        np.testing.assert_array_equal(back["zip"], np.arange(1000.0))


def test_real_keras_file(test_data):
    path = test_data("weights", "keras_mnist_weights.h5")
    assert weights.shapes(path) == {
        "conv2d_2/conv2d_2/bias:0": (32,), "conv2d_2/conv2d_2/kernel:0": (3, 3, 1, 32),
        "conv2d_3/conv2d_3/bias:0": (64,), "conv2d_3/conv2d_3/kernel:0": (3, 3, 32, 64),
        "dense_1/dense_1/bias:0": (10,), "dense_1/dense_1/kernel:0": (1600, 10)}
    for tensor in weights.read(path).values():
        assert tensor.dtype == np.float32
        assert np.isfinite(tensor).all() and np.any(tensor)


# Reading into arrays.


def test_read_into_fills_in_place_and_casts(good):
    tensors = some_tensors()
    arrays = {"conv1_1/bias": np.zeros(8), "conv1_1/weights": np.zeros((3, 3, 3, 8), np.float32),
              "fc6/weights": np.zeros((16, 8, 7, 7), np.float32).T}
    arrays["fc6/weights"] = np.zeros((7, 7, 16, 8), np.float32).swapaxes(2, 3)
    kept = dict(arrays)
    weights.read_into(good, arrays)
    for name, array in arrays.items():
        assert array is kept[name]
        np.testing.assert_array_equal(array, tensors[name].astype(array.dtype))


@pytest.mark.parametrize("name, shape, pattern", [
    ("conv9/weights", (2,), "holds no conv9/weights"),
    ("fc6/weights", (7, 7, 8, 15), r"fc6/weights is \(7, 7, 8, 16\) in the file"),
])
def test_read_into_touches_nothing_when_it_fails(good, name, shape, pattern):
    bias = np.full(8, 5.0)
    refuse(good, pattern,
           lambda path: weights.read_into(path, {"conv1_1/bias": bias, name: np.zeros(shape)}))
    assert (bias == 5).all()


def test_read_into_touches_nothing_when_data_are_damaged(make):
    path = make(lambda file: [
        file.create_dataset(name, data=np.arange(100.0), fletcher32=True) for name in "ab"])
    content = bytearray(path.read_bytes())
    at = content.rindex(np.arange(100.0).tobytes())
    content[at + 8] ^= 1
    path.write_bytes(content)
    arrays = {"a": np.zeros(100), "b": np.zeros(100)}
    refuse(path, "damaged HDF5 file: [ab] cannot be read",
           lambda path: weights.read_into(path, arrays))
    assert not arrays["a"].any() and not arrays["b"].any()


# Writing is all or nothing.


def fails_to_write(path, pattern, tensors=None, about=None):
    with pytest.raises(WeightsError) as caught:
        weights.write(path, some_tensors() if tensors is None else tensors, about or {})
    message = str(caught.value)
    assert message.startswith(f"{path}: cannot be written: ")
    assert "\n" not in message
    assert re.search(pattern, message), message


def test_a_failed_write_leaves_the_old_file_and_no_other(good, monkeypatch):
    before = good.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    for name in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            fails_to_write(good, "No space left on device")
        assert good.read_bytes() == before
        assert os.listdir(good.parent) == ["good.h5"]


def test_an_interrupted_write_leaves_the_old_file_and_no_other(good, monkeypatch):
    before = good.read_bytes()

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        weights.write(good, {}, {})
    assert good.read_bytes() == before
    assert os.listdir(good.parent) == ["good.h5"]


def test_a_full_disk_is_seen_before_the_library_sees_it(good, monkeypatch):
    usage = shutil.disk_usage(good.parent)._replace(free=70_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    fails_to_write(good, "no space left", {"a": np.zeros(10_000)})
    weights.write(good, {"a": np.zeros(10)}, {})


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_file_that_cannot_grow_ends_in_one_line(good):
    before = good.read_bytes()
    program = textwrap.dedent("""
        import resource, sys
        import numpy as np
        from tinyfcn import weights
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
        try:
            weights.write(sys.argv[1], {"a/b": np.zeros(100_000), "c": np.zeros(5)}, {})
        except weights.WeightsError as error:
            print(error)
    """)
    result = subprocess.run([sys.executable, "-c", program, str(good)], capture_output=True,
                            text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{good}: cannot be written: File too large\n"
    assert "Traceback" not in result.stderr
    assert good.read_bytes() == before
    assert os.listdir(good.parent) == ["good.h5"]


def test_folders_that_take_no_file(good, tmp_path):
    fails_to_write(tmp_path / "missing" / "a.h5", "No such file or directory")
    fails_to_write(good / "a.h5", "Not a directory")
    fails_to_write(tmp_path, "folder")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0,
                    reason="no folder is closed to this user")
def test_a_folder_without_permission(tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    fails_to_write(folder / "a.h5", "Permission denied")


def test_everything_is_on_the_disk_before_the_name_changes(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, real=real, name=name: (calls.append(name),
                                                                        real(*a))[1])
    weights.write(tmp_path / "a.h5", {}, {})
    assert calls[:2] == ["fsync", "replace"]
    if os.name == "posix":
        assert calls[2:] == ["fsync"]


@pytest.mark.skipif(os.name != "posix", reason="needs a file mask and links")
def test_permissions_and_links_are_those_of_any_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        weights.write(tmp_path / "real.h5", {}, {"model": "first"})
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(tmp_path / "real.h5").st_mode) == 0o640
    (tmp_path / "link.h5").symlink_to(tmp_path / "real.h5")
    weights.write(tmp_path / "link.h5", {}, {"model": "second"})
    assert (tmp_path / "link.h5").is_symlink()
    assert weights.describe(tmp_path / "real.h5")["model"] == "second"


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "a/../b", ".", "a\0b", "a" * 400])
def test_names_that_cannot_be_stored(tmp_path, name):
    fails_to_write(tmp_path / "a.h5", "is not a tensor's name", {name: np.zeros(1)})


def test_what_is_no_number_is_not_written(tmp_path):
    fails_to_write(tmp_path / "a.h5", "a is of type object", {"a": np.array([None])})
    fails_to_write(tmp_path / "a.h5", "a is of type complex128", {"a": np.array([1j])})
    fails_to_write(tmp_path / "a.h5", "not JSON", {}, {"mean": float("nan")})
    fails_to_write(tmp_path / "a.h5", "not JSON", {}, {"mean": np.zeros(2)})
    fails_to_write(tmp_path / "a.h5", "more than 1048576 bytes", {}, {"x": "y" * (1 << 20)})
    assert os.listdir(tmp_path) == []


# Not HDF5, or not whole.


def test_what_is_no_weight_file(tmp_path):
    refuse(tmp_path / "missing.h5", "No such file")
    refuse(tmp_path, "folder")
    (tmp_path / "empty.h5").touch()
    refuse(tmp_path / "empty.h5", "is empty")
    (tmp_path / "text.h5").write_text("<html>not found</html>" * 100)
    refuse(tmp_path / "text.h5", "not a weight file of a known format")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.h5")
    refuse(tmp_path / "pipe.h5", "not a regular file")


def test_a_name_with_a_line_break_stays_on_one_line(tmp_path):
    with pytest.raises(WeightsError) as caught:
        weights.read(tmp_path / "a\nb.h5")
    assert str(caught.value).startswith(f"{tmp_path}/a\\nb.h5: ")


def test_one_changed_byte_is_seen_by_the_checksum(good):
    content = bytearray(good.read_bytes())
    at = content.index(some_tensors()["fc6/weights"].tobytes())
    content[at + 1000] ^= 1
    good.write_bytes(content)
    for function in (weights.read, weights.shapes, weights.describe):
        refuse(good, "does not have the checksum", function)


def test_a_file_that_changes_is_checked_again(good):
    weights.read(good)
    status = os.stat(good)
    content = bytearray(good.read_bytes())
    content[len(content) // 2] ^= 1
    good.write_bytes(content)
    os.utime(good, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    refuse(good, "does not have the checksum")


MUTATIONS = textwrap.dedent("""
    import collections, sys
    import numpy as np
    from tinyfcn import weights

    source, target, seeds, mutated, strict = sys.argv[1:]
    original = open(source, "rb").read()
    right = {name: tensor.tobytes() for name, tensor in weights.read(source).items()}
    outcomes = collections.Counter()
    for seed in range(int(seeds)):
        rng = np.random.default_rng(seed)
        if mutated == "mutate":
            content = bytearray(original)
            for _ in range(rng.integers(1, 4)):
                at = rng.integers(len(content))
                content[at] = (content[at] + rng.integers(1, 256)) % 256
        else:
            content = original[:rng.integers(len(original))]
        with open(target, "wb") as stream:
            stream.write(content)
        try:
            back = weights.read(target)
            if strict == "strict":
                same = right == {name: tensor.tobytes() for name, tensor in back.items()}
                assert same, f"seed {seed}: other values"
            outcomes["read"] += 1
        except weights.WeightsError as error:
            assert str(error).startswith(target + ": ") and str(error).isprintable(), error
            outcomes["refused"] += 1
    print(outcomes["refused"], outcomes["read"])
""")


def run_mutations(source, seeds, kind, strict):
    """Read changed files in a process of their own, so that a crash is a failure to be seen."""
    result = subprocess.run(
        [sys.executable, "-c", MUTATIONS, str(source), str(source) + ".changed", str(seeds), kind,
         strict], capture_output=True, text=True, timeout=500)
    assert result.returncode == 0, result.stderr[-2000:]
    refused, read = map(int, result.stdout.split())
    assert refused + read == seeds
    return refused


def small_file(path):
    rng = np.random.default_rng(0)
    weights.write(path, {f"conv1_{i}/{name}": rng.standard_normal(shape).astype(np.float32)
                         for i in (1, 2) for name, shape in (("weights", (3, 3, 2, 4)),
                                                             ("bias", (4,)))},
                  {"model": "fcn8s"})


def test_300_mutations_give_the_right_values_or_an_error(tmp_path):
    small_file(tmp_path / "small.h5")
    # What is left are changes within the checksum's own marking.
    assert run_mutations(tmp_path / "small.h5", 300, "mutate", "strict") >= 290


def test_20_truncations_give_the_right_values_or_an_error(tmp_path):
    small_file(tmp_path / "small.h5")
    assert run_mutations(tmp_path / "small.h5", 20, "truncate", "strict") >= 19


def test_mutations_without_a_checksum_never_reach_this_process(tmp_path):
    small_file(tmp_path / "small.h5")
    content = (tmp_path / "small.h5").read_bytes()[:-hdf5_safety.TRAILER_SIZE]
    (tmp_path / "small.h5").write_bytes(content)
    assert run_mutations(tmp_path / "small.h5", 40, "mutate", "any") >= 1


def test_truncation_of_a_file_without_a_checksum(make):
    path = make(lambda file: file.create_dataset("a", data=np.arange(1000.0)))
    content = path.read_bytes()
    for size in (8, 100, 1000, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        refuse(path, "damaged HDF5 file")


@pytest.mark.skipif(os.name != "posix", reason="needs a shell and signals")
@pytest.mark.parametrize("line, pattern", [
    ("kill -s SEGV $$", "reading it crashes the HDF5 library"),
    ("exec sleep 60", r"reading it did not end in 0\.5 s"),
    ("echo boom >&2; exit 1", "cannot be examined: boom"),
])
def test_a_library_that_crashes_or_hangs_is_an_error(make, tmp_path, monkeypatch, line, pattern):
    path = make(lambda file: file.create_dataset("a", data=np.arange(3)))
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{line}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(hdf5_safety, "CHILD_SECONDS", 0.5)
    refuse(path, pattern)


# Well-formed and hostile.


def cycle(file):
    file["a/b"] = np.zeros(2)
    file["a/c"] = file["a"]


def same_twice(file):
    file["a"] = np.zeros(2)
    file["b"] = file["a"]


def virtual(file):
    layout = h5py.VirtualLayout(shape=(4,), dtype="f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", shape=(4,))
    file.create_virtual_dataset("a", layout)


def deep(file):
    file["/".join("abcdefghijkl")] = np.zeros(2)


def late(file):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
    h5py.h5d.create(file.id, b"a", h5py.h5t.IEEE_F32LE,
                    h5py.h5s.create_simple((1 << 20, 1 << 20)), properties)


def huge_chunk(file):
    file.create_dataset("a", shape=(4, 4), maxshape=(None, None), chunks=(1 << 13, 1 << 13),
                        dtype="f8", compression="gzip")


def half_filled(file):
    data = file.create_dataset("a", shape=(1 << 20, 100), chunks=(1 << 10, 100), dtype="f4")
    data[:1024] = 1


HOSTILE = [
    (lambda file: file.update({"a": h5py.ExternalLink("/etc/passwd", "/x")}),
     "a is a link to elsewhere"),
    (lambda file: file.update({"a": h5py.SoftLink("/a")}), "a is a link to elsewhere"),
    (cycle, "a/c is the same object as another entry"),
    (same_twice, "b is the same object as another entry"),
    (virtual, "a is a virtual dataset"),
    (lambda file: file.create_dataset("a", shape=(16,), dtype="u1",
                                      external=[("/etc/passwd", 0, 16)]),
     "a has its data in another file"),
    (lambda file: file.create_dataset("a", data=["x", "y"]), "a does not hold numbers"),
    (lambda file: file.create_dataset("a", data=np.array([b"x", b"yz"])),
     "a does not hold numbers"),
    (lambda file: file.create_dataset("a", shape=(2,), dtype=h5py.vlen_dtype(np.float32)),
     "a does not hold numbers"),
    (lambda file: file.create_dataset("a", shape=(2,), dtype=h5py.ref_dtype),
     "a does not hold numbers"),
    (lambda file: file.create_dataset("a", data=np.zeros(2, [("x", "f4")])),
     "a does not hold numbers"),
    (lambda file: file.create_dataset("a", data=np.zeros(2, complex)), "a does not hold numbers"),
    (lambda file: file.create_dataset("a", data=np.zeros(2, np.longdouble)),
     "a is of a type that is not read"),
    (lambda file: file.create_dataset("a", data=h5py.Empty("f4")), "a is empty"),
    (lambda file: file.update({"a": np.dtype("f4")}), "a is neither a group nor a dataset"),
    (lambda file: file.create_dataset("a", data=np.zeros(100), compression="lzf"),
     r"a is stored with an unknown filter \(32000\)"),
    (late, r"a declares 4398046511104 bytes \(1048576, 1048576\), more than the file holds"),
    (lambda file: file.create_dataset("a", shape=(1 << 20, 1 << 20), dtype="f4",
                                      chunks=(64, 64), compression="gzip"),
     "a declares 4398046511104 bytes"),
    (half_filled, "a declares 419430400 bytes"),
    (huge_chunk, "a is stored in chunks larger than itself"),
    (deep, "groups nested deeper than 8"),
    (lambda file: file.update({"a" * 301: np.zeros(1)}), "a name has more than 300 characters"),
    (lambda file: file.create_dataset("a", data=np.zeros((1,) * 9)), "a has 9 dimensions"),
    (lambda file: file.update({"a\nb\x1b[31m": h5py.SoftLink("/a")}),
     r"a\\nb\\x1b\[31m is a link to elsewhere"),
]


@pytest.mark.parametrize("fill, pattern", HOSTILE, ids=[pattern for _, pattern in HOSTILE])
def test_hostile_files_are_refused(make, fill, pattern):
    path = make(fill)
    for function in (weights.read, weights.shapes):
        refuse(path, pattern, function)


@pytest.mark.parametrize("name, value, pattern", [
    ("MAX_TENSORS", 2, "more than 2 entries"),
    ("MAX_TENSOR_BYTES", 100, "a has 240 bytes; 100 is the most"),
    ("MAX_TOTAL_BYTES", 500, "declares 720 bytes of tensors; 500 is the most"),
])
def test_bounds_hold(make, monkeypatch, name, value, pattern):
    monkeypatch.setattr(hdf5_safety, name, value)
    refuse(make(lambda file: file.update({name: np.zeros(30) for name in "abc"})), pattern)


@pytest.mark.parametrize("value, pattern", [
    (7, "is not a text"),
    (["a", "b"], "is not a text"),
    ("", "is not JSON"),
    ("{", "is not JSON"),
    ('{"format": 1, "x": NaN}', "is not JSON"),
    ("[" * 100_000, "is not JSON"),
    (np.bytes_(b'{"format": 1, "x": "\xff"}'), "is not JSON"),
    ("[1]", "is not a JSON object"),
    ("{}", "is of format null; format 1 is read here"),
    ('{"format": 2}', "is of format 2; format 1 is read here"),
    ('{"format": true}', "is of format true"),
    ('{"format": 1, "x": "' + "y" * (1 << 20) + '"}', "is too long"),
], ids=["number", "array", "empty", "cut", "nan", "deep", "bytes", "list", "no format", "format 2",
        "format true", "long"])
def test_descriptions_that_are_refused(make, value, pattern):
    path = make(lambda file: file.attrs.update({"tinyfcn": value}))
    refuse(path, pattern, weights.describe)


def test_a_description_stored_as_fixed_text_is_read(make):
    path = make(lambda file: file.attrs.update({"tinyfcn": np.bytes_(b'{"format": 1, "a": 2}')}))
    assert weights.describe(path) == {"format": 1, "a": 2}


def test_a_ratio_bomb_is_refused_before_it_is_unpacked(make):
    path = make(lambda file: file.create_dataset("fc6", data=np.zeros((3000, 6000), np.float32),
                                                 compression=9, chunks=(1000, 6000)))
    refuse(path, r"fc6 unpacks to 72000000 bytes from \d{5}, which is refused")
    make(lambda file: file.create_dataset("a", data=np.zeros((500, 6000), np.float32),
                                          compression=9))
    assert not weights.read(path)["a"].any()
