"""safetensors: what the library writes comes back; what lies is refused."""
import json
import os
import stat
import struct
import subprocess
import sys

import numpy as np
import pytest

from tinyfcn import weights
from tinyfcn.weights.layouts import recognise

safetensors = pytest.importorskip("safetensors.numpy")


def test_vgg16_with_timms_names(tmp_path, vgg16, same):
    names = [f"features.{i}" for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)] \
        + ["pre_logits.fc1", "pre_logits.fc2", "head.fc"]
    content = {f"{name}.{kind}": array for name, arrays in zip(names, vgg16.values())
               for kind, array in zip(("weight", "bias"), arrays)}
    content["pre_logits.fc1.weight"] = content["pre_logits.fc1.weight"].reshape(48, 64, 7, 7)
    content["pre_logits.fc2.weight"] = content["pre_logits.fc2.weight"].reshape(48, 48, 1, 1)
    safetensors.save_file(content, tmp_path / "a.safetensors", {"format": "pt"})
    read = weights.read(tmp_path / "a.safetensors")
    assert read.format == "safetensors"
    assert read.notes == ['says of itself {"format": "pt"}']
    same(dict(sorted(read.items())), dict(sorted(content.items())))
    assert isinstance(read["pre_logits.fc1.weight"], np.memmap)
    assert recognise(read).name == "timm-vgg"


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "u2", "u4", "?"])
def test_every_type_of_number(tmp_path, dtype):
    array = np.array([[0, 1], [1, 1]], dtype)
    safetensors.save_file({"a": array, "scalar": np.array(1, dtype),
                           "none": np.empty((0, 2), dtype)}, tmp_path / "a.safetensors")
    read = weights.read(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(read["a"], array)
    assert read["a"].dtype == array.dtype
    assert read["scalar"].shape == () and read["none"].shape == (0, 2)


def make(path, table, data=b"", length=None):
    text = table if isinstance(table, bytes) else json.dumps(table).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def test_bfloat16_is_widened_exactly(tmp_path):
    values = np.array([1, -2.5, 3.140625, np.inf], np.float32)
    halves = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    path = make(tmp_path / "a", {"a": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}},
                halves)
    read = weights.read(path)["a"]
    assert read.dtype == np.float32
    assert read.tolist() == values.reshape(2, 2).tolist()


def entry(**changes):
    return {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}


TWICE = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},' \
        b'"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}'


@pytest.mark.parametrize("table, options, pattern", [
    (entry(), {"data": b"1234"}, "damaged safetensors file"),
    (entry(), {"data": b"123456789"}, "damaged safetensors file"),
    (entry(shape=[3]), {}, "damaged safetensors file|declares 12 bytes"),
    (entry(shape=[1 << 40, 1 << 40]), {}, "damaged safetensors file|declares"),
    (entry(shape=[-2]), {}, "damaged safetensors file|negative"),
    (entry(data_offsets=[8, 0]), {}, "damaged safetensors file"),
    (entry(data_offsets=[4, 12]), {"data": b"1" * 12}, "damaged safetensors file"),
    (entry(dtype="F99"), {}, "damaged safetensors file|F99, which is not read"),
    (entry(dtype=7), {}, "damaged safetensors file|type 7"),
    (entry(shape="2"), {}, "damaged safetensors file"),
    ({"a\nb": entry()["a"]}, {}, r"control characters: a\\nb"),
    ({"": entry()["a"]}, {}, "a tensor has no name"),
    ({"__metadata__": {"a": 1}}, {"data": b""}, "damaged safetensors file"),
    (TWICE, {}, "a is there twice"),
    (b"{" + b" " * 20, {}, "is no JSON object of tensors"),
    (b'{"a":' * 5000, {}, "is no JSON object of tensors"),
    (b"{}", {"length": 1 << 40}, "its table declares 1099511627776 bytes, the file has"),
], ids=str)
def test_tables_that_lie(tmp_path, refuse, table, options, pattern):
    path = make(tmp_path / "a.safetensors", table, **{"data": b"12345678"} | options)
    refuse(path, pattern)


def test_a_huge_table_is_not_read(tmp_path, refuse):
    path = make(tmp_path / "a.safetensors", b"{" + b" " * (9 << 20) + b"}")
    refuse(path, "its table has 9437186 bytes; 8388608 is the most")


def test_what_is_written_is_read_by_the_library_and_here(tmp_path):
    path = tmp_path / "out.safetensors"
    about = {"model": "lenet", "training": {"note": "Bäume"}}
    weights.write(path, {"a/b": np.array([1, 2, 1 / 3], np.float32), "n": np.array(7)}, about,
                  "float16")
    assert safetensors.load_file(path)["a/b"].dtype == np.float16
    assert weights.describe(path) == {"format": 1, **about}
    read = weights.read(path)
    assert read.format == "tinyfcn model (safetensors)"
    assert read["a/b"].tolist() == [1, 2, 0.333251953125] and int(read["n"]) == 7
    assert weights.shapes(path) == {"a/b": (3,), "n": ()}
    into = {"a/b": np.zeros(3)}
    weights.read_into(path, into)
    assert into["a/b"][1] == 2


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "out.safetensors"
    weights.write(path, {"a": np.ones(1, np.float32)}, {})
    before = path.read_bytes()
    with pytest.raises(weights.WeightsError, match="a has values beyond float16"):
        weights.write(path, {"a": np.array([1e9], np.float32)}, {}, "float16")
    with pytest.raises(weights.WeightsError, match="cannot be written: .*No such file"):
        weights.write(tmp_path / "no" / "a.safetensors", {"a": np.ones(1)}, {})
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["out.safetensors"]


def test_without_the_library_the_file_is_refused_with_a_hint(tmp_path):
    path = make(tmp_path / "a.safetensors", entry(), b"12345678")
    program = ("import sys; sys.modules['safetensors'] = None\n"
               "from tinyfcn import weights\n"
               "try: weights.read(sys.argv[1])\n"
               "except weights.WeightsError as error: print(error)")
    result = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True,
                            text=True)
    assert "pip install safetensors" in result.stdout, result.stderr


def test_what_is_written_has_the_permissions_of_any_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        weights.write(tmp_path / "a.safetensors", {"x": np.ones(2)}, {})
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(tmp_path / "a.safetensors").st_mode) == 0o640
