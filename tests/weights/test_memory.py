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
    for i in range(0, len(array), 32):
        out[i:i + 32] = array[i:i + 32]
        tensors.forget(array)
print((peak() - before) / out.nbytes)
assert out.shape == SHAPE and out.min() == out.max() == 1
""".replace("SHAPE", str(SHAPE))


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
        file.create_dataset("fc6", data=array, compression="gzip")


def packed_whole(path, array):
    with h5py.File(path, "w") as file:
        file.create_dataset("fc6", data=array, compression=1, shuffle=True, chunks=array.shape)


def npz(path, array):
    with open(path, "wb") as stream:
        np.savez(stream, fc6=array)


def npy(path, array):
    with open(path, "wb") as stream:
        np.save(stream, {"fc6": array})


def library(path, array):
    pytest.importorskip("safetensors.numpy").save_file({"fc6": array}, path)


@pytest.mark.parametrize("write, how", [
    (caffe, "read"), (hdf5, "read"), (packed, "read"), (packed_whole, "read"), (npz, "read"),
    (npy, "read"), (library, "read"), (hdf5, "into"), (packed_whole, "into"), (library, "into")])
def test_peak_memory_is_at_most_1_3_of_the_weights(tmp_path, write, how):
    write(tmp_path / "large", np.ones(SHAPE, np.float32))
    write(tmp_path / "small", np.ones((2, 2), np.float32))
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "large"), str(tmp_path / "small"), how],
        capture_output=True, text=True)
    (tmp_path / "large").unlink()
    assert result.returncode == 0, result.stderr[-2000:]
    assert 0.9 < float(result.stdout) <= 1.3
