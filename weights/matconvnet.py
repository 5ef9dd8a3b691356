"""MatConvNet's models (.mat): simplenn and DagNN, in MATLAB's formats 5 and 7.3 (HDF5).

Names: in a DagNN those of its parameters ("conv1_1_filter"); in a simplenn the layer's and the
number of the weight, "conv1_1/0" the filters, "conv1_1/1" the biases ("conv1_1/filters" and
"conv1_1/biases" in the oldest files); layers without a name count from "layer1". Shapes are as
stored: MATLAB drops trailing axes of 1, and a bias is (1, n) or (n, 1).
"""
import h5py
import numpy as np

from tinyfcn.weights import matlab5
from tinyfcn.weights.errors import weights_error
from tinyfcn.weights.hdf5_file import map_tensor
from tinyfcn.weights.hdf5_safety import (
    check_dataset, check_place, open_hdf5, read_pieces, try_in_child)
from tinyfcn.weights.tensors import MAX_TENSORS, Tensors, check_name, map_file, short

HDF5_TEXT = b"MATLAB 7.3 MAT-file"
VARIABLES = ("net", "layers", "params")
MAX_TEXT = 1000


def recognise(path):
    """Say whether a file begins as MATLAB's formats 5 and 7.3 do."""
    with open(path, "rb") as stream:
        head = stream.read(128)
    return head.startswith(HDF5_TEXT) \
        or len(head) == 128 and head[124:] in (b"\x00\x01IM", b"\x01\x00MI")


def read(path):
    """Read the weights of all layers.

    Returns
    -------
    Tensors
        Views of the mapped file, where it is not compressed.

    Raises
    ------
    WeightsError
    """
    with open(path, "rb") as stream:
        is_hdf5 = stream.read(len(HDF5_TEXT)) == HDF5_TEXT
    if not is_hdf5:
        return _tensors(path, "5", _Struct5(path, matlab5.read(path, VARIABLES)))
    try_in_child(path, f"{__name__}:read_for_trial", "MATLAB file")
    with open_hdf5(path, "MATLAB file") as file:
        return _tensors(path, "7.3", _StructHdf5(path, file, file))


def read_for_trial(path):
    """What a child process does with a file of format 7.3: read all that could go wrong."""
    with open_hdf5(path, "MATLAB file") as file:
        _, found = _weights(path, _StructHdf5(path, file, file))
        for name, value in found:
            if isinstance(value, h5py.Dataset):
                for _ in read_pieces(path, name, value):
                    pass


def _tensors(path, version, root):
    kind, found = _weights(path, root)
    tensors, data = Tensors(path, f"MatConvNet {kind} (MATLAB {version})"), map_file(path)
    for name, value in found:
        shown = check_name(path, name)
        if isinstance(value, h5py.Dataset):
            # MATLAB's order is Fortran's.
            value = map_tensor(path, shown, value, data).T
        if not isinstance(value, np.ndarray):
            raise weights_error(path, f"{shown} is no array of real numbers")
        tensors.put(name, value)
    if not tensors:
        raise weights_error(path, f"is a {kind} without any weights")
    return tensors


def _weights(path, root):
    """(kind of net, (name, array or dataset) of each weight) below the variables of a file."""
    root = root.struct("net") or root
    if root.has("params"):
        return "DagNN", _dag_parameters(path, root)
    if root.has("layers"):
        return "simplenn", _simplenn_weights(path, root)
    raise weights_error(path, "is a MATLAB file without a net (no layers, no params)")


def _dag_parameters(path, root):
    for item in root.structs("params"):
        name = item.text("name")
        if not name:
            raise weights_error(path, "a parameter has no name")
        if not item.has("value"):
            raise weights_error(path, f"the parameter {short(name)} has no value")
        yield name, item.numbers("value")


