"""NumPy arrays in pickles: from the records of `pickle_objects` to arrays."""
import codecs

import numpy as np

from tinyfcn.weights.errors import weights_error
from tinyfcn.weights.pickle_objects import Array, Buffer, Dtype, Text
from tinyfcn.weights.tensors import BLOCK_BYTES, check_tensor, forget, gather, native, short


def to_array(path, name, record):
    """Make the array that a record stands for.

    Parameters
    ----------
    path, name
        For messages.
    record : pickle_objects.Array or Buffer

    Returns
    -------
    ndarray
        A view of the record's bytes, if they are as the file has them.

    Raises
    ------
    WeightsError
    """
    if isinstance(record, Buffer):
        order, shape = record.order, record.shape
        fortran = order == "F"
        if order not in ("C", "F"):
            raise weights_error(path, f"{name} is an array in no known order")
    else:
        shape, fortran = record.shape, bool(record.fortran)
    if type(shape) is not tuple or not all(type(n) is int for n in shape):
        raise weights_error(path, f"{name} is an array without a shape")
    dtype = _dtype(path, name, record.dtype)
    size = check_tensor(path, name, dtype, shape)
    data = record.data
    if isinstance(data, Text):
        stored = shape[::-1] if fortran else shape
        line = gather(path, name, _encoded(path, name, data.data), dtype, stored).reshape(-1)
    else:
        if isinstance(data, str):
            # Python 2's short strings.
            data = data.encode("latin-1", "replace")
        if isinstance(data, bytes):
            data = np.frombuffer(data, np.uint8)
        if not isinstance(data, np.ndarray):
            raise weights_error(path, f"{name} is an array without data")
        if len(data) != size:
            raise weights_error(path, f"{name} is {short(str(shape))} and needs {size} bytes, but "
                                      f"has {len(data)}")
        line = data.view(dtype) if size else np.empty(0, dtype)
    array = line.reshape(shape[::-1]).T if fortran else line.reshape(shape)
    return native(array)


def is_object(record):
    """Say whether an array holds objects, in a list, instead of numbers."""
    return type(record) is Array and isinstance(record.dtype, Dtype) \
        and record.dtype.code.lstrip("|<>=")[:1] == "O"


def _dtype(path, name, record):
    try:
        if not isinstance(record, Dtype):
            raise TypeError
        dtype = np.dtype(record.code)
        return dtype if record.order == "|" else dtype.newbyteorder(record.order)
    except (TypeError, ValueError):
        raise weights_error(path, f"{name} is an array of an unknown type") from None


def _encoded(path, name, text):
    """The bytes that a text stands for, one for each letter."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for at in range(0, len(text), BLOCK_BYTES):
            last = at + BLOCK_BYTES >= len(text)
            yield decoder.decode(text[at:at + BLOCK_BYTES], last).encode("latin-1")
            forget(text.obj)
    except UnicodeError:
        raise weights_error(path, f"{name} is an array whose data are damaged") from None
