"""NumPy's .npz and .npy, and dicts pickled in them."""
import io
import pickle
import struct

import numpy as np
import pytest

from tinyfcn import weights
from tinyfcn.weights import tensors
from tinyfcn.weights.layouts import recognise


def hwio(array):
    return np.ascontiguousarray(array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T)


@pytest.mark.parametrize("savez", [np.savez, np.savez_compressed])
def test_vgg16_as_frossard_and_chainer_store_it(tmp_path, vgg16, same, savez):
    content = {f"{name}_{kind}": hwio(array) for name, arrays in vgg16.items()
               for kind, array in zip("Wb", arrays)}
    savez(tmp_path / "a.npz", **content)
    read = weights.read(tmp_path / "a.npz")
    same(read, content)
    assert recognise(read).name == "frossard-vgg"

    content = {f"{name}/{kind}": array for name, arrays in vgg16.items()
               for kind, array in zip("Wb", arrays)}
    savez(tmp_path / "b.npz", **content)
    read = weights.read(tmp_path / "b.npz")
    same(read, content)
    assert recognise(read).name == "caffe-vgg"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_vgg16_as_a_pickled_dict_of_lists(tmp_path, vgg16, same, protocol):
    content = {name: [hwio(array) for array in arrays] for name, arrays in vgg16.items()}
    path = tmp_path / "vgg16.npy"
    boxed = np.empty((), object)
    boxed[()] = content
    with open(path, "wb") as stream:
        np.lib.format.write_array_header_1_0(
            stream, {"descr": "|O", "fortran_order": False, "shape": ()})
        pickle.dump(boxed, stream, protocol)
    assert np.load(path, allow_pickle=True).item().keys() == content.keys()
    read = weights.read(path)
    assert read.format == "NumPy dict (.npy)"
    same(read, {f"{name}/{i}": array for name, arrays in content.items()
                for i, array in enumerate(arrays)})
    assert recognise(read).name == "tensorflow-vgg"


def test_what_numpy_saves_of_dicts_and_orders(tmp_path, same):
    array = np.arange(24.0).reshape(2, 3, 4)
    content = {"conv": {"weights": array, "turned": array.T, "half": array.astype(np.float16),
                        "big": array.astype(">f4"), "none": np.empty((0, 3)),
                        "scalar": np.array(3)}}
    np.save(tmp_path / "a.npy", content)
    read = weights.read(tmp_path / "a.npy")
    assert list(read) == [f"conv/{name}" for name in content["conv"]]
    for name, expected in content["conv"].items():
        np.testing.assert_array_equal(read[f"conv/{name}"], expected)
        assert read[f"conv/{name}"].dtype == expected.dtype.newbyteorder("=")


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", "<i8", "|u1", "|b1"])
def test_a_lone_array(tmp_path, order, dtype):
    array = np.asarray(np.arange(6).reshape(2, 3) % 2, dtype, order=order)
    np.save(tmp_path / "a.npy", array)
    read = weights.read(tmp_path / "a.npy")["array"]
    np.testing.assert_array_equal(read, array)
    assert read.dtype == np.dtype(dtype).newbyteorder("=")


def test_chainers_none_is_left_out(tmp_path):
    np.savez(tmp_path / "a.npz", W=np.ones(2), b=None)
    read = weights.read(tmp_path / "a.npz")
    assert list(read) == ["W"]
    assert read.notes == ["left out b, which is None"]


def test_large_compressed_arrays_wait_outside_of_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(tensors, "SPOOL_BYTES", 1000)
    array = np.random.default_rng(0).standard_normal(5000)
    np.savez_compressed(tmp_path / "a.npz", a=array, text=np.float32(3))
    read = weights.read(tmp_path / "a.npz")
    assert isinstance(read["a"], np.memmap)
    np.testing.assert_array_equal(read["a"], array)
    # Texts in pickles of Python 2's protocol, too.
    boxed = np.empty((), object)
    boxed[()] = {"a": array}
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "|O", "fortran_order": False, "shape": ()})
    pickle.dump(boxed, stream, 2)
    (tmp_path / "b.npy").write_bytes(stream.getvalue())
    read = weights.read(tmp_path / "b.npy")["a"]
    assert isinstance(read, np.memmap)
    np.testing.assert_array_equal(read, array)


class Evil:
    def __reduce__(self):
        import os

        return os.mkdir, ("never",)


@pytest.mark.parametrize("content, pattern", [
    ({"a": Evil()}, r"names (posix|nt)\.mkdir"),
    ({"a": "text"}, "a is a str; only dicts, lists and arrays are read"),
    ({"a": {"b": 3}}, "a/b is a int"),
    ({"a": np.array([{1}, None], object)}, r"names .*\.set|opcode 0x8f, which is refused"),
    ({"a": np.array(["x"])}, "a is of type <U1|a is an array of type"),
    ({"a": np.ones(2, complex)}, "a is of type complex128"),
    ({"a": np.zeros(2, [("x", "f4")])}, r"a is of type \|V4"),
    ({"a": [[[[[[[[[np.ones(1)]]]]]]]]]}, "nested deeper than 8"),
], ids=["code", "text", "number", "set", "letters", "complex", "records", "deep"])
def test_other_objects_are_refused(tmp_path, refuse, monkeypatch, content, pattern):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", content)
    refuse("a.npy", pattern)
    np.savez("a.npz", x=np.array(content))
    refuse("a.npz", pattern)
    assert not (tmp_path / "never").exists()


def test_cycles_are_refused(tmp_path, refuse):
    ring = []
    ring.append(ring)
    np.save(tmp_path / "a.npy", {"a": ring})
    refuse(tmp_path / "a.npy", "a/0 holds itself")


def npy(header, data=b""):
    header = header.encode("latin-1") + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


@pytest.mark.parametrize("content, pattern", [
    (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }", b"12345678"),
     r"declares 16 bytes \(4,\); 8 are there"),
    (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", b"12345678"),
     "declares 4 bytes"),
    (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999,), }"),
     "declares 399999999999996 bytes"),
    (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }"), "negative size"),
    (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }", b"1234"),
     "9 dimensions"),
    (npy("{'descr': '<f4', 'fortran_order': False, 'shape': ('x',), }"), "damaged .npy header"),
    (npy("__import__('os').mkdir('never')"), "damaged .npy header"),
    (npy("(" * 5000), "damaged .npy header"),
    (b"\x93NUMPY\x01\x00\xff\xff{", "damaged .npy header"),
    (b"\x93NUMPY\x07\x00\x01\x00{", "damaged .npy header"),
    (b"\x93NUMPY", "damaged .npy header"),
])
def test_headers_that_lie(tmp_path, refuse, content, pattern):
    (tmp_path / "a.npy").write_bytes(content)
    refuse(tmp_path / "a.npy", pattern)


def test_pickled_arrays_that_lie(tmp_path, refuse):
    np.save(tmp_path / "a.npy", {"a": np.arange(100.0)})
    content = (tmp_path / "a.npy").read_bytes()
    for old, new, pattern in (
            (b"Kd", b"Ke", r"a is \(101,\) and needs 808 bytes, but has 800"),
            (b"f8", b"f2", r"a is \(100,\) and needs 200 bytes, but has 800"),
            (b"f8", b"O8", "a is an array of objects that are not there"),
            (b"f8", b"q9", "a is an array of an unknown type")):
        assert content.count(old) == 1
        (tmp_path / "a.npy").write_bytes(content.replace(old, new))
        refuse(tmp_path / "a.npy", pattern)