def _simplenn_weights(path, root):
    for index, layer in enumerate(root.structs("layers"), 1):
        name = layer.text("name") or f"layer{index}"
        if layer.has("weights"):
            found = [(str(number), value) for number, value in enumerate(layer.list("weights"))]
        else:
            found = [(field, layer.numbers(field)) for field in ("filters", "biases")
                     if layer.has(field)]
        for kind, value in found:
            # A layer without biases has an empty one.
            if getattr(value, "size", None) != 0:
                yield f"{name}/{kind}", value


class _Struct5:
    """A struct of format 5, {field: value} as `matlab5` gives them."""

    def __init__(self, path, fields):
        self.path, self.fields = path, fields

    def has(self, name):
        return name in self.fields

    def struct(self, name):
        """The struct of a field, or None."""
        match self.fields.get(name):
            case [dict() as fields]:
                return _Struct5(self.path, fields)
        return None

    def structs(self, name):
        """The structs of a field: of a cell of structs, or of an array of them."""
        for item in self.list(name):
            if isinstance(item, list) and len(item) == 1:
                item = item[0]
            if not isinstance(item, dict):
                raise weights_error(self.path, f"{name} is no list of structs")
            yield _Struct5(self.path, item)

    def text(self, name):
        value = self.fields.get(name)
        return value if isinstance(value, str) else ""

    def numbers(self, name):
        return self.fields[name]

    def list(self, name):
        value = self.fields[name]
        if not isinstance(value, list):
            raise weights_error(self.path, f"{name} is no list of layers or weights")
        return value


class _StructHdf5:
    """A struct as MATLAB 7.3 stores it: a group of datasets, or of references to them.

    In an array of structs every field is an array of references; `index` says which is meant.
    """

    def __init__(self, path, file, group, index=None):
        self.path, self.file, self.group, self.index = path, file, group, index

    def has(self, name):
        return name in self.group

    def struct(self, name):
        if not self.has(name):
            return None
        value = self._field(name)
        return _StructHdf5(self.path, self.file, value) \
            if isinstance(value, h5py.Group) else None

    def structs(self, name):
        value = self._field(name)
        if isinstance(value, h5py.Dataset):
            # A cell of structs.
            for item in self._references(value):
                yield _StructHdf5(self.path, self.file, item)
            return
        counts = {value[field].size for field in value
                  if isinstance(value[field], h5py.Dataset)
                  and value[field].dtype == h5py.ref_dtype}
        if not counts:
            yield _StructHdf5(self.path, self.file, value)
            return
        for index in range(min(min(counts), MAX_TENSORS)):
            yield _StructHdf5(self.path, self.file, value, index)

    def text(self, name):
        value = self.numbers(name) if self.has(name) else np.empty(0)
        return "".join(map(chr, value[()].T.reshape(-1))) \
            if value.dtype.kind == "u" and value.size <= MAX_TEXT else ""

    def numbers(self, name):
        return self._numbers(self._field(name))

    def list(self, name):
        return [self._numbers(item) for item in self._references(self._field(name))]

    def _field(self, name):
        if not isinstance(self.group.get(name, getlink=True), h5py.HardLink):
            raise weights_error(self.path, f"{short(name)} is a link to elsewhere, which is "
                                           "refused")
        value = self.group[name]
        if self.index is not None:
            value = self._references(value)[self.index]
        return value

    def _references(self, dataset):
        if dataset.dtype != h5py.ref_dtype or dataset.size > MAX_TENSORS:
            raise weights_error(self.path, f"{short(dataset.name)} is no list of layers or weights")
        check_place(self.path, short(dataset.name), dataset.id)
        return [self.file[reference] for reference in dataset[()].reshape(-1)]

    def _numbers(self, dataset):
        """A dataset whose axes are in the other order than MATLAB's, or an empty array."""
        # MATLAB stores of an empty array its shape.
        if "MATLAB_empty" in dataset.attrs:
            return np.empty(0)
        check_dataset(self.path, short(dataset.name), dataset.id)
        return dataset
