"""PyTorch's checkpoints: what torch.save writes comes back; what is damaged is refused."""
import collections
import pickle
import struct
import zipfile

import numpy as np
import pytest

from tinyfcn import weights
from tinyfcn.weights import torch_pickle
from tinyfcn.weights.layouts import recognise

TORCHVISION = dict(zip(
    [f"conv{block}_{i}" for block, count in enumerate((2, 2, 3, 3, 3), 1)
     for i in range(1, count + 1)] + ["fc6", "fc7", "fc8"],
    [f"features.{i}" for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)]
    + [f"classifier.{i}" for i in (0, 3, 6)]))


def state_dict(tensors):
    torch = pytest.importorskip("torch")
    return collections.OrderedDict(
        (f"{TORCHVISION[name]}.{kind}", torch.from_numpy(array))
        for name, arrays in tensors.items() for kind, array in zip(("weight", "bias"), arrays))


@pytest.mark.torch
def test_vgg16_with_torchvisions_names(save, vgg16, same):
    state = state_dict(vgg16)
    state._metadata = {"": {"version": 1}}
    read = weights.read(save(state))
    assert read.format == f"PyTorch checkpoint ({save.container})"
    assert read.notes == []
    same(read, {name: tensor.numpy() for name, tensor in state.items()})
    assert recognise(read).name == "torchvision-vgg"


@pytest.mark.torch
def test_views_of_storages(save):
    torch = pytest.importorskip("torch")

    base = torch.arange(24.0)
    views = {"whole": base, "part": base[5:9], "matrix": base.view(4, 6)[1:3, ::2],
             "turned": base.view(4, 6).t(), "scalar": base[3], "none": base[:0].view(0, 3),
             "parameter": torch.nn.Parameter(base[2:4])}
    read = weights.read(save(views))
    for name, tensor in views.items():
        np.testing.assert_array_equal(read[name], tensor.detach().numpy(), err_msg=name)
        assert read[name].shape == tuple(tensor.shape)


@pytest.mark.torch
def test_a_trainers_checkpoint_is_searched_for_the_model(save):
    torch = pytest.importorskip("torch")

    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.zeros(1, 3, 5, 5)).sum().backward()
    optimizer.step()
    path = save({"epoch": 3, "arch": "net", "best": np.float64(0.5), "curve": np.arange(3.0),
                 "model_state_dict": model.state_dict(), "optimizer": optimizer.state_dict()})
    read = weights.read(path)
    assert list(read) == list(model.state_dict())
    assert read.notes == ["the tensors of model_state_dict were read",
                          "left out the tensors of optimizer"]
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(read[name], tensor.numpy())


@pytest.mark.torch
def test_nested_tensors_without_a_models_name(save):
    torch = pytest.importorskip("torch")

    read = weights.read(save({"encoder": {"conv": torch.ones(2)}, "list": [torch.zeros(1)]}))
    assert list(read) == ["encoder.conv", "list.0"]
    assert weights.read(save(torch.ones(3)))["tensor"].tolist() == [1, 1, 1]


@pytest.mark.torch
def test_a_whole_model_is_refused(save, refuse):
    torch = pytest.importorskip("torch")

    refuse(save(torch.nn.Linear(2, 2)), r"its pickle names torch\.nn\.modules\.linear\.Linear")
    refuse(save({"epoch": 1}), "holds no tensors")
    refuse(save({"a": torch.ones(2, dtype=torch.complex64)}), "a is of type complex64")
    refuse(save({"a": torch.ones(2).to_sparse()}), "its pickle names torch._utils._rebuild_sparse")


@pytest.mark.torch
def test_torchscript_is_refused_with_a_hint(tmp_path, refuse):
    torch = pytest.importorskip("torch")

    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / "a.pt"))
    refuse(tmp_path / "a.pt", "is a TorchScript program")


@pytest.mark.torch
def test_checksums_left_out_are_no_damage(tmp_path):
    torch = pytest.importorskip("torch")

    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.ones(3)}, tmp_path / "a.pt")
    finally:
        torch.serialization.set_crc32_options(before)
    assert weights.read(tmp_path / "a.pt")["a"].tolist() == [1, 1, 1]


