"""PyTorch's tensors: from the records of `pickle_objects` and the bytes of storages to arrays.

What NumPy has no type for becomes float32: bfloat16, the floating-point types of 8 bits, and
quantised numbers, as PyTorch's `dequantize()` gives them.
"""
import math

import numpy as np

from tinyfcn.weights.errors import weights_error
from tinyfcn.weights.float_types import FLOAT8, FLOAT32, widen, widen8
from tinyfcn.weights.pickle_objects import TorchTensor
from tinyfcn.weights.quantized import dequantize, unpack
from tinyfcn.weights.tensors import MAX_RANK, check_tensor, native, short, view

# Tensors may share a storage, as tied weights do; more than this is no net.
MAX_SHARING = 8

QUANTIZED = {"qint8": "i1", "quint8": "u1", "qint32": "i4", "quint4x2": "u1", "quint2x4": "u1"}
PER_BYTE = {"quint4x2": 2, "quint2x4": 4}
# What NumPy has no type for is stored like this.
STORED = {"bfloat16": "u2", **dict.fromkeys(FLOAT8, "u1"), **QUANTIZED}


def stored_dtype(kind):
    """The dtype of what a storage holds; TypeError, if there is none."""
    return np.dtype(STORED.get(kind, kind))


class Storages:
    """The storages of a file, and what lies in them.

    Parameters
    ----------
    path : str or path-like
    find : function
        Gives the bytes of a storage, an ndarray of uint8.
    order : str
        Of their bytes, "<" or ">".
    """

    def __init__(self, path, find, order):
        self.path, self.order = path, order
        self._find, self._found, self._taken = find, {}, 0

    def to_array(self, name, tensor):
        """Make the array that a TorchTensor stands for; WeightsError, if there is none."""
        kind = tensor.kind
        if tensor.quantizer is not None and kind not in QUANTIZED:
            raise weights_error(self.path, f"{name} has a scale, but is of type {kind}")
        if tensor.quantizer is None and kind in QUANTIZED:
            raise weights_error(self.path, f"{name} is of type {kind}, but has no scale")
        array = self._see(name, tensor)
        if kind in QUANTIZED:
            return dequantize(self.path, name, array, *self._quantizer(name, tensor))
        if kind == "bfloat16":
            return widen(self.path, name, array)
        return widen8(self.path, name, array, kind) if kind in FLOAT8 else array

    def _see(self, name, tensor):
        """What is stored at a tensor's place."""
        offset, shape, strides = self._place(name, tensor)
        try:
            dtype = stored_dtype(tensor.kind).newbyteorder(self.order)
        except TypeError:
            raise weights_error(
                self.path, f"{name} is of type {tensor.kind}, which is not read") from None
        check_tensor(self.path, name, FLOAT32 if tensor.kind in STORED else dtype, shape)
        storage = self._bytes(tensor.storage)
        count, per_byte = math.prod(shape), PER_BYTE.get(tensor.kind, 1)
        held = len(storage) * per_byte // dtype.itemsize
        extent = 0 if 0 in shape else \
            offset + 1 + sum((n - 1) * step for n, step in zip(shape, strides))
        if extent > held or count > held:
            raise weights_error(self.path, f"{name} {short(str(shape))} needs {extent} numbers of "
                                           f"its storage, which has {held}")
        self._count(name, count * dtype.itemsize // per_byte)
        if per_byte == 1:
            return native(view(storage, offset * dtype.itemsize, dtype, shape, strides))
        if offset or 0 not in shape and not _in_c_order(shape, strides):
            raise weights_error(self.path, f"{name} is a part of packed numbers or turned, which "
                                           "is not read")
        return unpack(self.path, name, storage[:-(-count // per_byte)], per_byte, shape)

    def _place(self, name, tensor):
        """Where in its storage a tensor lies: offset, shape, strides."""
        offset, shape, strides, part = *tensor[1:4], tensor.storage.view
        numbers = offset, tensor.storage.size, *shape, *strides
        if part is not None:
            # (key, offset, size): PyTorch before 0.4 kept parts of storages.
            numbers += part[1:2] if type(part) is tuple and len(part) == 3 else (None,)
        if not all(type(n) is int and n >= 0 for n in numbers) \
                or len(shape) != len(strides) or len(shape) > MAX_RANK:
            raise weights_error(
                self.path, f"{name} has a place in its storage that makes no sense")
        return offset + (part[1] if part else 0), shape, strides

    def _bytes(self, storage):
        if storage.key not in self._found:
            self._found[storage.key] = self._find(storage)
        return self._found[storage.key]

    def _count(self, name, size):
        self._taken += size
        if self._taken > MAX_SHARING * (1 + sum(map(len, self._found.values()))):
            raise weights_error(self.path, f"{name} shares a storage with too many others")

    def _quantizer(self, name, tensor):
        """Scales, zero points and axis, as `dequantize` takes them."""
        scale, zero_point, axis = tensor.quantizer
        if axis is None:
            return (self._parameters(name, tensor, "scale", [scale], 1, np.float32),
                    self._parameters(name, tensor, "zero point", [zero_point], 1), None)
        if type(axis) is not int or not 0 <= axis < len(tensor.shape):
            raise weights_error(self.path, f"{name} has scales along the axis "
                                           f"{short(str(axis), 40)}, which it has not")
        count = tensor.shape[axis]
        return (self._parameters(name, tensor, "scale", scale, count),
                self._parameters(name, tensor, "zero point", zero_point, count), axis)

    def _parameters(self, name, tensor, what, values, count, dtype=np.float64):
        """As many finite numbers: out of a tensor, as they are, or out of the pickle's list."""
        if type(values) is TorchTensor and values.quantizer is None and values.shape == (count,):
            array = self.to_array(f"the {what} of {name}", values)
        elif type(values) is list and len(values) == count \
                and all(type(value) in (int, float) for value in values):
            try:
                with np.errstate(over="ignore"):
                    array = np.array(values, dtype)
            except OverflowError:
                array = np.array(np.inf)
        else:
            raise weights_error(self.path, f"{name} {short(str(tensor.shape))} does not have "
                                           f"{count} {what}{'s' * (count != 1)}, which it needs")
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise weights_error(self.path, f"{name} has a {what} that is no finite number")
        return array


def _in_c_order(shape, strides):
    expected = [math.prod(shape[axis + 1:]) for axis in range(len(shape))]
    return all(n == 1 or step == needed for n, step, needed in zip(shape, strides, expected))
