"""Reads pickles without unpickling: nothing that a pickle names is ever imported or called.

The opcodes are those of Python's `pickletools`. Plain values become plain values. Where a pickle
names a function or class, only those of `NAMES` are taken, and in their place stand the inert
records below; all others are refused. What a record means (a NumPy array, a place in a storage of
PyTorch's) is left to the readers.
"""
import collections
import struct

# The version of NumPy decides which of its modules a pickle names.
_NUMPY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
STORAGES = {
    "DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2", "BFloat16Storage": "bfloat16",
    "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1",
    "ByteStorage": "u1", "BoolStorage": "?", "ComplexFloatStorage": "c8",
    "ComplexDoubleStorage": "c16", "UntypedStorage": "u1",
}
NAMES = {
    ("collections", "OrderedDict"): "dict",
    ("numpy", "dtype"): "dtype",
    ("numpy", "ndarray"): "ndarray",
    ("_codecs", "encode"): "encode",
    **{(module, "_reconstruct"): "reconstruct" for module in _NUMPY_MODULES},
    **{(module, "scalar"): "scalar" for module in _NUMPY_MODULES},
    ("numpy.core.numeric", "_frombuffer"): "frombuffer",
    ("numpy._core.numeric", "_frombuffer"): "frombuffer",
    ("torch._utils", "_rebuild_tensor"): "tensor",
    ("torch._utils", "_rebuild_tensor_v2"): "tensor",
    ("torch._utils", "_rebuild_parameter"): "parameter",
    ("torch", "Size"): "tuple",
    **{("torch", name): "storage" for name in STORAGES},
    ("torch.storage", "UntypedStorage"): "storage",
}

# Every opcode costs Python's time and, at most, a few dozen bytes of memory.
MAX_OPCODES = 2_000_000
MAX_INTEGER_BYTES = 64
MAX_LINE = 1024
# Longer bytes stay where they are: a view of the file.
SHORT_BYTES = 1024


class Refusal(Exception):
    """A pickle is damaged, or holds what no file of weights needs; says what."""


# What stands for what a pickle would have made. `data` is bytes, an ndarray of uint8, or a `Text`
# (a memoryview of UTF-8) to be encoded.
Name = collections.namedtuple("Name", "kind module name")
Text = collections.namedtuple("Text", "data")
Storage = collections.namedtuple("Storage", "kind key size view")
TorchTensor = collections.namedtuple("TorchTensor", "storage offset shape strides")
Buffer = collections.namedtuple("Buffer", "data dtype shape order")


class Dtype:
    """numpy.dtype(code), and the byte order that it is told afterwards."""

    def __init__(self, code):
        self.code, self.order = code, "|"


class Array:
    """A NumPy array: what it is told of itself after it was made."""

    dtype = shape = data = None
    fortran = False


class Scalar(Array):
    """A NumPy number."""


def interpret(data, start=0, storages=None):
    """Interpret one pickle.

    Parameters
    ----------
    data : ndarray of uint8, (bytes,)
        Long bytes in the result are views of it.
    start : int
        Where the pickle begins.
    storages : dict, optional
        Takes all storages of PyTorch's that the pickle speaks of, {key: Storage}.

    Returns
    -------
    value, end
        `value` is built of None, bool, int, float, str, bytes (long ones as ndarray of uint8),
        list, tuple, dict (OrderedDict too) and the records of this file; `end` is where the
        pickle ends. Lists and dicts may hold themselves: a crafted pickle can do that.

    Raises
    ------
    Refusal
    """
    return _Machine(data, start, {} if storages is None else storages).run()


