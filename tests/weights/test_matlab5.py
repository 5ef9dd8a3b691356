"""MATLAB's format 5: what scipy writes, and element by element what only MATLAB does."""
import struct
import zlib

import numpy as np
import pytest

from tinyfcn.weights import matlab5

INT8, UINT8, UINT16, INT32, UINT32, SINGLE, DOUBLE, ARRAY, COMPRESSED, UTF16 = \
    1, 2, 4, 5, 6, 7, 9, 14, 15, 17
CELL, STRUCT, OBJECT, CHAR, SPARSE, DOUBLES, SINGLES = 1, 2, 3, 4, 5, 6, 7


def element(kind, data, order="<", small=True):
    if small and len(data) <= 4 and kind not in (ARRAY, COMPRESSED):
        return struct.pack(order + "I", len(data) << 16 | kind) + data.ljust(4, b"\0")
    padding = b"" if kind == COMPRESSED else bytes(-len(data) % 8)
    return struct.pack(order + "II", kind, len(data)) + data + padding


def array(kind, shape, *parts, name="", order="<", flags=0):
    return element(ARRAY, b"".join([
        element(UINT32, struct.pack(order + "II", kind | flags, 0), order),
        element(INT32, struct.pack(f"{order}{len(shape)}i", *shape), order),
        element(INT8, name.encode(), order), *parts]), order)


def numbers(values, kind=DOUBLES, stored=DOUBLE, name="", order="<", shape=None):
    values = np.atleast_2d(np.asarray(values, matlab5.CLASSES[kind]))
    data = values.astype(np.dtype(matlab5.NUMBERS[stored]).newbyteorder(order)).tobytes("F")
    return array(kind, shape or values.shape, element(stored, data, order), name=name, order=order)


def record(fields, name="", order="<", kind=STRUCT, shape=(1, 1)):
    names = b"".join(field.encode().ljust(32, b"\0") for field in fields)
    owner = [element(INT8, b"dagnn.DagNN", order)] if kind == OBJECT else []
    return array(kind, shape, *owner, element(INT32, struct.pack(order + "i", 32), order),
                 element(INT8, names, order), *fields.values(), name=name, order=order)


def packed(content):
    return element(COMPRESSED, zlib.compress(content))


def header(order="<"):
    return b"MATLAB 5.0 MAT-file".ljust(124) + (b"\x00\x01IM" if order == "<" else b"\x01\x00MI")


@pytest.fixture
def put(tmp_path):
    """Give a function that writes variables into a file and returns its path."""
    def write(*variables, order="<"):
        path = tmp_path / "made.mat"
        path.write_bytes(header(order) + b"".join(variables))
        return path

    return write


@pytest.mark.parametrize("compressed", [False, True])
def test_what_scipy_writes(tmp_path, compressed):
    io = pytest.importorskip("scipy.io")
    rng = np.random.default_rng(0)
    kinds = ("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")
    arrays = {kind: (100 * rng.random((2, 3, 4))).astype(kind) for kind in kinds}
    records = np.empty((2, 1), [("name", object), ("value", object)])
    records[:, 0] = [("a", np.ones((1, 2))), ("bc", np.zeros((0, 3)))]
    cells = np.empty((1, 2), object)
    cells[0] = ["text", arrays["f4"]]
    io.savemat(tmp_path / "a.mat", {"x": arrays, "y": records, "z": cells, "no": np.ones(3),
                                    "i": np.ones(2, complex)}, do_compression=compressed)
    read = matlab5.read(tmp_path / "a.mat", ("x", "y", "z", "i", "absent"))
    assert set(read) == {"x", "y", "z", "i"}
    (fields,) = read["x"]
    for kind, expected in arrays.items():
        assert fields[kind].dtype == expected.dtype
        np.testing.assert_array_equal(fields[kind], expected)
    assert [record["name"] for record in read["y"]] == ["a", "bc"]
    assert [record["value"].shape for record in read["y"]] == [(1, 2), (0, 3)]
    assert read["z"][0] == "text"
    np.testing.assert_array_equal(read["z"][1], arrays["f4"])
    assert read["i"] is None


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_and_every_kind_of_value(put, order):
    text = array(CHAR, (1, 3), element(UTF16, "äbc".encode("utf-16-le" if order == "<"
                                                             else "utf-16-be"), order), order=order)
    path = put(
        record({"name": text, "inside": array(CELL, (1, 2), element(ARRAY, b"", order),
                                              numbers([1, 2], order=order), order=order),
                "sparse": array(SPARSE, (1, 1), element(INT32, b"0000", order), order=order)},
               "net", order),
        record({"a": numbers([3], order=order)}, "object", order, OBJECT),
        record({}, "nothing", order), order=order)
    read = matlab5.read(path, ("net", "object", "nothing"))
    (net,) = read["net"]
    assert net["name"] == "äbc" and net["sparse"] is None
    assert net["inside"][0].size == 0 and net["inside"][1].tolist() == [[1, 2]]
    assert net["inside"][1].dtype == np.float64
    assert read["object"][0]["a"] == 3
    assert read["nothing"] == []


@pytest.mark.parametrize("count", [3, 2 << 20])
def test_numbers_that_matlab_stores_in_a_smaller_type(put, count):
    """Whole numbers, such as biases of zero: the class is single, the bytes are not."""
    values = np.arange(2 * count).reshape(2, count) % 200
    read = matlab5.read(put(numbers(values, SINGLES, UINT8, name="a")), ("a",))["a"]
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, values)


