"""Keras's HDF5 files, written by h5py as Keras 1, 2 and 3 write them."""
import h5py
import numpy as np
import pytest

from tinyfcn import weights
from tinyfcn.weights import tensors
from tinyfcn.weights.layouts import recognise

NAMES = [f"block{block}_conv{i}" for block, count in enumerate((2, 2, 3, 3, 3), 1)
         for i in range(1, count + 1)] + ["fc1", "fc2", "predictions"]


def as_keras(vgg16):
    """{layer: (kernel, bias)}: HWIO, and dense (in, out)."""
    turned = [np.ascontiguousarray(array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T)
              for array, _ in vgg16.values()]
    return {name: (kernel, bias)
            for name, kernel, (_, bias) in zip(NAMES, turned, vgg16.values())}


def fill(group, layers, names):
    """save_weights of Keras 1 and 2."""
    group.attrs["layer_names"] = [name.encode() for name in layers]
    group.attrs["backend"] = b"tensorflow"
    group.attrs["keras_version"] = b"2.2.4"
    for layer, arrays in layers.items():
        inner = group.create_group(layer)
        paths = [name.format(layer) for name in names]
        inner.attrs["weight_names"] = [path.encode() for path in paths]
        for path, array in zip(paths, arrays):
            inner.create_dataset(path, data=array)


KERAS_1 = ("{0}_W_1:0", "{0}_b_1:0")
KERAS_2 = ("{0}/kernel:0", "{0}/bias:0")


def expected(layers, names):
    return {f"{layer}/{name.format(layer)}": array for layer, arrays in layers.items()
            for name, array in zip(names, arrays)}


@pytest.mark.parametrize("names", [KERAS_1, KERAS_2], ids=["Keras 1", "Keras 2"])
def test_save_weights(tmp_path, vgg16, same, names):
    layers = as_keras(vgg16)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        fill(file, layers | {"flatten": (), "block1_pool": ()}, names)
    read = weights.read(tmp_path / "a.h5")
    assert read.format == "Keras weights (HDF5)"
    same(dict(sorted(read.items())), dict(sorted(expected(layers, names).items())))
    assert recognise(read).name == "keras-vgg"


def test_model_save_holds_more_than_the_model(tmp_path, vgg16, same):
    layers = as_keras(vgg16)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["model_config"] = b"{}"
        file.attrs["keras_version"] = b"2.2.4"
        fill(file.create_group("model_weights"), layers, KERAS_2)
        file["optimizer_weights/Adam/iterations:0"] = np.array(7)
        file["optimizer_weights/Adam/fc1/kernel/m:0"] = np.zeros((2, 2))
    read = weights.read(tmp_path / "a.h5")
    assert read.format == "Keras model (HDF5)"
    assert read.notes == ["the tensors of model_weights were read",
                          "left out 2 tensors of the optimizer"]
    same(dict(sorted(read.items())), dict(sorted(expected(layers, KERAS_2).items())))
    assert recognise(read).name == "keras-vgg"


def test_keras_3(tmp_path, vgg16, same):
    counts, content = {}, {}
    for arrays in as_keras(vgg16).values():
        kind = "conv2d" if arrays[0].ndim == 4 else "dense"
        number = counts[kind] = counts.get(kind, -1) + 1
        for i, array in enumerate(arrays):
            content[f"layers/{kind}{f'_{number}' if number else ''}/vars/{i}"] = array
    with h5py.File(tmp_path / "a.weights.h5", "w") as file:
        for name, array in content.items():
            file[name] = array
        file.create_group("layers/flatten/vars")
        file["optimizer/vars/0"] = np.array(3)
    read = weights.read(tmp_path / "a.weights.h5")
    assert read.format == "Keras 3 weights (HDF5)"
    assert read.notes == ["left out 1 tensors of the optimizer"]
    same(dict(sorted(read.items())), dict(sorted(content.items())))
    assert recognise(read).name == "keras3-vgg"


def test_large_datasets_are_mapped_and_compressed_ones_wait_outside_of_memory(
        tmp_path, monkeypatch):
    monkeypatch.setattr(tensors, "SPOOL_BYTES", 10_000)
    array = np.random.default_rng(0).standard_normal((500, 70))
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=512) as file:
        file.attrs["keras_version"] = b"2"
        file.create_dataset("plain", data=array)
        file.create_dataset("big", data=array.astype(">f8"))
        file.create_dataset("packed", data=array, compression="gzip", shuffle=True)
        file.create_dataset("narrow", data=array, chunks=(3, 70), fletcher32=True)
    read = weights.read(tmp_path / "a.h5")
    assert isinstance(read["plain"], np.memmap) and isinstance(read["packed"], np.memmap)
    for name in ("plain", "big", "packed", "narrow"):
        np.testing.assert_array_equal(read[name], array, err_msg=name)
        assert read[name].dtype == np.float64


def test_other_hdf5_files_are_no_keras(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x/y"] = np.ones(3)
    assert weights.read(tmp_path / "a.h5").format == "HDF5"


def test_links_elsewhere_are_refused(tmp_path, refuse):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        fill(file, {"conv": (np.ones((1, 1, 1, 1)), np.ones(1))}, KERAS_2)
        file["dense"] = h5py.ExternalLink("b.h5", "/x")
    refuse(tmp_path / "a.h5", "dense is a link to elsewhere, which is refused")
