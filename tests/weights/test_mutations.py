"""2,500 seeded changes of files of all formats: they are read or refused, and nothing else.

--mutations N multiplies their number. What is changed and the bounds are in `mutate.py`.
"""
import json
import os
import pathlib
import subprocess
import sys

import h5py
import numpy as np
import pytest

from tinyfcn import weights

PROGRAM = pathlib.Path(__file__).with_name("mutate.py")

# Formats whose readers try them in a process of their own take a quarter of a second a file.
COUNTS = {"caffe": 350, "caffe v1": 100, "torch old": 350, "torch zip": 300, "npz": 200,
          "npz packed": 100, "npy dict": 300, "npy": 100, "safetensors": 250, "keras": 26,
          "mat 5": 308, "mat 5 packed": 100, "mat 7.3": 16}


def arrays():
    rng = np.random.default_rng(1)
    return {"conv1": rng.standard_normal((4, 3, 3, 3), np.float32),
            "fc": rng.standard_normal((5, 16), np.float32), "bias": np.arange(5, dtype="i4")}


def by_library(kind, path):
    content = arrays()
    if kind.startswith("npz"):
        (np.savez_compressed if "packed" in kind else np.savez)(path, **content)
        os.rename(f"{path}.npz", path)
    elif kind.startswith("npy"):
        np.save(path, {"conv1": [content["conv1"], content["bias"]], "fc": {"w": content["fc"]}}
                if "dict" in kind else content["conv1"])
        os.rename(f"{path}.npy", path)
    elif kind == "safetensors":
        pytest.importorskip("safetensors.numpy").save_file(content, path)
    elif kind == "keras":
        with h5py.File(path, "w") as file:
            file.attrs["keras_version"] = b"2"
            for name, array in content.items():
                file[f"{name}/{name}/kernel:0"] = array
            file.create_dataset("packed", data=content["fc"], compression="gzip")


def caffe(path, v1):
    def varint(value):
        out = b""
        while value > 127:
            out += bytes([value & 127 | 128])
            value >>= 7
        return out + bytes([value])

    def field(number, data):
        return varint(number << 3 | 2) + varint(len(data)) + data

    def blob(array):
        shape = b"".join(varint(n << 3) + varint(size) for n, size in zip((1, 2, 3, 4), (
            (1,) * (4 - array.ndim) + array.shape))) if v1 \
            else field(7, field(1, b"".join(map(varint, array.shape))))
        return shape + field(5, array.astype("<f4").tobytes())

    name, blobs, layers = (4, 6, 2) if v1 else (1, 7, 100)
    net = field(1, b"net") + b"".join(
        field(layers, field(name, key.encode()) + field(blobs, blob(array)) * 2)
        for key, array in arrays().items())
    path.write_bytes(net)


def torch_file(path, in_zip):
    """A checkpoint as PyTorch writes it, without PyTorch."""
    import struct
    import zipfile

    from tinyfcn.weights.torch_pickle import MAGIC

    def text(value):
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    def number(value):
        return b"J" + struct.pack("<i", value)

    def numbers(values):
        return b"(" + b"".join(map(number, values)) + b"t"

    storages = {}

    def tensor(key, array, kind, function="_rebuild_tensor_v2", quantizer=b""):
        steps = [stride // array.itemsize for stride in array.strides]
        storages[key] = array
        return f"ctorch._utils\n{function}\n((".encode() + text("storage") \
            + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + number(array.size) \
            + b"tQ" + number(0) + numbers(array.shape) + numbers(steps) + quantizer + b"\x89}tR"

    content = b"\x80\x02}("
    for key, array in arrays().items():
        kind = "FloatStorage" if array.dtype == np.float32 else "IntStorage"
        content += text(key) + tensor(key, array, kind)
    scales = tensor("scales", np.ones(2), "DoubleStorage")
    zero_points = tensor("zero points", np.ones(2, "i8"), "LongStorage")
    content += text("each") + tensor(
        "each", np.ones((2, 3), "i1"), "QInt8Storage", "_rebuild_qtensor",
        b"(ctorch\nper_channel_affine\n" + scales + zero_points + number(0) + b"t")
    content += text("all") + tensor(
        "all", np.ones((2, 2), "u1"), "QUInt4x2Storage", "_rebuild_qtensor",
        b"(ctorch\nper_tensor_affine\n" + number(1) + number(1) + b"t")
    content += b"u."
    if in_zip:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", content)
            for key, array in storages.items():
                archive.writestr(f"archive/data/{key}", array.tobytes())
        return
    import pickle

    path.write_bytes(b"".join(pickle.dumps(value, 2) for value in (
        MAGIC, 1001, {"little_endian": True})) + content
        + pickle.dumps(list(storages), 2)
        + b"".join(struct.pack("<q", array.size) + array.tobytes()
                   for array in storages.values()))


def mat(path, kind):
    if "7.3" not in kind:
        io = pytest.importorskip("scipy.io")
        layers = np.empty((1, 2), object)
        for i, name in enumerate(("conv1", "fc")):
            both = np.empty((1, 2), object)
            both[0, 0], both[0, 1] = arrays()[name], arrays()["bias"]
            layers[0, i] = {"name": name, "weights": both}
        io.savemat(path, {"layers": layers}, do_compression="packed" in kind,
                   appendmat=False)
        return
    with h5py.File(path, "w", userblock_size=512) as file:
        refs = [file.create_dataset(f"#refs#/{name}", data=array).ref
                for name, array in arrays().items()]
        names = [file.create_dataset(f"#refs#/n{i}", data=np.array([[97 + i]], "u2")).ref
                 for i in range(3)]
        for field, items in (("name", names), ("value", refs)):
            file.create_dataset(f"params/{field}", data=np.array([[ref] for ref in items],
                                                                 h5py.ref_dtype))
    with open(path, "r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


@pytest.mark.skipif(not hasattr(__import__("signal"), "alarm"), reason="needs alarms")
@pytest.mark.parametrize("kind", COUNTS)
def test_changed_files_are_read_or_refused(tmp_path, request, kind):
    source = tmp_path / "good"
    if kind.startswith("caffe"):
        caffe(source, "v1" in kind)
    elif kind.startswith("torch"):
        torch_file(source, "zip" in kind)
    elif kind.startswith("mat"):
        mat(source, kind)
    else:
        by_library(kind, source)
    assert len(weights.read(source)) >= 1
    count = COUNTS[kind] * request.config.getoption("--mutations")
    result = subprocess.run(
        [sys.executable, str(PROGRAM), str(source), str(tmp_path), "0", str(count),
         "repack" if kind in ("torch zip", "npz", "npz packed") else "no"],
        capture_output=True, text=True, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    assert result.returncode == 0, result.stderr[-3000:]
    outcomes = json.loads(result.stdout)
    assert sum(outcomes.values()) == count
    # Data are never checked but in archives: some changes go unseen, not most.
    assert outcomes["refused"] > count / 20


def test_there_are_as_many_as_promised():
    assert sum(COUNTS.values()) == 2500