def test_numbers_are_views_of_the_file(put):
    read = matlab5.read(put(numbers(np.ones((9, 9)), name="a")), ("a",))["a"]
    assert isinstance(read, np.memmap) and not read.flags.writeable


def test_other_variables_are_passed_over_however_large(put, monkeypatch):
    monkeypatch.setattr(matlab5, "gather", None)
    air = array(DOUBLES, (1000, 100_000), element(DOUBLE, bytes(1000)), name="other")
    whole = numbers([1], name="a")
    assert matlab5.read(put(packed(air), element(99, b"12345"), whole), ("a",))["a"] == 1


def test_damage(put, refuse):
    one = numbers([[1, 2], [3, 4]], name="net")

    def refused(pattern, *variables):
        refuse(put(*variables), "damaged MATLAB file: " + pattern,
               lambda path: matlab5.read(path, ("net",)))

    refused("it is cut off at byte", one, b"1234")
    refused("it declares 80 bytes at 136, where 72 are left", one[:-8])
    refused("net is there twice", one, one)
    refused("net has 32 bytes for its shape", numbers([[1, 2], [3, 4]], shape=(2, 3), name="net"))
    refused("what stands before byte 136 is no element", b"\x0e\0\x09\0" + bytes(9))
    refused("the array at byte 136 has no class, shape or name",
            element(ARRAY, element(DOUBLE, bytes(8))))
    refused("the array at byte 136 has a class or shape that makes no sense",
            array(DOUBLES, (), element(DOUBLE, bytes(8))).replace(element(INT32, b""),
                                                                element(INT32, b"123")))
    refused("net has 1 entries where its shape asks for 12000000000",
            array(CELL, (100_000, 120_000), one, name="net"))
    refused("net has 1 entries where its shape asks for 2",
            record({"a": one}, "net", shape=(2, 1)))
    refused(r"net\{1\} is no array", array(CELL, (1, 1), element(DOUBLE, bytes(8)), name="net"))
    refused("net has a field twice", record({"a": one, "a\0b": one}, "net"))
    refused("net is a struct without names of fields", array(STRUCT, (1, 1), name="net"))
    refused("what is compressed at byte 136 is no array", packed(element(DOUBLE, bytes(8))))
    refused("Error -3 while decompressing", element(COMPRESSED, b"x" * 99))
    whole = packed(numbers(np.random.default_rng(0).random((40, 40)), name="net"))
    changed = bytearray(whole)
    changed[-2] ^= 1
    refused("Error -3 while decompressing", bytes(changed))
    deep = one
    for _ in range(99):
        deep = array(CELL, (1, 1), deep, name="net")
    refused(r"net(\{1\}){17} is nested deeper than 16", deep)


def test_shapes_and_sizes_beyond_the_file(put, refuse):
    def read(path):
        return matlab5.read(path, ("net",))

    refuse(put(array(DOUBLES, (1 << 30, 1 << 30), element(DOUBLE, bytes(8)), name="net")),
           "net declares 9223372036854775808 bytes", read)
    refuse(put(array(DOUBLES, (-1, 1), element(DOUBLE, bytes(8)), name="net")),
           "net has a negative size", read)
    refuse(put(array(DOUBLES, (1,) * 9, element(DOUBLE, bytes(8)), name="net")),
           "net has 9 dimensions", read)
    content = zlib.compress(array(DOUBLES, (1, 1), element(DOUBLE, bytes(8)), name="net"))
    content = zlib.compress(b"\x0e\0\0\0\xff\xff\0\0" + zlib.decompress(content)[8:])
    refuse(put(element(COMPRESSED, content)), "net .* has less data than its shape takes", read)


def test_a_ratio_bomb_is_refused_before_it_is_unpacked(put, refuse, monkeypatch):
    path = put(packed(numbers(np.zeros((10_000, 1000)), name="net")))
    monkeypatch.setattr(matlab5, "gather", None)
    refuse(path, r"its variable net unpacks to 800000\d\d bytes from 77\d\d\d, which is refused",
           lambda path: matlab5.read(path, ("net",)))


def test_a_flood_of_elements_ends(put, refuse, monkeypatch):
    monkeypatch.setattr(matlab5, "MAX_ELEMENTS", 100)
    refuse(put(*[element(99, b"")] * 101), "it has more than 100 elements")
    refuse(put(array(CELL, (1, 100), *[element(ARRAY, b"")] * 100, name="net")),
           "it has more than 100 elements")


def test_what_is_no_weight_is_refused_by_name(put, refuse):
    def layers(value):
        return array(CELL, (1, 1), record({"name": array(CHAR, (1, 1), element(UINT8, b"a")),
                                           "weights": value}), name="layers")

    def weighs(value):
        return layers(array(CELL, (1, 1), value))

    refuse(put(weighs(array(DOUBLES, (1, 1), element(DOUBLE, bytes(8)), flags=0x800))),
           "a/0 is no array of real numbers")
    refuse(put(weighs(record({"a": numbers([1]), "b": numbers([1, 2])}))),
           "a/0 is no array of real numbers")
    refuse(put(layers(numbers([1]))), "weights is no list of layers or weights")
    refuse(put(numbers([1], name="layers")), "layers is no list of layers or weights")
    refuse(put(array(CELL, (1, 1), numbers([1]), name="layers")), "layers is no list of structs")
    refuse(put(record({"value": numbers([1])}, "params")), "a parameter has no name")
    named = {"name": array(CHAR, (1, 1), element(UINT8, b"a"))}
    refuse(put(record(named, "params")), "the parameter a has no value")