# Made by hand, to say what PyTorch would not: no PyTorch is needed.


class Call:
    """Pickles as the call of a name."""

    def __init__(self, module, name, *arguments):
        self.module, self.name, self.arguments = module, name, arguments


class Place:
    def __init__(self, *what):
        self.what = what


class Writer(pickle._Pickler):
    def persistent_id(self, value):
        return value.what if isinstance(value, Place) else None

    def save(self, value, *arguments, **options):
        if isinstance(value, Call):
            self.write(f"c{value.module}\n{value.name}\n".encode())
            if value.arguments:
                super().save(value.arguments)
                self.write(b"R")
            return
        super().save(value, *arguments, **options)


def dumps(value):
    import io

    stream = io.BytesIO()
    Writer(stream, 2).dump(value)
    return stream.getvalue()


def tensor(shape=(2, 3), strides=(3, 1), offset=0, *, key="0", size=6, kind="FloatStorage",
           part=()):
    place = Place("storage", Call("torch", kind), key, "cpu", size, *part)
    return Call("torch._utils", "_rebuild_tensor_v2", place, offset, shape, strides, False, {})


def quantized(*quantizer, shape=(2, 3), strides=(3, 1), offset=0, kind="QInt8Storage"):
    place = Place("storage", Call("torch", kind), "0", "cpu", 6)
    return Call("torch._utils", "_rebuild_qtensor", place, offset, shape, strides, quantizer,
                False, {})


def typed(kind, shape=(2, 3), strides=(3, 1), storage=Call("torch.storage", "UntypedStorage"),
          metadata=()):
    place = Place("storage", storage, "0", "cpu", 24)
    return Call("torch._utils", "_rebuild_tensor_v3", place, 0, shape, strides, False, {},
                kind, *metadata)


def old(content, storages=None, keys=None, system=None):
    storages = {"0": np.arange(6, dtype="<f4")} if storages is None else storages
    out = b"".join(map(dumps, (torch_pickle.MAGIC, 1001, system or {"little_endian": True},
                               content, list(storages) if keys is None else keys)))
    for array in storages.values():
        out += struct.pack("<q", array.size) + array.tobytes()
    return out


def zipped(path, content, storages=None, order=None):
    storages = {"0": np.arange(6, dtype="<f4")} if storages is None else storages
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", dumps(content))
        if order is not None:
            archive.writestr("archive/byteorder", order)
        for key, array in storages.items():
            archive.writestr(f"archive/data/{key}", array.tobytes())
        archive.writestr("archive/version", b"3\n")
    return path


@pytest.fixture(params=["old", "zip"])
def write(request, tmp_path):
    def _write(content, **options):
        path = tmp_path / "made.pth"
        if request.param == "zip":
            return zipped(path, content, **options)
        path.write_bytes(old(content, **options))
        return path
    return _write