class _Machine:
    def __init__(self, data, start, storages):
        self.source, self.data = data, memoryview(data)
        self.at, self.storages = start, storages
        self.stack, self.marks, self.memo = [], [], {}
        self.opcodes_left = MAX_OPCODES
        # The last name that was seen: most likely that of the tensor in which trouble comes up.
        self.last_text = None

    def run(self):
        while True:
            self.charge(1)
            code = self.take(1)[0]
            if code == STOP:
                value = self.pop()
                if self.stack or self.marks:
                    raise Refusal("its pickle ends with values left over")
                return value, self.at
            operation = OPERATIONS.get(code)
            if operation is None:
                raise Refusal(f"its pickle has the opcode 0x{code:02x}, which is refused")
            try:
                operation(self)
            except (TypeError, ValueError, IndexError, struct.error, AttributeError):
                # What an operation found on the stack is not what it works on.
                raise Refusal(f"its pickle makes no sense at byte {self.at}") from None

    def charge(self, count):
        self.opcodes_left -= count
        if self.opcodes_left < 0:
            raise Refusal(f"its pickle has more than {MAX_OPCODES} opcodes")

    # The file.

    def take(self, count):
        if count > len(self.data) - self.at:
            raise Refusal(f"its pickle declares {count} bytes at {self.at}, where "
                          f"{len(self.data) - self.at} are left")
        part = self.data[self.at:self.at + count]
        self.at += count
        return part

    def number(self, layout):
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def line(self):
        part = bytes(self.data[self.at:self.at + MAX_LINE])
        end = part.find(b"\n")
        if end < 0:
            raise Refusal(f"its pickle has a line without an end at byte {self.at}")
        self.at += end + 1
        return part[:end].decode("utf-8")

    def raw(self, count):
        """Bytes: short ones copied, long ones as a view."""
        part = self.take(count)
        return bytes(part) if count <= SHORT_BYTES else self.source[self.at - count:self.at]

    # The stack.

    def push(self, value):
        self.stack.append(value)

    def pop(self):
        floor = self.marks[-1] if self.marks else 0
        if len(self.stack) <= floor:
            raise Refusal(f"its pickle makes no sense at byte {self.at}")
        return self.stack.pop()

    def top(self):
        value = self.pop()
        self.push(value)
        return value

    def pop_mark(self):
        if not self.marks:
            raise Refusal(f"its pickle makes no sense at byte {self.at}")
        mark = self.marks.pop()
        values = self.stack[mark:]
        del self.stack[mark:]
        return values

    def push_text(self, count):
        part = self.take(count)
        if count > SHORT_BYTES:
            self.push(Text(part))
            return
        self.last_text = str(part, "utf-8", "surrogatepass")
        self.push(self.last_text)

    def push_old_text(self, count):
        """Python 2's strings are both: short ones are names, long ones are data."""
        part = self.raw(count)
        if isinstance(part, bytes):
            part = self.last_text = part.decode("latin-1")
        self.push(part)

    def integer(self, count):
        if not 0 <= count <= MAX_INTEGER_BYTES:
            raise Refusal(f"its pickle has an integer of {count} bytes")
        self.push(int.from_bytes(self.take(count), "little", signed=True))

    # Containers.

    def append(self, values):
        target = self.top()
        if type(target) is not list:
            raise TypeError
        target.extend(values)

    def set_items(self, values):
        target = self.top()
        if type(target) is not dict or len(values) % 2:
            raise TypeError
        for key, value in zip(values[::2], values[1::2]):
            _set_item(target, key, value)

    # The memo.

    def put(self, index):
        self.memo[index] = self.top()

    def get(self, index):
        if index not in self.memo:
            raise Refusal(f"its pickle uses the value {index}, which it has not made")
        self.push(self.memo[index])

    # Functions and classes, or what stands for them.

    def name(self, module, name):
        # Python 2's own names of modules never matter here: none of those is in the list.
        kind = NAMES.get((module, name))
        if kind is None:
            near = f" (near {self.last_text!r:.100})" if self.last_text else ""
            raise Refusal(f"its pickle names {module:.80}.{name:.80}{near}; only tensors, arrays "
                          "and plain values are read, and no code is run")
        self.push(Name(kind, module, name))

    def reduce(self):
        arguments, function = self.pop(), self.pop()
        if type(arguments) is not tuple or type(function) is not Name \
                or function.kind not in CALLS:
            raise TypeError
        # A long list can be copied by every one of many short calls.
        self.charge(sum(len(part) for part in arguments if isinstance(part, (list, tuple))))
        self.push(CALLS[function.kind](*arguments))

    def build(self):
        state, target = self.pop(), self.top()
        if type(target) is dict:
            # The attributes of an OrderedDict, such as a state_dict's _metadata.
            return
        if isinstance(target, Dtype):
            _, target.order = state[:2]
            if target.order not in ("<", ">", "|", "="):
                raise ValueError
        elif type(target) is Array:
            _, target.shape, target.dtype, target.fortran, target.data = state
        else:
            raise TypeError

    def persistent(self):
        what = self.pop()
        # ("storage", type, key, location, size) and, in old files, the part of another storage.
        kind, storage, key, _, size, *part = what
        if kind != "storage" or type(storage) is not Name or storage.kind != "storage" \
                or not isinstance(key, str) or type(size) is not int or len(part) > 1:
            raise TypeError
        record = Storage(STORAGES[storage.name], key, size, part[0] if part else None)
        if self.storages.setdefault(key, record).kind != record.kind:
            raise Refusal(f"its storage {key:.80} is of two types")
        self.push(record)


