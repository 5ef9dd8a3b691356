"""Keras's HDF5 files: save_weights and model.save of Keras 1 and 2, and .weights.h5 of Keras 3.

A tensor's name is the path of its dataset: "block1_conv1/block1_conv1_W_1:0" (Keras 1),
"conv2d_2/conv2d_2/kernel:0" (Keras 2), "layers/conv2d/vars/0" (Keras 3, which counts the layers of
each kind in the order of the net). In a file of model.save the path begins below "model_weights".
What belongs to the optimizer is left out.
"""
from tinyfcn.weights import hdf5_file
from tinyfcn.weights.hdf5_safety import opened
from tinyfcn.weights.hdf5_safety import recognise as _is_hdf5
from tinyfcn.weights.tensors import Tensors

MODEL = "model_weights/"
OPTIMIZERS = ("optimizer_weights/", "optimizer/", "_optimizer/")


def recognise(path):
    """Say whether a file is an HDF5 file with the marks of Keras.

    Raises
    ------
    WeightsError
        It is an HDF5 file, but a damaged one.
    """
    if not _is_hdf5(path):
        return False
    with opened(path) as (tensors, about):
        if about or not tensors:
            return False
        attributes = next(iter(tensors.values())).file.attrs
        return "keras_version" in attributes or "layer_names" in attributes \
            or any(name.startswith((MODEL, "layers/", "_layer_checkpoint_dependencies/"))
                   and "/vars/" in name or name.startswith(MODEL) for name in tensors)


def read(path):
    """Read the tensors of the net.

    Returns
    -------
    Tensors
        Views of the mapped file, where it is not compressed.

    Raises
    ------
    WeightsError
    """
    stored = hdf5_file.read(path)
    is_3 = any("/vars/" in name for name in stored)
    tensors = Tensors(path, "Keras 3 weights (HDF5)" if is_3 else "Keras weights (HDF5)")
    whole = any(name.startswith(MODEL) for name in stored)
    if whole:
        tensors.format = "Keras model (HDF5)"
        tensors.notes.append("the tensors of model_weights were read")
    left_out = [name for name in stored if name.startswith(OPTIMIZERS)
                or whole and not name.startswith(MODEL)]
    if left_out:
        tensors.notes.append(f"left out {len(left_out)} tensors of the optimizer")
    for name, array in stored.items():
        if name not in left_out:
            tensors.put(name.removeprefix(MODEL) if whole else name, array)
    return tensors
