"""Reads pickles without unpickling: nothing that a pickle names is ever imported or called.

The opcodes are those of Python's `pickletools`. Plain values become plain values. Where a pickle
names a function or class, only those of `pickle_objects` are taken, and in their place stand the
inert records there; all others are refused. What a record means (a NumPy array, a place in a
storage of PyTorch's) is left to the readers.
"""
import collections
import struct

from tinyfcn.weights.pickle_objects import (
    CALLS, NAMES, STORAGES, Array, Dtype, Name, Refusal, Storage, Text, set_item)

__all__ = ["interpret"]

# Every opcode costs Python's time and, at most, a few dozen bytes of memory.
MAX_OPCODES = 2_000_000
MAX_INTEGER_BYTES = 64
MAX_LINE = 1024
# Longer bytes stay where they are: a view of the file.
SHORT_BYTES = 1024


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
        list, tuple, dict (OrderedDict too) and the records of `pickle_objects`; `end` is where the
        pickle ends. Lists and dicts may hold themselves: a crafted pickle can do that.

    Raises
    ------
    Refusal
    """
    machine = _Machine(data, start, {} if storages is None else storages)
    try:
        return machine.run()
    except Refusal as refusal:
        near = f" (near {machine.texts[-1]!r:.100})" if machine.texts else ""
        raise Refusal(f"{refusal}{near}") from None


class _Machine:
    def __init__(self, data, start, storages):
        self.source, self.data = data, memoryview(data)
        self.at, self.storages = start, storages
        self.stack, self.marks, self.memo = [], [], {}
        self.opcodes_left = MAX_OPCODES
        # The last texts that were seen: the name, most likely, of the tensor that trouble is in.
        self.texts = collections.deque(maxlen=8)

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

    def push_name(self, text):
        self.texts.append(text)
        self.push(text)

    def unsee(self, *texts):
        """Leave out texts, the last one first, that are no names of tensors."""
        for text in texts:
            if self.texts and self.texts[-1] == text:
                self.texts.pop()

    def push_text(self, count):
        part = self.take(count)
        if count > SHORT_BYTES:
            self.push(Text(part))
            return
        self.push_name(str(part, "utf-8", "surrogatepass"))

    def push_old_text(self, count):
        """Python 2's strings are both: short ones are names, long ones are data."""
        part = self.raw(count)
        if isinstance(part, bytes):
            self.push_name(part.decode("latin-1"))
        else:
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
            set_item(target, key, value)

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
            raise Refusal(f"its pickle names {module:.80}.{name:.80}; only tensors, arrays and "
                          "plain values are read, and no code is run")
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
        kind, storage, key, location, size, *part = what
        if kind != "storage" or type(storage) is not Name or storage.kind != "storage" \
                or not isinstance(key, str) or type(size) is not int or len(part) > 1:
            raise TypeError
        self.unsee(location, key, kind)
        record = Storage(STORAGES[storage.name], key, size, part[0] if part else None)
        if self.storages.setdefault(key, record).kind != record.kind:
            raise Refusal(f"its storage {key:.80} is of two types")
        self.push(record)


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
    machine.push_name(machine.line())


def _quoted_line(machine):
    text = machine.line()
    if len(text) < 2 or text[0] != text[-1] or text[0] not in "'\"" or "\\" in text:
        raise ValueError
    machine.push_name(text[1:-1])


def _stack_name(machine):
    name, module = machine.pop(), machine.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise TypeError
    machine.unsee(name, module)
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
