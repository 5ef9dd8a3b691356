"""NumPy's files: .npz archives, and .npy files of one array or of a pickled dict of arrays.

Names: in an .npz those of its members, without ".npy"; in a dict the keys, joined by "/", where a
list [weights, bias] counts "0" and "1"; a lone array is called "array". Pickled objects are read
by `pickle_interpreter`, and only as dicts, lists and arrays of numbers.
"""
import io
import struct

import numpy as np

from tinyfcn.weights.errors import weights_error
from tinyfcn.weights.numpy_pickle import is_object, to_array
from tinyfcn.weights.pickle_interpreter import interpret
from tinyfcn.weights.pickle_objects import Array, Buffer, Refusal
from tinyfcn.weights.tensors import Tensors, check_name, check_tensor, map_file, native, short, view
from tinyfcn.weights.zip_archive import ZIP_MAGIC, Archive

NPY_MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES = 10_000
MAX_DEPTH = 8
MAX_ENTRIES = 100_000


def recognise(path):
    """Say whether a file is an .npy file, or a zip archive that holds some."""
    with open(path, "rb") as stream:
        head = stream.read(8)
    if head.startswith(ZIP_MAGIC):
        return any(name.endswith(".npy") for name in Archive(path).members)
    return head.startswith(NPY_MAGIC)


def read(path):
    """Read all arrays of an .npy or .npz file.

    Returns
    -------
    Tensors
        Views of the mapped file, where it is not compressed.

    Raises
    ------
    WeightsError
    """
    with open(path, "rb") as stream:
        in_zip = stream.read(4) == ZIP_MAGIC
    if in_zip:
        archive = Archive(path)
        tensors = Tensors(path, "NumPy archive (.npz)")
        for member in archive.members:
            if member.endswith(".npy"):
                _read_array(tensors, member[:-len(".npy")], archive.read(member))
            elif not member.endswith("/"):
                tensors.notes.append(f"left out the member {short(member)}, which is no array")
    else:
        tensors = Tensors(path, "NumPy array (.npy)")
        _read_array(tensors, "", map_file(path))
    if not tensors:
        raise weights_error(path, "holds no arrays")
    return tensors


def _read_array(tensors, name, data):
    path = tensors.path
    shown = check_name(path, name or "array")
    dtype, shape, fortran, at = _read_header(path, shown, data)
    if dtype.hasobject:
        try:
            content, _ = interpret(data, at)
            if not name:
                tensors.format = "NumPy dict (.npy)"
            _flatten(tensors, name, _unwrap(content), ())
        except Refusal as refusal:
            raise weights_error(path, f"{shown}: {refusal}") from None
        return
    size = check_tensor(path, shown, dtype, shape)
    if size != len(data) - at:
        raise weights_error(path, f"{shown} declares {size} bytes {short(str(shape))}; "
                                  f"{len(data) - at} are there")
    array = view(data, at, dtype, shape[::-1] if fortran else shape)
    tensors.put(name or "array", native(array.T if fortran else array))


def _read_header(path, name, data):
    """(dtype, shape, whether the order is Fortran's, where the numbers begin)."""
    formats = np.lib.format
    head = bytes(data[:MAX_HEADER_BYTES + 12])
    stream = io.BytesIO(head)
    try:
        version = formats.read_magic(stream)
        layout = "<H" if version == (1, 0) else "<I"
        length = struct.unpack(layout, head[8:8 + struct.calcsize(layout)])[0]
        if length > MAX_HEADER_BYTES:
            raise ValueError(f"a header of {length} bytes")
        # Versions 2 and 3 differ in how letters beyond ASCII are written.
        read_header = formats.read_array_header_1_0 if version == (1, 0) \
            else formats.read_array_header_2_0
        shape, fortran, dtype = read_header(stream, max_header_size=MAX_HEADER_BYTES)
    except Exception as error:
        # NumPy's reader evaluates a literal: a damaged one can end in almost any error.
        reason = (str(error) or type(error).__name__).splitlines()[0].partition(": <ast.")[0]
        raise weights_error(path, f"{name}: damaged .npy header ({short(reason, 100)})") from error
    return dtype, tuple(int(n) for n in shape), fortran, stream.tell()


def _unwrap(content):
    """A dict or list that NumPy saved lies in an array of one object."""
    if is_object(content) and content.shape in ((), (1,)) and isinstance(content.data, list) \
            and len(content.data) == 1:
        return content.data[0]
    return content


def _flatten(tensors, name, value, above, budget=None):
    budget = [MAX_ENTRIES] if budget is None else budget
    shown = short(name or "its object")
    if is_object(value):
        value = value.data
        if not isinstance(value, list):
            raise Refusal(f"{shown} is an array of objects that are not there")
    if type(value) in (Array, Buffer):
        tensors.put(name or "array", to_array(tensors.path, shown, value))
        return
    if value is None:
        # Chainer's way to say that a parameter has no shape yet.
        tensors.notes.append(f"left out {shown}, which is None")
        return
    if type(value) not in (dict, list, tuple):
        raise Refusal(f"{shown} is a {type(value).__name__}; only dicts, lists and arrays are "
                      "read")
    if id(value) in above:
        raise Refusal(f"{shown} holds itself")
    if len(above) >= MAX_DEPTH:
        raise Refusal(f"{shown} is nested deeper than {MAX_DEPTH}")
    budget[0] -= len(value)
    if budget[0] < 0:
        raise Refusal(f"has more than {MAX_ENTRIES} entries")
    for key, item in value.items() if type(value) is dict else enumerate(value):
        if isinstance(key, bytes):
            key = key.decode("latin-1")
        inside = f"{name}/{key}" if name else str(key)
        _flatten(tensors, inside, item, (*above, id(value)), budget)