def test_what_is_made_by_hand_is_read(write):
    read = weights.read(write({"a": tensor(), "b": tensor((3,), (2,), 1)}))
    assert read["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert read["b"].tolist() == [1, 3, 5]


BAD = {
    "shape": (tensor((2, 4), (4, 1)), r"a \(2, 4\) needs 8 numbers of its storage, which has 6"),
    "offset": (tensor(offset=1), "a .* needs 7 numbers"),
    "stride": (tensor((2, 3), (30, 1)), "a .* needs 33 numbers"),
    "no stride": (tensor((1 << 20, 100), (0, 0)), "needs 1 numbers of its storage"),
    "huge": (tensor((1 << 40, 1 << 40), (0, 0)), "a declares .* bytes"),
    "negative size": (tensor((-2, 3)), "a has a place in its storage that makes no sense"),
    "negative stride": (tensor((2, 3), (-3, 1)), "that makes no sense"),
    "negative offset": (tensor(offset=-1), "that makes no sense"),
    "axes": (tensor((1,) * 9, (1,) * 9), "that makes no sense"),
    "lengths": (tensor((2, 3), (1,)), "that makes no sense"),
    "texts": (tensor(("2", 3)), "that makes no sense"),
    "no storage": (tensor(key="7"), "its storage 7 is not in the file|a storage 0 that nothing"),
    "code": (Call("os", "system", "true"), r"its pickle names os\.system"),
    "code inside": ({"w": [tensor(), Call("builtins", "eval", "1")]},
                    r"its pickle names (builtins|__builtin__)\.eval; .* \(near 'w'\)"),
    "name": ({"b\nc": tensor()}, r"control characters: a\.b\\nc"),
    "long name": ({"b" * 400: tensor()}, "more than 300 characters"),
    "type": (tensor(kind="OtherStorage"), "its pickle names torch.OtherStorage"),
    "no scale": (tensor(kind="QInt8Storage"), "a is of type qint8, but has no scale"),
    "complex": (typed(Call("torch", "complex32"), (6,), (1,)), "a is of type complex32"),
    "bits": (typed(Call("torch", "bits8"), (6,), (1,)), "a is of type bits8, which is not read"),
    "typed twice": (typed(Call("torch", "uint16"), storage=Call("torch", "FloatStorage")),
                    "makes no sense"),
    "type as text": (typed("uint16"), "makes no sense"),
    "type too long": (typed(Call("torch", "uint64"), (7,), (1,)), "a .* needs 7 numbers"),
    "negated": (typed(Call("torch", "uint8"), metadata=[{"neg": True}]),
                "a is of type uint8 that is still to be negated or conjugated, which is not read"),
}


@pytest.mark.parametrize("case", BAD)
def test_tensors_that_are_not_what_they_say(write, refuse, case):
    content, pattern = BAD[case]
    refuse(write({"a": content}), pattern)


ONE, EACH = Call("torch", "per_tensor_affine"), Call("torch", "per_channel_affine")
SCALES = tensor((2,), (1,), key="1", size=2, kind="DoubleStorage")
ZERO_POINTS = tensor((2,), (1,), key="2", size=2, kind="LongStorage")
FEW = tensor((1,), (1,), key="1", size=2, kind="DoubleStorage")
MANY = tensor((2,), (1,), 1, key="1", size=2, kind="DoubleStorage")
QUANTIZED = {"0": np.array([0, 1, 2, -3, -4, 127], "i1"), "1": np.array([0.5, 2.0]),
             "2": np.array([1, -1])}


@pytest.mark.parametrize("place, expected", [
    ({}, [[-0.5, 0, 0.5], [-4, -6, 256]]),
    ({"shape": (3, 2), "strides": (1, 3)}, [[-0.5, -4], [0, -6], [0.5, 256]]),
    ({"shape": (2,), "strides": (2,), "offset": 3}, [-2, 256]),
])
def test_quantized_numbers_have_a_scale_for_each_channel(write, place, expected):
    axis = 1 if place.get("shape") == (3, 2) else 0
    values = {"x": tensor((0,), (1,), key="1", size=2, kind="DoubleStorage"),
              "y": tensor((0,), (1,), key="2", size=2, kind="LongStorage")}
    for scales, zero_points in (SCALES, ZERO_POINTS), ([0.5, 2.0], [1, -1]):
        content = values | {"a": quantized(EACH, scales, zero_points, axis, **place)}
        read = weights.read(write(content, storages=QUANTIZED))["a"]
        assert read.dtype == np.float32
        assert read.tolist() == expected


@pytest.mark.parametrize("kind, shape, stored, expected", [
    ("QInt8Storage", (2, 2), np.array([-128, 0, 3, 127], "i1"), [[-65.5, -1.5], [0, 62]]),
    ("QUInt8Storage", (2,), np.array([0, 255], "u1"), [-1.5, 126]),
    ("QInt32Storage", (), np.array([1 << 24], "<i4"), (1 << 23) - 1.5),
    ("QInt32Storage", (0, 3), np.array([], "<i4"), []),
    # Low bits first, and rows of three run on.
    ("QUInt4x2Storage", (2, 3), np.array([0x31, 0x74, 0xf5, 0], "u1"),
     [[-1, 0, 0.5], [2, 1, 6]]),
    ("QUInt2x4Storage", (3, 2), np.array([0b11100100, 0b0110], "u1"),
     [[-1.5, -1], [-0.5, 0], [-0.5, -1]]),
])
def test_quantized_numbers_of_each_type(write, kind, shape, stored, expected):
    strides = tuple(np.cumprod((1, *shape[:0:-1])).tolist()[::-1]) if shape else ()
    content = {"a": quantized(ONE, 0.5, 3, shape=shape, strides=strides, kind=kind)}
    read = weights.read(write(content, storages={"0": stored}))["a"]
    assert read.shape == shape and read.dtype == np.float32
    assert read.tolist() == expected


BAD_QUANTIZED = {
    "no scheme": (quantized(), "makes no sense"),
    "scheme as text": (quantized("per_tensor_affine", 0.5, 3), "makes no sense"),
    "other scheme": (quantized(Call("torch", "per_tensor_symmetric"), 0.5, 3),
                     "its pickle names torch.per_tensor_symmetric"),
    "axis of one": (quantized(ONE, 0.5, 3, 0), "makes no sense"),
    "no axis": (quantized(EACH, SCALES, ZERO_POINTS), "makes no sense"),
    "not quantised": (quantized(ONE, 0.5, 3, kind="CharStorage"),
                      "a has a scale, but is of type int8"),
    "scale as text": (quantized(ONE, "0.5", 3), r"a \(2, 3\) does not have 1 scale, which it"),
    "scale NaN": (quantized(ONE, float("nan"), 3), "a has a scale that is no finite number"),
    "scale infinite": (quantized(ONE, 1e39, 3), "a has a scale that is no finite number"),
    "zero point": (quantized(ONE, 0.5, None), "does not have 1 zero point"),
    "zero point infinite": (quantized(ONE, 0.5, float("inf")), "a zero point that is no finite"),
    "axis": (quantized(EACH, SCALES, ZERO_POINTS, 2), "scales along the axis 2, which it has not"),
    "axis below": (quantized(EACH, SCALES, ZERO_POINTS, -1), "scales along the axis -1"),
    "axis as text": (quantized(EACH, SCALES, ZERO_POINTS, "0"), "scales along the axis 0"),
    "axis of a number": (quantized(EACH, SCALES, ZERO_POINTS, 0, shape=(), strides=()),
                         "scales along the axis 0"),
    "few scales": (quantized(EACH, FEW, ZERO_POINTS, 0), "does not have 2 scales"),
    "few zero points": (quantized(EACH, SCALES, [1], 0), "does not have 2 zero points"),
    "scales as texts": (quantized(EACH, ["1", "2"], [1, 2], 0), "does not have 2 scales"),
    "one scale": (quantized(EACH, 0.5, 3, 0), "does not have 2 scales"),
    "scales quantised": (quantized(EACH, quantized(ONE, 1.0, 0, shape=(2,), strides=(1,)),
                                   ZERO_POINTS, 0), "does not have 2 scales"),
    "scales beyond": (quantized(EACH, MANY, ZERO_POINTS, 0), "the scale of a .* needs 3 numbers"),
    "shape": (quantized(ONE, 0.5, 3, shape=(2, 4), strides=(4, 1)), "a .* needs 8 numbers"),
    "huge": (quantized(ONE, 0.5, 3, shape=(1 << 40, 1 << 40), strides=(0, 0)), "a declares"),
    "huge when read": (quantized(ONE, 0.5, 3, shape=(1 << 30,), strides=(1,)),
                       "a declares 4294967296 bytes"),
    "packed": (quantized(ONE, 0.5, 3, shape=(5, 5), strides=(5, 1), kind="QUInt2x4Storage"),
               "a .* needs 25 numbers of its storage, which has 24"),
    "part of packed": (quantized(ONE, 0.5, 3, shape=(2,), strides=(1,), offset=1,
                                 kind="QUInt4x2Storage"), "a is a part of packed numbers"),
    "packed turned": (quantized(ONE, 0.5, 3, strides=(1, 2), kind="QUInt4x2Storage"),
                      "a is a part of packed numbers or turned, which is not read"),
}


@pytest.mark.parametrize("case", BAD_QUANTIZED)
def test_quantized_tensors_that_are_not_what_they_say(write, refuse, case):
    content, pattern = BAD_QUANTIZED[case]
    # The old container wants all storages used.
    refuse(write({"a": content, "x": SCALES, "y": ZERO_POINTS}, storages=QUANTIZED), pattern)


def test_types_without_a_storage_of_their_own(write):
    stored = np.arange(24, dtype="u1").reshape(6, 4)
    storages = {"0": stored}
    read = weights.read(write({
        "a": typed(Call("torch", "uint32")), "b": typed(Call("torch", "uint16"), (3,), (2,)),
        "c": typed(Call("torch", "float8_e5m2"), (2,), (16,)), "type": Call("torch", "float32")},
        storages=storages))
    assert list(read) == ["a", "b", "c"]
    np.testing.assert_array_equal(read["a"], stored.view("<u4").reshape(2, 3))
    assert read["b"].dtype == np.uint16
    np.testing.assert_array_equal(read["b"], stored.reshape(-1).view("<u2")[:6:2])
    assert read["c"].tolist() == [0, 2 ** -11] and read["c"].dtype == np.float32


def test_cycles_and_depth_are_refused(write, refuse):
    ring = {"x": tensor()}
    ring["again"] = ring
    refuse(write(ring), "its entry again holds itself")
    deep = tensor()
    for _ in range(20):
        deep = {"d": deep}
    refuse(write(deep), "nested deeper than 16")


def test_a_bomb_of_shared_lists_ends(write, refuse, monkeypatch):
    monkeypatch.setattr(torch_pickle, "MAX_ENTRIES", 10_000)
    bomb = [1]
    for _ in range(12):
        bomb = [bomb] * 10
    refuse(write({"a": tensor(), "bomb": bomb}), "more than 10000 entries")


def test_one_storage_under_very_many_names_is_refused(write, refuse):
    path = write({f"t{i}": tensor() for i in range(10)})
    refuse(path, "shares a storage with too many others")


def test_the_old_containers_own_lies(tmp_path, refuse):
    path = tmp_path / "old.pth"

    def check(content, pattern):
        path.write_bytes(content)
        refuse(path, pattern)

    good = old({"a": tensor()})
    check(good[:-1], "declares 24 bytes for its storage 0; 23 are left")
    check(good[:-30], "cut off|declares|makes no sense")
    check(old({"a": tensor()}, keys=["0", "0"]), "the storage 0 twice")
    check(old({"a": tensor()}, keys=["9"]), "a storage 9 that nothing uses")
    check(old({"a": tensor()}, keys=[]), "its storage 0 is not in the file")
    check(old({"a": tensor()}, keys="0"), "no list of storages")
    check(old({"a": tensor(), "b": tensor(kind="HalfStorage")}), "its storage 0 is of two types")
    count = good.index(struct.pack("<q", 6) + np.arange(6, dtype="<f4").tobytes())
    for value in (-1, 1 << 62):
        check(good[:count] + struct.pack("<q", value) + good[count + 8:], "declares .* bytes for")


def test_parts_of_storages_of_the_oldest_files(tmp_path):
    path = tmp_path / "old.pth"
    path.write_bytes(old({"a": tensor((2,), (1,), 1, part=(("5", 2, 3),))}))
    assert weights.read(path)["a"].tolist() == [3, 4]


def test_the_other_byte_order(tmp_path, refuse):
    data = {"0": np.arange(6, dtype=">f4")}
    path = zipped(tmp_path / "a.pt", {"a": tensor()}, data, b"big")
    assert weights.read(path)["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    refuse(zipped(tmp_path / "b.pt", {"a": tensor()}, data, b"middle"), "unknown byte order")
