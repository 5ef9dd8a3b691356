"""safetensors: a JSON table of names, types, shapes and places, and then the plain numbers.

The library of that name examines the file; the tensors are then mapped, where the library would
copy each into memory. A tensor's name is the one in the table. bfloat16 becomes float32.
"""
import json
import os
import struct

import numpy as np

from tinyfcn.weights.description import KEY, from_text, to_text
from tinyfcn.weights.errors import weights_error
from tinyfcn.weights.float_types import widen
from tinyfcn.weights.replacing import replacing, sync, to_store
from tinyfcn.weights.tensors import (
    MAX_RANK, MAX_TENSORS, Tensors, check_name, check_tensor, map_file, native, short, view)

# A table of 10,000 tensors has some 2 MB; parsed, it takes several times as much memory.
MAX_TABLE_BYTES = 8 << 20
METADATA = "__metadata__"
DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4",
    "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}


def recognise(path):
    """Say whether a file begins with the length of a JSON object."""
    with open(path, "rb") as stream:
        head = stream.read(16)
    return len(head) > 9 and head[8:9] == b"{" and head[6:8] == b"\0\0"


def read(path):
    """Read all tensors as views of the mapped file.

    Returns
    -------
    Tensors
        Notes hold what the file says of itself, such as the framework.

    Raises
    ------
    WeightsError
    """
    table, begin = _read_table(path)
    _examine_by_library(path)
    data = map_file(path)
    metadata = table.pop(METADATA, {})
    tensors = Tensors(path, "tinyfcn model (safetensors)" if KEY in metadata else "safetensors")
    others = {key: value for key, value in metadata.items() if key != KEY}
    if others:
        tensors.notes.append("says of itself " + short(json.dumps(others), 200))
    if len(table) > MAX_TENSORS:
        raise weights_error(path, f"more than {MAX_TENSORS} tensors")
    for name, entry in table.items():
        shown = check_name(path, name)
        dtype, shape, start, end = _entry(path, shown, entry)
        size = check_tensor(path, shown, dtype, shape)
        if not (0 <= start <= end <= len(data) - begin and end - start == size):
            raise weights_error(path, f"{shown} declares {size} bytes {short(str(shape))} at "
                                      f"{start} to {end}; the file holds {len(data) - begin}")
        array = view(data, begin + start, dtype, shape)
        if entry["dtype"] == "BF16":
            array = widen(path, shown, native(array))
        tensors.put(name, native(array))
    return tensors


def describe(path):
    """Read what a file of this project says of itself, as `hdf5_file.describe` does.

    Raises
    ------
    WeightsError
    """
    table, _ = _read_table(path)
    _examine_by_library(path)
    metadata = table.get(METADATA, {})
    return from_text(path, metadata[KEY]) if KEY in metadata else {}


def write(path, tensors, about, dtype=None):
    """Write tensors and their description, in one step: all of the new file or all of the old.

    Takes what `hdf5_file.write` takes; all tensors are in memory together.

    Raises
    ------
    WeightsError
    """
    library = _library(path)
    from safetensors.numpy import save_file

    metadata = {KEY: to_text(path, about)}
    stored = {name: to_store(path, name, tensor, dtype) for name, tensor in tensors.items()}
    with replacing(path, sum(tensor.nbytes for tensor in stored.values())) as temporary:
        mode = os.stat(temporary).st_mode
        try:
            save_file(stored, temporary, metadata)
        except library.SafetensorError as error:
            raise OSError(None, str(error)) from error
        # The library makes files that only their owner may read.
        os.chmod(temporary, mode)
        sync(temporary)


def _read_table(path):
    size = os.stat(path).st_size
    with open(path, "rb") as stream:
        head = stream.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
        if length > size - 8:
            raise weights_error(path, f"damaged safetensors file: its table declares {length} "
                                      f"bytes, the file has {size}")
        if length > MAX_TABLE_BYTES:
            raise weights_error(path, f"its table has {length} bytes; {MAX_TABLE_BYTES} is the "
                                      "most that is read")
        text = stream.read(length)
    try:
        table = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise weights_error(path, f"damaged safetensors file: its table is no JSON object of "
                                  f"tensors ({short(str(error), 120)})") from error
    if not isinstance(table, dict) or not isinstance(table.get(METADATA, {}), dict) \
            or not all(isinstance(text, str) for text in table.get(METADATA, {}).values()):
        raise weights_error(path, "damaged safetensors file: its table is no JSON object of "
                                  "tensors")
    return table, 8 + length


def _unique(pairs):
    table = dict(pairs)
    if len(table) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f"{short(twice)} is there twice")
    return table


def _entry(path, name, entry):
    try:
        dtype, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        if not all(type(n) is int for n in (*shape, start, end)) or len(shape) > MAX_RANK:
            raise ValueError
        kind = DTYPES.get(dtype)
    except (KeyError, TypeError, ValueError):
        raise weights_error(path, f"{name} is not described by dtype, shape and data_offsets") \
            from None
    if kind is None:
        raise weights_error(path, f"{name} is of type {short(str(dtype))}, which is not read")
    return np.dtype(kind), shape, start, end


def _examine_by_library(path):
    library = _library(path)
    try:
        with library.safe_open(path, framework="numpy"):
            pass
    except (library.SafetensorError, OSError, ValueError) as error:
        raise weights_error(
            path, f"damaged safetensors file: {short(str(error), 160)}") from error


def _library(path):
    try:
        import safetensors
    except ImportError:
        raise weights_error(path, "is a safetensors file, which takes the package safetensors "
                                  "(pip install safetensors)") from None
    return safetensors