def _set_item(target, key, value):
    # Other keys can be made to collide, which takes for ever, or cannot be compared.
    if not (isinstance(key, (str, bytes)) or key is None
            or isinstance(key, int) and abs(key) < 1 << 31):
        raise Refusal(f"its pickle has a dict with a key of type {type(key).__name__}")
    if key in target:
        raise Refusal(f"its pickle has {key!r:.80} twice in one dict")
    target[key] = value


def _dict(pairs=()):
    result = {}
    for key, value in pairs:
        _set_item(result, key, value)
    return result


def _dtype(code, align=False, copy=False):
    if not isinstance(code, str) or len(code) > 8:
        raise Refusal(f"its pickle has an array of type {code!r:.80}, which is not read")
    return Dtype(code)


def _reconstruct(kind, shape, code):
    if type(kind) is not Name or kind.kind != "ndarray":
        raise TypeError
    return Array()


def _scalar(dtype, data):
    result = Scalar()
    result.dtype, result.shape, result.data = dtype, (), data
    return result


def _encode(text, encoding):
    # Python 3 writes bytes so, where the protocol is one of Python 2.
    if encoding not in ("latin1", "latin-1"):
        raise ValueError
    if type(text) is Text:
        return text
    if not isinstance(text, str):
        raise TypeError
    return text.encode("latin-1")


def _tensor(storage, offset, shape, strides, *_):
    if type(storage) is not Storage or type(shape) is not tuple or type(strides) is not tuple:
        raise TypeError
    return TorchTensor(storage, offset, shape, strides)


def _parameter(tensor, *_):
    if type(tensor) is not TorchTensor:
        raise TypeError
    return tensor


CALLS = {
    "dict": _dict, "dtype": _dtype, "encode": _encode, "reconstruct": _reconstruct,
    "scalar": _scalar, "tensor": _tensor, "parameter": _parameter,
    "frombuffer": lambda data, dtype, shape, order="C": Buffer(data, dtype, shape, order),
    "tuple": lambda values=(): tuple(values),
}

STOP = ord(".")


def _constant(value):
    return lambda machine: machine.push(value)


def _tuple(count):
    def operation(machine):
        machine.push(tuple([machine.pop() for _ in range(count)][::-1]))
    return operation


def _integer_line(machine):
    text = machine.line()
    # Booleans of protocol 0.
    machine.push({"00": False, "01": True}.get(text, None) if text in ("00", "01")
                 else int(text.rstrip("L")))


def _text_line(machine):
    machine.last_text = machine.line()
    machine.push(machine.last_text)


