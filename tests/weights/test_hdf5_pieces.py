"""Compressed HDF5 datasets of all shapes, read piece by piece."""
import zlib

import h5py
import numpy as np
import pytest

from tinyfcn import weights
from tinyfcn.weights import WeightsError, hdf5_pieces, hdf5_safety, tensors

SHAPE = (50, 7, 11)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(hdf5_pieces, "SLICE_BYTES", 1000)
    monkeypatch.setattr(tensors, "SPOOL_BYTES", 500)


@pytest.fixture
def array():
    return np.random.default_rng(0).integers(-9, 9, SHAPE).astype(np.float32)


@pytest.mark.parametrize("options", [
    {"chunks": SHAPE}, {"chunks": SHAPE, "shuffle": True},
    {"chunks": (20, 7, 11), "shuffle": True},  # the last one reaches beyond the end
    {"chunks": (50, 7, 2)}, {"chunks": (1, 1, 1)}, {"chunks": (3, 7, 11)}, {"chunks": (50, 1, 11)},
    {"chunks": SHAPE, "fletcher32": True}, {"chunks": SHAPE, "compression": None},
    {"chunks": SHAPE, "compression": None, "shuffle": True},
    {"chunks": (64, 8, 12), "maxshape": (None, None, None), "shuffle": True},
])
@pytest.mark.parametrize("dtype", ["f4", ">f8", "i2"])
def test_the_numbers_are_those_that_were_written(tmp_path, array, options, dtype):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=array.astype(dtype), **{"compression": 6, **options})
    read = weights.read(path)["x"]
    np.testing.assert_array_equal(read, array)
    assert read.dtype == np.dtype(dtype).newbyteorder("=")
    out = np.zeros(SHAPE)
    weights.read_into(path, {"x": out})
    np.testing.assert_array_equal(out, array)


@pytest.mark.parametrize("user_block", [0, 512])
def test_pieces_cover_a_dataset_once_and_are_small(tmp_path, array, user_block):
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=user_block) as file:
        whole = {"chunks": SHAPE}
        for name, options in {
                "plain": {}, "rows": {"chunks": (3, 7, 11), "compression": 1},
                "packed": whole | {"compression": 1, "shuffle": True},
                "shuffled": whole | {"shuffle": True}, "checked": whole | {"fletcher32": True},
                "all": whole | {"compression": 1, "shuffle": True, "fletcher32": True}}.items():
            file.create_dataset(name, data=array, **options)
        file.flush()
        for name, dataset in file.items():
            covered = np.zeros(SHAPE, int)
            for place, piece in hdf5_pieces.pieces(tmp_path / "a.h5", name, dataset):
                covered[place] += 1
                assert piece.nbytes <= 1000
                np.testing.assert_array_equal(piece, array[place])
            assert (covered == 1).all()


def test_chunks_that_are_not_stored_or_not_compressed(tmp_path, array):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", SHAPE, "f4", chunks=(25, 7, 11), compression=1, fillvalue=3)
        file["x"][25:] = array[25:]
        plain = file.create_dataset("y", SHAPE, "f4", chunks=SHAPE, compression=1)
        plain.id.write_direct_chunk((0, 0, 0), array.tobytes(), filter_mask=1)
        file["z"] = array
    read = weights.read(path)
    assert (read["x"][:25] == 3).all()
    np.testing.assert_array_equal(read["x"][25:], array[25:])
    np.testing.assert_array_equal(read["y"], array)


@pytest.mark.parametrize("user_block", [512, 4096])
@pytest.mark.parametrize("compression", [None, 1])
def test_behind_a_user_block(tmp_path, array, user_block, compression):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", userblock_size=user_block) as file:
        file.create_dataset("x", data=array, chunks=SHAPE, compression=compression)
    np.testing.assert_array_equal(weights.read(path)["x"], array)


@pytest.mark.parametrize("behind", [0, 512])
def test_libraries_that_leave_the_user_block_out_and_that_do_not(tmp_path, array, monkeypatch,
                                                                 behind):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", userblock_size=512) as file:
        x = file.create_dataset("x", data=array, chunks=SHAPE, compression=1)
        file.flush()
        packed = x.id.read_direct_chunk((0, 0, 0))[1]
        at = path.read_bytes().index(packed)
        monkeypatch.setattr(hdf5_pieces, "_leaves_out_user_blocks", lambda: behind > 0)
        assert hdf5_pieces._place_in_file(file, at - behind) == at


@pytest.mark.parametrize("change, message", [
    (lambda data: data[:-9], r"the compressed data are cut off"),
    (lambda data: data[:30] + bytes(20) + data[50:], r"Error -3|invalid|than its shape takes"),
    (lambda data: zlib.compress(bytes(range(256)) * 60), r"less data than its shape takes"),
    (lambda data: zlib.compress(bytes(100_000)), r"more data than its shape takes"),
])
def test_a_damaged_chunk_is_refused(tmp_path, array, monkeypatch, change, message):
    # Else another process comes upon it, through libhdf5: there nothing is as small as here.
    monkeypatch.setattr(hdf5_safety, "_check_before_opening", lambda path: None)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        x = file.create_dataset("x", data=array, chunks=SHAPE, compression=1)
        data = x.id.read_direct_chunk((0, 0, 0))[1]
        x.id.write_direct_chunk((0, 0, 0), change(data))
    out = np.zeros(SHAPE)
    for read in weights.read, lambda path: weights.read_into(path, {"x": out}):
        with pytest.raises(WeightsError, match=message) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ")
    assert not out.any()


@pytest.mark.parametrize("dtype, shape", [("f4", SHAPE), ("i1", SHAPE), ("u1", (1_200_001,))])
@pytest.mark.parametrize("compression", [None, 1])
def test_a_checksum_tells_damage(tmp_path, monkeypatch, refuse, dtype, shape, compression):
    monkeypatch.setattr(hdf5_safety, "_check_before_opening", lambda path: None)
    path = tmp_path / "a.h5"
    # As many as the blocks of the file, and more; an odd number of bytes; sums that are 0.
    for value in (np.arange(np.prod(shape)) % 127).reshape(shape).astype(dtype), np.zeros(shape):
        with h5py.File(path, "w") as file:
            x = file.create_dataset("x", data=value.astype(dtype), chunks=shape, fletcher32=True,
                                    compression=compression)
            data = x.id.read_direct_chunk((0,) * len(shape))[1]
        np.testing.assert_array_equal(weights.read(path)["x"], value)
        content = path.read_bytes()
        at = content.index(data) + len(data) - 4
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1:])
        refuse(path, "damaged HDF5 file: x cannot be read .its checksum does not agree")
