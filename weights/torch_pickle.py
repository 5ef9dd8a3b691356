"""PyTorch checkpoints (.pth, .pt), in the old container and in the zip one, without PyTorch.

Both hold a pickle, read by `pickle_interpreter`, and the numbers of the storages beside it. A
tensor's name is its key in the state_dict. A trainer's checkpoint is searched for the state_dict
of the model, in the entries `MODEL_KEYS`; what lies elsewhere in it (an optimizer's moments, say)
is left out, and the notes say so.
"""
import struct

from tinyfcn.weights.errors import weights_error
from tinyfcn.weights.numpy_pickle import to_array
from tinyfcn.weights.pickle_interpreter import interpret
from tinyfcn.weights.pickle_objects import Array, Buffer, Refusal, TorchTensor
from tinyfcn.weights.tensors import MAX_TENSORS, Tensors, check_name, map_file, short
from tinyfcn.weights.torch_tensors import Storages, stored_dtype
from tinyfcn.weights.zip_archive import ZIP_MAGIC, Archive

# The old container: pickles of this number, of the protocol's, of a few facts on the machine, of
# the checkpoint, and of the list of storages; then the storages.
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
MAGIC_BYTES = MAGIC.to_bytes(10, "little")
# Where trainers keep the model, first come, first served.
MODEL_KEYS = ("model_state_dict", "state_dict", "model", "net", "network", "params", "weights")

MAX_DEPTH = 16
MAX_ENTRIES = 1_000_000


def recognise(path):
    """Say whether a file is a checkpoint in one of the two containers."""
    with open(path, "rb") as stream:
        head = stream.read(64)
    if head.startswith(ZIP_MAGIC):
        return any(name.endswith("/data.pkl") for name in Archive(path).members)
    return head[:1] == b"\x80" and MAGIC_BYTES in head


def read(path):
    """Read the tensors of the model in a checkpoint.

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
    try:
        return _from_zip(path) if in_zip else _from_old(path)
    except Refusal as refusal:
        raise weights_error(path, str(refusal)) from None


def _from_zip(path):
    archive = Archive(path)
    main = next(name for name in archive.members if name.endswith("/data.pkl"))
    prefix = main[:-len("data.pkl")]
    if prefix + "constants.pkl" in archive.members:
        raise weights_error(path, "is a TorchScript program, not a state_dict: load it with "
                                  "PyTorch and save its state_dict()")
    order = "<"
    if prefix + "byteorder" in archive.members:
        word = bytes(archive.read(prefix + "byteorder"))
        if word not in (b"little", b"big"):
            raise weights_error(path, f"has an unknown byte order, {short(repr(word), 40)}")
        order = "<" if word == b"little" else ">"
    content, _ = interpret(archive.read(main))

    def find(storage):
        name = f"{prefix}data/{storage.key}"
        if name not in archive.members:
            raise Refusal(f"its storage {short(storage.key)} is not in the file")
        return archive.read(name)

    return _tensors(path, "PyTorch checkpoint (zip)", content, Storages(path, find, order))


def _from_old(path):
    data = map_file(path)
    magic, at = interpret(data)
    protocol, at = interpret(data, at)
    if magic != MAGIC or protocol != PROTOCOL:
        raise Refusal(f"is of protocol {protocol!s:.40}, not {PROTOCOL}")
    system, at = interpret(data, at)
    storages = {}
    content, at = interpret(data, at, storages)
    keys, at = interpret(data, at)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) \
            or not isinstance(system, dict):
        raise Refusal("damaged PyTorch checkpoint: it has no list of storages")
    order = "<" if system.get("little_endian", True) else ">"
    places = {}
    for key in keys:
        if key in places:
            raise Refusal(f"has the storage {short(key)} twice")
        if key not in storages:
            raise Refusal(f"has a storage {short(key)} that nothing uses")
        if at + 8 > len(data):
            raise Refusal(f"is cut off: its storage {short(key)} is missing")
        count = struct.unpack(order + "q", data[at:at + 8])[0]
        size = count * stored_dtype(storages[key].kind).itemsize
        at += 8
        if not 0 <= size <= len(data) - at:
            raise Refusal(f"declares {size} bytes for its storage {short(key)}; "
                          f"{len(data) - at} are left")
        places[key] = (at, size)
        at += size

    def find(storage):
        if storage.key not in places:
            raise Refusal(f"its storage {short(storage.key)} is not in the file")
        start, size = places[storage.key]
        return data[start:start + size]

    return _tensors(path, "PyTorch checkpoint (old container)", content,
                    Storages(path, find, order))


def _tensors(path, format, content, storages):
    tensors = Tensors(path, format)
    content = _find_model(content, tensors)
    if type(content) not in (dict, list, tuple, TorchTensor, Array, Buffer):
        raise weights_error(path, "holds no tensors")
    for name, value in _walk(content):
        if len(tensors) >= MAX_TENSORS:
            raise weights_error(path, f"more than {MAX_TENSORS} tensors")
        shown = check_name(path, name)
        array = storages.to_array(shown, value) if isinstance(value, TorchTensor) \
            else to_array(path, shown, value)
        tensors.put(name, array)
    if not tensors:
        raise weights_error(path, "holds no tensors")
    return tensors


def _find_model(content, tensors):
    """Go down to the state_dict of the model, and note the way."""
    way = []
    while type(content) is dict and len(way) < MAX_DEPTH:
        key = next((key for key in MODEL_KEYS if _holds_tensors(content.get(key))), None)
        if key is None:
            break
        others = [other for other in content if other != key and _holds_tensors(content[other])]
        if others:
            names = short(", ".join(map(str, others)), 120)
            tensors.notes.append(f"left out the tensors of {names}")
        way.append(key)
        content = content[key]
    if way:
        tensors.notes.insert(0, f"the tensors of {'/'.join(way)} were read")
    return content


def _holds_tensors(value):
    return type(value) in (dict, list, tuple) and any(True for _ in _walk(value))


def _walk(value, name="", above=(), budget=None):
    """All tensors and arrays in dicts and lists: (keys joined by dots, record)."""
    budget = [MAX_ENTRIES] if budget is None else budget
    if type(value) in (TorchTensor, Buffer, Array):
        yield name or "tensor", value
        return
    if id(value) in above:
        raise Refusal(f"its entry {short(name)} holds itself")
    if len(above) >= MAX_DEPTH:
        raise Refusal(f"its entry {short(name)} is nested deeper than {MAX_DEPTH}")
    budget[0] -= len(value)
    if budget[0] < 0:
        raise Refusal(f"has more than {MAX_ENTRIES} entries")
    for key, item in value.items() if type(value) is dict else enumerate(value):
        if type(item) in (dict, list, tuple, TorchTensor, Buffer, Array):
            inside = f"{name}.{key}" if name else str(key)
            yield from _walk(item, inside, (*above, id(value)), budget)
