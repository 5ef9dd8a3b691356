"""MatConvNet's models (.mat): simplenn and DagNN, in MATLAB's formats 5 (scipy) and 7.3 (HDF5).

Names: in a DagNN those of its parameters ("conv1_1_filter"); in a simplenn the layer's and the
number of the weight, "conv1_1/0" the filters, "conv1_1/1" the biases ("conv1_1/filters" and
"conv1_1/biases" in the oldest files); layers without a name count from "layer1". Shapes are as
stored: MATLAB drops trailing axes of 1, and a bias is (1, n) or (n, 1).

Both libraries run in a process of their own, which hands over the weights alone.
"""
import os

import numpy as np

from tinyfcn.weights.child import child
from tinyfcn.weights.errors import weights_error
from tinyfcn.weights.tensors import (
    BLOCK_BYTES, MAX_TENSORS, MAX_TOTAL_BYTES, Tensors, check_name, check_tensor, gather, short)

HDF5_TEXT = b"MATLAB 7.3 MAT-file"
CHILD_SECONDS = 30
CHILD_BYTES = 4 << 30
# Reading goes at this rate at least.
BYTES_PER_SECOND = 10 << 20
VARIABLES = ("net", "layers", "params")
MAX_LAYERS = MAX_TENSORS


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

    Raises
    ------
    WeightsError
    """
    with open(path, "rb") as stream:
        is_hdf5 = stream.read(len(HDF5_TEXT)) == HDF5_TEXT
    function, library = ("read_hdf5", "the HDF5 library") if is_hdf5 else ("read_5", "scipy")
    size = os.path.getsize(path)
    with child(path, f"{__name__}:{function}", ("MATLAB file", library),
               CHILD_SECONDS + size / BYTES_PER_SECOND, CHILD_BYTES + 2 * size) as answer:
        (kind, table), stream = answer
        tensors = Tensors(path, f"MatConvNet {kind} (MATLAB {'7.3' if is_hdf5 else '5'})")
        for name, code, shape in table:
            dtype, shape = np.dtype(code), tuple(shape)
            shown = check_name(path, name)
            size = check_tensor(path, shown, dtype, shape)
            # MATLAB's order is Fortran's.
            array = gather(path, shown, _blocks(stream, size), dtype, shape[::-1]).T
            tensors.put(name, array)
    return tensors


def _blocks(stream, size):
    while size and (block := stream.read(min(size, BLOCK_BYTES))):
        size -= len(block)
        yield block


def read_5(path):
    """What the child process does with a file of format 5."""
    try:
        from scipy.io import loadmat
    except ImportError:
        raise weights_error(path, "is a MATLAB file, which takes the package scipy "
                                  "(pip install tinyfcn[matlab])") from None
    content = loadmat(path, variable_names=VARIABLES, struct_as_record=True)
    # A struct comes as an array of records, a cell as one of objects.
    return _answer(path, _Struct5({name: value for name, value in content.items()
                                   if name in VARIABLES}))


def read_hdf5(path):
    """What the child process does with a file of format 7.3."""
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        return _answer(path, _StructHdf5(path, file, file))


def _answer(path, root):
    """((kind, [(name, dtype, shape)]), blocks) of the weights below the variables of a file."""
    root = root.struct("net") or root
    if root.has("params"):
        kind, found = "DagNN", _dag_parameters(path, root)
    elif root.has("layers"):
        kind, found = "simplenn", _simplenn_weights(path, root)
    else:
        raise weights_error(path, "is a MATLAB file without a net (no layers, no params)")
    arrays, total = [], 0
    for name, value in found:
        array = np.asarray(value)
        total += check_tensor(path, short(name), array.dtype, array.shape)
        if len(arrays) >= MAX_TENSORS or total > MAX_TOTAL_BYTES:
            raise weights_error(path, "holds more than any net does")
        arrays.append((name, array))
    if not arrays:
        raise weights_error(path, f"is a {kind} without any weights")
    table = [(name, array.dtype.newbyteorder("=").str, array.shape) for name, array in arrays]
    return (kind, table), (_bytes(array) for _, array in arrays)


def _bytes(array):
    """A tensor's numbers in Fortran's order."""
    line = np.asarray(array, array.dtype.newbyteorder("=")).ravel(order="F")
    return memoryview(line.view(np.uint8))


def _dag_parameters(path, root):
    for item in root.structs("params"):
        name = item.text("name")
        if not name:
            raise weights_error(path, "a parameter has no name")
        yield name, item.numbers("value")


def _simplenn_weights(path, root):
    for index, layer in enumerate(root.structs("layers"), 1):
        name = layer.text("name") or f"layer{index}"
        if layer.has("weights"):
            for number, value in enumerate(layer.list("weights")):
                # A layer without biases has an empty one.
                if np.size(value):
                    yield f"{name}/{number}", value
        else:
            for field in ("filters", "biases"):
                if layer.has(field) and np.size(layer.numbers(field)):
                    yield f"{name}/{field}", layer.numbers(field)


class _Struct5:
    """A struct as scipy gives it, {field: value}."""

    def __init__(self, fields):
        self.fields = fields

    def has(self, name):
        return name in self.fields

    def struct(self, name):
        """The struct of a field, or None."""
        value = self.fields.get(name)
        if value is None or value.dtype.names is None or value.size != 1:
            return None
        return _Struct5(_record(value.reshape(-1)[0]))

    def structs(self, name):
        """The structs of a field: of a cell of structs, or of an array of them."""
        value = self.fields[name]
        for item in value.reshape(-1)[:MAX_LAYERS]:
            if value.dtype.names is None:
                item = np.asarray(item).reshape(-1)[0]
            yield _Struct5(_record(item))

    def text(self, name):
        value = self.fields.get(name)
        return "" if value is None or value.size == 0 else str(value.reshape(-1)[0])

    def numbers(self, name):
        return self.fields[name]

    def list(self, name):
        return list(self.fields[name].reshape(-1)[:MAX_LAYERS])


def _record(item):
    return {name: item[name] for name in item.dtype.names}


class _StructHdf5:
    """A struct as MATLAB 7.3 stores it: a group of datasets, or of references to them.

    In an array of structs every field is an array of references; `index` says which is meant.
    """

    def __init__(self, path, file, group, index=None):
        import h5py

        self.h5py, self.path, self.file, self.group, self.index = h5py, path, file, group, index

    def has(self, name):
        return name in self.group

    def struct(self, name):
        if not self.has(name):
            return None
        value = self._field(name)
        return _StructHdf5(self.path, self.file, value) \
            if isinstance(value, self.h5py.Group) else None

    def structs(self, name):
        value = self._field(name)
        if isinstance(value, self.h5py.Dataset):
            # A cell of structs.
            for item in self._references(value):
                yield _StructHdf5(self.path, self.file, item)
            return
        counts = {value[field].size for field in value
                  if isinstance(value[field], self.h5py.Dataset)
                  and value[field].dtype == self.h5py.ref_dtype}
        if not counts:
            yield _StructHdf5(self.path, self.file, value)
            return
        for index in range(min(min(counts), MAX_LAYERS)):
            yield _StructHdf5(self.path, self.file, value, index)

    def text(self, name):
        if not self.has(name):
            return ""
        letters = self._numbers(self._field(name))
        return "".join(map(chr, letters.reshape(-1)[:1000])) if letters.dtype.kind == "u" else ""

    def numbers(self, name):
        return self._numbers(self._field(name))

    def list(self, name):
        value = self._field(name)
        return [self._numbers(item) for item in self._references(value)]

    def _field(self, name):
        if not isinstance(self.group.get(name, getlink=True), self.h5py.HardLink):
            raise weights_error(self.path, f"{short(name)} is a link to elsewhere, which is "
                                           "refused")
        value = self.group[name]
        if self.index is not None:
            value = self._references(value)[self.index]
        return value

    def _references(self, dataset):
        if dataset.dtype != self.h5py.ref_dtype or dataset.size > MAX_LAYERS:
            raise weights_error(self.path, f"{short(dataset.name)} is no list of layers or weights")
        return [self.file[reference] for reference in dataset[()].reshape(-1)]

    def _numbers(self, dataset):
        name = short(dataset.name)
        if dataset.external or dataset.is_virtual:
            raise weights_error(self.path, f"{name} has its data in another file, which is refused")
        # MATLAB stores of an empty array its shape.
        if "MATLAB_empty" in dataset.attrs:
            return np.empty(0)
        check_tensor(self.path, name, dataset.dtype, dataset.shape)
        return dataset[()].T
