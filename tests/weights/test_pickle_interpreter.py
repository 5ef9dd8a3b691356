"""The interpreter makes of a pickle what pickle makes of it, or refuses it; it never runs it."""
import collections
import os
import pickle
import pickletools

import numpy as np
import pytest

from tinyfcn.weights import pickle_interpreter
from tinyfcn.weights.pickle_interpreter import interpret
from tinyfcn.weights.pickle_objects import Refusal

PLAIN = {
    "none": None, "truth": [True, False], "small": [0, 1, 255, 256, 65535, 65536, -1, -(2**31)],
    "large": [2**63, -(2**80)], "float": [0.5, -1e300, float("inf")], "empty": [[], {}, (), ""],
    "bytes": b"abc" * 3, "long": b"x" * 5000, "text": "Bäume\n\\", "tuples": (1, (2, 3), (4, 5, 6),
                                                                        tuple(range(7))),
    "ordered": collections.OrderedDict([("b", 1), ("a", 2)]), 7: "seven",
}


def plain(value):
    """With NumPy's bytes as bytes, to be compared."""
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(map(plain, value))
    return value


def of(content):
    return np.frombuffer(content, np.uint8)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_come_out_as_pickle_gives_them(protocol):
    content = dict(PLAIN)
    if protocol == 2:
        # Bytes are written as texts to be encoded, which the arrays' reader does.
        del content["long"]
    data = pickle.dumps(content, protocol)
    value, end = interpret(of(b"head" + data + b"tail"), 4)
    assert end == 4 + len(data)
    assert plain(value) == content
    assert list(value["ordered"]) == ["b", "a"]


def test_shared_values_are_shared():
    inner = [1]
    value, _ = interpret(of(pickle.dumps({"a": inner, "b": inner}, 4)))
    assert value["a"] is value["b"]


class Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_is_ever_called(tmp_path, protocol):
    mark = tmp_path / "mark"
    data = pickle.dumps({"conv1": Evil(os.mkdir, str(mark))}, protocol)
    with pytest.raises(Refusal, match=r"pickle names (posix|nt|os)\.mkdir; .* \(near 'conv1'\)"):
        interpret(of(data))
    assert not mark.exists()
    pickle.loads(data)
    assert mark.exists(), "the pickle is no danger at all: the test is worth nothing"


@pytest.mark.parametrize("function", [eval, getattr, __import__, open, os.system, np.load,
                                      np.fromfile, pickle.loads, bytearray, set])
def test_no_other_name_is_taken(function):
    with pytest.raises(Refusal, match="its pickle names"):
        interpret(of(pickle.dumps(Evil(function, "x"), 2)))


def test_every_name_that_is_taken_is_inert():
    """The list is what the documentation says: storages, tensors, types, arrays, OrderedDict."""
    modules = {module for module, _ in pickle_interpreter.NAMES}
    assert modules == {
        "collections", "numpy", "_codecs", "numpy.core.multiarray", "numpy._core.multiarray",
        "numpy.core.numeric", "numpy._core.numeric", "torch._utils", "torch", "torch.storage"}
    for kind in pickle_interpreter.NAMES.values():
        assert kind in pickle_interpreter.CALLS or kind in ("ndarray", "storage", "type", "scheme")


@pytest.mark.parametrize("name", [b"numpy\nndarray", b"torch\nFloatStorage", b"torch\nfloat32",
                                  b"torch\nper_tensor_affine"])
def test_classes_that_only_stand_for_themselves_cannot_be_called(name):
    with pytest.raises(Refusal, match="makes no sense"):
        interpret(of(b"\x80\x02c" + name + b"\n)R."))


BAD = {
    "empty": (b"", "declares 1 bytes at 0"),
    "cut": (b"\x80\x02}q\x00X\x05\x00\x00\x00ab", "declares 5 bytes"),
    "long bytes": (b"\x8e" + b"\xff" * 8 + b".", "declares 18446744073709551615 bytes"),
    "long text": (b"\x8d" + b"\xff" * 7 + b"\x7f.", "declares 9223372036854775807 bytes"),
    "long integer": (b"\x8b\xff\xff\xff\x7f.", "an integer of 2147483647 bytes"),
    "negative integer": (b"\x8b\xff\xff\xff\xff.", "an integer of -1 bytes"),
    "stack": (b"0.", "makes no sense"),
    "stack below a mark": (b"](a.", "makes no sense"),
    "no mark": (b"t.", "makes no sense"),
    "append to a dict": (b"}K\x01a.", "makes no sense"),
    "odd items": (b"}(K\x01u.", "makes no sense"),
    "memo": (b"h\x05.", "uses the value 5"),
    "left over": (b"K\x01K\x02.", "values left over"),
    "extension": (b"\x82\x01.", "opcode 0x82"),
    "instance": (b"(ios\nsystem\n.", "opcode 0x69"),
    "buffer": (b"\x97.", "opcode 0x97"),
    "unknown": (b"\xfe.", "opcode 0xfe"),
    "line": (b"cos" + b"x" * 2000, "a line without an end"),
    "key": (b"})K\x01s.", "a dict with a key of type tuple"),
    "float key": (b"}G" + b"\0" * 8 + b"K\x01s.", "a dict with a key of type float"),
    "huge key": (b"}\x8a\x09" + b"\0" * 8 + b"\x01K\x01s.", "a dict with a key of type int"),
    "twice": (b"}(K\x01K\x02K\x01K\x03u.", "has 1 twice in one dict"),
    "call a number": (b"K\x01)R.", "makes no sense"),
    "build a number": (b"K\x01)b.", "makes no sense"),
    "bytes as letters": (b"X\x02\x00\x00\x00\xff\xff.", "makes no sense"),
    "name of tuples": (b"))\x93.", "makes no sense"),
}


@pytest.mark.parametrize("case", BAD)
def test_damaged_pickles_are_refused(case):
    content, pattern = BAD[case]
    with pytest.raises(Refusal, match=pattern):
        interpret(of(content))


def test_a_flood_of_opcodes_ends(monkeypatch):
    monkeypatch.setattr(pickle_interpreter, "MAX_OPCODES", 1000)
    with pytest.raises(Refusal, match="more than 1000 opcodes"):
        interpret(of(b"N0" * 600 + b"."))


def test_copying_a_long_list_again_and_again_ends(monkeypatch):
    monkeypatch.setattr(pickle_interpreter, "MAX_OPCODES", 5000)
    pairs = b"(" + b"".join(b"(K%cNt" % i for i in range(200)) + b"lq\x000"
    again = b"ccollections\nOrderedDict\n(h\x00tR0"
    with pytest.raises(Refusal, match="more than 5000 opcodes"):
        interpret(of(pairs + again * 100 + b"N."))
    interpret(of(pairs + again * 3 + b"N."))


def test_a_tower_of_tuples_is_no_recursion():
    value, _ = interpret(of(b")" + b"\x85" * 100_000 + b"."))
    depth = 0
    while value:
        value, depth = value[0], depth + 1
    assert depth == 100_000


def test_every_opcode_of_a_real_pickle_is_known():
    for protocol in range(2, 6):
        data = pickle.dumps({"a": np.arange(3), "b": collections.OrderedDict(x=1)}, protocol)
        for opcode, *_ in pickletools.genops(data):
            assert ord(opcode.code) in pickle_interpreter.OPERATIONS or opcode.name == "STOP", \
                opcode.name