def _quoted_line(machine):
    text = machine.line()
    if len(text) < 2 or text[0] != text[-1] or text[0] not in "'\"" or "\\" in text:
        raise ValueError
    machine.last_text = text[1:-1]
    machine.push(machine.last_text)


def _stack_name(machine):
    name, module = machine.pop(), machine.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise TypeError
    # Both were seen as texts; what matters is the one before them.
    machine.name(module, name)


def _two_values(machine):
    value, key = machine.pop(), machine.pop()
    machine.set_items([key, value])


def _pop(machine):
    if machine.marks and machine.marks[-1] == len(machine.stack):
        machine.marks.pop()
    else:
        machine.pop()


# In the order of pickletools.
OPERATIONS = {
    ord("I"): _integer_line,
    ord("J"): lambda m: m.push(m.number("<i")),
    ord("K"): lambda m: m.push(m.number("<B")),
    ord("M"): lambda m: m.push(m.number("<H")),
    ord("L"): _integer_line,
    0x8a: lambda m: m.integer(m.number("<B")),
    0x8b: lambda m: m.integer(m.number("<i")),
    ord("S"): _quoted_line,
    ord("T"): lambda m: m.push_old_text(m.number("<I")),
    ord("U"): lambda m: m.push_old_text(m.number("<B")),
    ord("B"): lambda m: m.push(m.raw(m.number("<I"))),
    ord("C"): lambda m: m.push(m.raw(m.number("<B"))),
    0x8e: lambda m: m.push(m.raw(m.number("<Q"))),
    0x96: lambda m: m.push(m.raw(m.number("<Q"))),
    ord("N"): _constant(None),
    0x88: _constant(True),
    0x89: _constant(False),
    ord("V"): _text_line,
    0x8c: lambda m: m.push_text(m.number("<B")),
    ord("X"): lambda m: m.push_text(m.number("<I")),
    0x8d: lambda m: m.push_text(m.number("<Q")),
    ord("F"): lambda m: m.push(float(m.line())),
    ord("G"): lambda m: m.push(m.number(">d")),
    ord("]"): lambda m: m.push([]),
    ord("a"): lambda m: m.append([m.pop()]),
    ord("e"): lambda m: m.append(m.pop_mark()),
    ord("l"): lambda m: m.push(m.pop_mark()),
    ord(")"): _constant(()),
    ord("t"): lambda m: m.push(tuple(m.pop_mark())),
    0x85: _tuple(1),
    0x86: _tuple(2),
    0x87: _tuple(3),
    ord("}"): lambda m: m.push({}),
    ord("d"): lambda m: (lambda values: (m.push({}), m.set_items(values)))(m.pop_mark()),
    ord("s"): _two_values,
    ord("u"): lambda m: m.set_items(m.pop_mark()),
    ord("0"): _pop,
    ord("2"): lambda m: m.push(m.top()),
    ord("("): lambda m: m.marks.append(len(m.stack)),
    ord("1"): lambda m: m.pop_mark(),
    ord("g"): lambda m: m.get(int(m.line())),
    ord("h"): lambda m: m.get(m.number("<B")),
    ord("j"): lambda m: m.get(m.number("<I")),
    ord("p"): lambda m: m.put(int(m.line())),
    ord("q"): lambda m: m.put(m.number("<B")),
    ord("r"): lambda m: m.put(m.number("<I")),
    0x94: lambda m: m.put(len(m.memo)),
    ord("c"): lambda m: m.name(m.line(), m.line()),
    0x93: _stack_name,
    ord("R"): lambda m: m.reduce(),
    # NEWOBJ: an OrderedDict may be made so.
    0x81: lambda m: m.reduce(),
    ord("b"): lambda m: m.build(),
    ord("Q"): lambda m: m.persistent(),
    0x80: lambda m: m.number("<B"),
    0x95: lambda m: m.number("<Q"),
}
