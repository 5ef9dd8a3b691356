"""Caffe models, against protobuf with Caffe's schema; damaged and hostile ones are refused."""
import struct

import numpy as np
import pytest

from tinyfcn import weights
from tinyfcn.weights import caffe


@pytest.fixture(scope="module")
def schema():
    """The messages of caffe.proto that matter here, made by protobuf."""
    pytest.importorskip("google.protobuf")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    one, many = 1, 3
    kinds = {"double": 1, "float": 2, "int64": 3, "int32": 5, "bool": 8, "string": 9,
             "message": 11, "enum": 14, "bytes": 12}
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe")

    def message(name, *fields):
        entry = file.message_type.add(name=name)
        for field, number, label, kind, packed in fields:
            made = entry.field.add(name=field, number=number, label=label)
            if kind in kinds:
                made.type = kinds[kind]
            else:
                made.type, made.type_name = kinds["message"], f".caffe.{kind}"
            if packed is not None:
                made.options.packed = packed

    message("BlobShape", ("dim", 1, many, "int64", True))
    for name, packed in (("BlobProto", True), ("LooseBlob", False)):
        message(name, ("shape", 7, one, "BlobShape", None), ("data", 5, many, "float", packed),
                ("diff", 6, many, "float", packed), ("double_data", 8, many, "double", packed),
                ("num", 1, one, "int32", None), ("channels", 2, one, "int32", None),
                ("height", 3, one, "int32", None), ("width", 4, one, "int32", None))
    message("LayerParameter", ("name", 1, one, "string", None), ("type", 2, one, "string", None),
            ("bottom", 3, many, "string", None), ("top", 4, many, "string", None),
            ("loss_weight", 5, many, "float", None), ("blobs", 7, many, "BlobProto", None))
    message("V1LayerParameter", ("bottom", 2, many, "string", None),
            ("top", 3, many, "string", None), ("name", 4, one, "string", None),
            ("type", 5, one, "int32", None), ("blobs", 6, many, "BlobProto", None),
            ("blobs_lr", 7, many, "float", None))
    message("NetParameter", ("name", 1, one, "string", None),
            ("layers", 2, many, "V1LayerParameter", None), ("input", 3, many, "string", None),
            ("input_dim", 4, many, "int32", None), ("force_backward", 5, one, "bool", None),
            ("layer", 100, many, "LayerParameter", None))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}"))
            for name in ("NetParameter", "BlobProto", "LooseBlob")}


def fill(blob, array, legacy):
    if legacy:
        sizes = (1,) * (4 - array.ndim) + array.shape
        blob.num, blob.channels, blob.height, blob.width = sizes
    else:
        blob.shape.dim.extend(array.shape)
    data = blob.double_data if array.dtype == np.float64 else blob.data
    data.extend(array.reshape(-1).tolist())


def model(schema, tensors, v1=False, legacy=False):
    net = schema["NetParameter"](name="VGG")
    net.input.append("data")
    for size in (1, 3, 224, 224):
        net.input_dim.append(size)
    layers = net.layers if v1 else net.layer
    for name, arrays in tensors.items():
        layer = layers.add(name=name)
        layer.bottom.append("data")
        for array in arrays:
            fill(layer.blobs.add(), array, legacy)
        layers.add(name=f"relu_{name}", bottom=[name], top=[name])
    return net.SerializeToString()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("v1", [False, True])
def test_vgg16_written_by_protobuf(tmp_path, schema, vgg16, same, v1, legacy, dtype):
    tensors = {name: [array.astype(dtype) for array in arrays] for name, arrays in vgg16.items()}
    path = tmp_path / "vgg.caffemodel"
    path.write_bytes(model(schema, tensors, v1, legacy))
    read = weights.read(path)
    assert read.format == "Caffe model" + ", V1 layers" * v1
    same(read, {f"{name}/{i}": array.reshape((1,) * (4 - array.ndim) + array.shape) if legacy
                else array for name, arrays in tensors.items() for i, array in enumerate(arrays)})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_unpacked_numbers(tmp_path, schema, dtype):
    array = np.random.default_rng(0).standard_normal((4, 3, 5, 5)).astype(dtype)
    loose = schema["LooseBlob"]()
    fill(loose, array, False)
    # protobuf reads the one as the other.
    assert schema["BlobProto"].FromString(loose.SerializeToString()).shape.dim == [4, 3, 5, 5]
    path = tmp_path / "loose.caffemodel"
    path.write_bytes(net(layer(b"conv1", loose.SerializeToString())))
    read = weights.read(path)["conv1/0"]
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, array)


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number, content):
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def blob(shape=(2, 3), numbers=6, *, data=None):
    data = field(5, np.arange(numbers, dtype="<f4").tobytes()) if data is None else data
    return field(7, field(1, b"".join(map(varint, shape)))) + data


def layer(name, *blobs):
    return field(1, name) + field(2, b"Convolution") + b"".join(field(7, each) for each in blobs)


