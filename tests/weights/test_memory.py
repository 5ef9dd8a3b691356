"""Loading takes little more memory than the weights themselves."""
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")

# One dense layer as large as a narrow fc6: 100 MB, which the readers must not hold twice.
SHAPE = (1024, 64 * 7 * 7, 8)
# They shrink as no net's do, but not as air does.
NUMBERS = f"np.random.default_rng(0).random((1024, 392), np.float32).repeat(64).reshape({SHAPE})"
PROGRAM = """
import sys
import numpy as np
from tinyfcn import weights
from tinyfcn.weights import tensors

def peak():
    # Unlike what getrusage tells, this is not inherited from the parent.
    with open("/proc/self/status") as stream:
        return next(1024 * int(line.split()[1]) for line in stream if line.startswith("VmHWM"))

path, warm, how = sys.argv[1:]
np.asarray(next(iter(weights.read(warm).values()))).sum()  # imports what it needs
weights.read_into(warm, {"fc6": np.empty((2, 2), np.float32)} if how == "into" else {})
before = peak()
if how == "into":
    out = np.full(SHAPE, 2, np.float32)
    weights.read_into(path, {"fc6": out})
else:
    array = next(iter(weights.read(path).values()))
    out = np.empty(array.shape, array.dtype)
    # Slices that lie together in the file: the order of MATLAB's is Fortran's.
    axis = int(np.argmax(array.strides))
    target, source = np.moveaxis(out, axis, 0), np.moveaxis(array, axis, 0)
    step = max(1, len(source) // 32)
    for i in range(0, len(source), step):
        target[i:i + step] = source[i:i + step]
        tensors.forget(array)
print((peak() - before) / out.nbytes)
assert np.array_equal(out, NUMBERS)
""".replace("SHAPE", str(SHAPE)).replace("NUMBERS", NUMBERS)


def caffe(path, array):
    def varint(value):
        out = b""
        while value > 127:
            out += bytes([value & 127 | 128])
            value >>= 7
        return out + bytes([value])

    def field(number, data):
        return varint(number << 3 | 2) + varint(len(data)) + data

    shape = field(7, field(1, b"".join(map(varint, array.shape))))
    path.write_bytes(field(1, b"n") + field(100, field(1, b"fc6") + field(
        7, shape + field(5, array.tobytes()))))


def hdf5(path, array):
    with h5py.File(path, "w") as file:
        file["fc6"] = array


def packed(path, array):
    with h5py.File(path, "w") as file:
        file.create_dataset("fc6", data=array, compression=1)


def packed_whole(path, array):
    with h5py.File(path, "w") as file:
        file.create_dataset("fc6", data=array, compression=1, shuffle=True, chunks=array.shape)


def npz(path, array):
    with open(path, "wb") as stream:
        np.savez(stream, fc6=array)


def npy(path, array):
    with open(path, "wb") as stream:
        np.save(stream, {"fc6": array})


def matlab(path, array, **options):
    both = np.empty((1, 1), object)
    both[0, 0] = array
    layer = np.empty((1, 1), object)
    layer[0, 0] = {"name": "fc6", "weights": both}
    pytest.importorskip("scipy.io").savemat(
        path, {"layers": layer}, appendmat=False, do_compression="packed" in options)


def matlab_packed(path, array):
    matlab(path, array, packed=True)


def matlab_hdf5(path, array, **options):
    options = options or {"compression": 1, "chunks": (1, 64, 1024) if array.size > 4 else None}
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("#refs#/a", data=array.T, **options)
        file.create_dataset("#refs#/b", data=np.array([[ord(c)] for c in "fc6"], "u2"))
        for name, item in ("value", "a"), ("name", "b"):
            file.create_dataset(f"params/{name}", data=[[file[f"#refs#/{item}"].ref]],
                                dtype=h5py.ref_dtype)
    with open(path, "r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


def matlab_hdf5_whole(path, array):
    matlab_hdf5(path, array, chunks=array.T.shape)


def matlab_hdf5_packed_whole(path, array):
    matlab_hdf5(path, array, chunks=array.T.shape, compression=1, shuffle=True)


def library(path, array):
    pytest.importorskip("safetensors.numpy").save_file({"fc6": array}, path)


@pytest.mark.parametrize("write, how", [
    (caffe, "read"), (hdf5, "read"), (packed, "read"), (packed_whole, "read"), (npz, "read"),
    (npy, "read"), (library, "read"), (matlab, "read"), (matlab_packed, "read"),
    (matlab_hdf5, "read"), (matlab_hdf5_whole, "read"), (matlab_hdf5_packed_whole, "read"),
    (hdf5, "into"), (packed_whole, "into"), (library, "into")])
def test_peak_memory_is_at_most_1_3_of_the_weights(tmp_path, write, how):
    write(tmp_path / "large", eval(NUMBERS))
    write(tmp_path / "small", np.ones((2, 2), np.float32))
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "large"), str(tmp_path / "small"), how],
        capture_output=True, text=True)
    (tmp_path / "large").unlink()
    assert result.returncode == 0, result.stderr[-2000:]
    assert 0.9 < float(result.stdout) <= 1.3