def net(*layers):
    return field(1, b"net") + b"".join(field(100, each) for each in layers)


def test_one_blob_in_several_runs_of_both_kinds(tmp_path):
    unpacked = b"".join(b"\x2d" + struct.pack("<f", value) for value in (2, 3))
    data = field(5, np.arange(2, dtype="<f4").tobytes()) + unpacked \
        + field(5, np.arange(4, 6, dtype="<f4").tobytes())
    path = tmp_path / "runs.caffemodel"
    path.write_bytes(net(layer(b"conv1", data + blob(data=b""))))
    assert weights.read(path)["conv1/0"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_large_tensors_stay_in_the_file(tmp_path):
    path = tmp_path / "a.caffemodel"
    path.write_bytes(net(layer(b"conv1", blob((100, 100), 10_000))))
    array = weights.read(path)["conv1/0"]
    assert isinstance(array, np.memmap) and not array.flags.writeable
    assert array[99, 99] == 9999


def test_unknown_fields_are_passed_over(tmp_path):
    path = tmp_path / "a.caffemodel"
    extra = field(9, 7) + field(1000, b"later") + varint(50 << 3 | 5) + b"1234" \
        + varint(51 << 3 | 1) + b"12345678"
    path.write_bytes(net(layer(b"conv1", blob() + extra) + extra) + extra)
    assert list(weights.read(path)) == ["conv1/0"]


HOSTILE = {
    "cut": (net(layer(b"conv1", blob()), layer(b"fc6", blob()))[:-3],
            "what follows conv1/0 declares 52 bytes where 49 are left"),
    "no weights": (net(layer(b"relu1")), "a Caffe net without any weights"),
    "numbers missing": (net(layer(b"conv1", blob((2, 4)))),
                        r"conv1/0 is \(2, 4\), but has 6 numbers"),
    "numbers too many": (net(layer(b"conv1", blob((2, 2)))), r"is \(2, 2\), but has 6 numbers"),
    "huge": (net(layer(b"conv1", blob((1 << 40, 1 << 40)))),
             "conv1/0 declares 4835703278458516698824704 bytes"),
    "negative": (net(layer(b"conv1", blob((2**64 - 2, 3)))), "conv1/0 has a negative size"),
    "many axes": (net(layer(b"conv1", blob((1,) * 9 + (6,)))), "more than 8 dimensions"),
    "long varint": (net(layer(b"conv1", b"\x08" + b"\xff" * 11 + blob())),
                    "conv1/0 has a number of more than 64 bits"),
    "long length": (net(layer(b"conv1", b"\x2a" + varint(1 << 62))),
                    "declares 4611686018427387904 bytes where 0 are left"),
    "odd bytes": (net(layer(b"conv1", blob((1,), data=field(5, b"12345")))),
                  "end within a number"),
    "both kinds": (net(layer(b"conv1", blob((1,), data=field(5, b"1234") + field(8, b"12345678")))),
                   "both float and double"),
    "data as varint": (net(layer(b"conv1", blob((1,), data=field(5, 3)))), "of an unknown kind"),
    "group": (net(layer(b"conv1", blob()) + b"\x0b"), "wire type 3"),
    "field 0": (net(layer(b"conv1", blob()) + b"\x02\x00"), "field with the number 0"),
    "twice": (net(layer(b"conv1", blob()), layer(b"conv1", blob())), "conv1/0 is there twice"),
    "no name": (net(field(7, blob())), "a tensor has no name"),
    "long name": (net(layer(b"a" * 301, blob())), "more than 300 characters"),
    "escape": (net(layer(b"a\x1b[31m", blob())), r"control characters: a\\x1b\[31m"),
    "not a text": (net(layer(b"\xff\xfe", blob())), "no text"),
    "V0": (field(1, b"net") + field(2, field(1, field(1, b"conv1"))), "2013 .V0."),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_damaged_and_hostile_models_are_refused(tmp_path, refuse, case):
    content, pattern = HOSTILE[case]
    path = tmp_path / "bad.caffemodel"
    path.write_bytes(content)
    refuse(path, pattern)


def test_a_flood_of_fields_ends(tmp_path, refuse, monkeypatch):
    monkeypatch.setattr(caffe, "MAX_FIELDS", 1000)
    path = tmp_path / "flood.caffemodel"
    path.write_bytes(net(layer(b"conv1", blob())) + field(7, 1) * 1000)
    refuse(path, "behind 1000 fields")


@pytest.mark.parametrize("content", [b"\nname: \"LeNet\"\nlayer {\n}\n", b"\x0a\x03net\xff\xff",
                                     b"# readme", b"\x12"])
def test_what_only_looks_like_a_model(tmp_path, refuse, content):
    path = tmp_path / "text"
    path.write_bytes(content)
    refuse(path, "not a weight file of a known format|damaged Caffe model")
