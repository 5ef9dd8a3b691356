"""MATLAB's format 5 (.mat): variables as views of the mapped file.

Such a file is a row of elements: each a type, a size, and data up to a multiple of 8 bytes. An
array is an element that holds further ones: its class, its shape, its name, and then its numbers,
or more arrays if it is a cell or a struct. Version 7 compresses every variable as a whole; it is
unpacked to a temporary file. Types and classes are numbered as in MathWorks' "MAT-File Format".
"""
import itertools
import math
import struct
import zlib

import numpy as np

from tinyfcn.weights.errors import weights_error
from tinyfcn.weights.tensors import (
    BLOCK_BYTES, check_ratio, check_tensor, forget, gather, map_file, short, view)

INT32, UINT32, ARRAY, COMPRESSED = 5, 6, 14, 15
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", INT32: "i4", UINT32: "u4", 7: "f4", 9: "f8",
           12: "i8", 13: "u8"}
TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16-{}", 16: "utf-8", 17: "utf-16-{}", 18: "utf-32-{}"}

CELL, STRUCT, OBJECT, TEXT = 1, 2, 3, 4
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8",
           15: "u8"}
COMPLEX = 0x800

# What is unpacked of a variable to learn its name.
HEAD_BYTES = 4096
# Names, texts and shapes are shorter; the rest of a longer text is no layer's name.
MAX_TEXT_BYTES = 1 << 16
# A net has a few thousand elements; each costs Python's time.
MAX_ELEMENTS = 500_000
MAX_DEPTH = 16


def read(path, names):
    """Read the variables of some names and pass over all others.

    Parameters
    ----------
    path : str or path-like
    names : collection of str

    Returns
    -------
    dict
        {name: value}. Numbers are an ndarray, text is a str, a cell is a list, a struct of any
        shape is a list of dicts; all else (sparse or complex numbers, functions) is None.

    Raises
    ------
    WeightsError
    """
    data, variables = map_file(path), {}
    file = _Elements(path, data, "<" if bytes(data[126:128]) == b"IM" else ">")
    try:
        for kind, start, end in file.split(128, len(data)):
            elements = file
            if kind == COMPRESSED:
                elements, start, end = _unpack(file, start, end, names)
            elif kind != ARRAY:
                continue
            name = elements.head(start, end)[2]
            if name not in names:
                continue
            if name in variables:
                raise _Damage(f"{name} is there twice")
            variables[name] = elements.value(name, start, end)
    except (_Damage, zlib.error) as damage:
        raise weights_error(path, f"damaged MATLAB file: {damage}") from None
    return variables


def _unpack(file, start, end, names):
    """The elements of a compressed variable, and the start and end of its array there.

    Of a variable that is not asked for only the first elements are there.
    """
    path, packed = file.path, file.data[start:end]
    head = zlib.decompressobj().decompress(packed[:HEAD_BYTES], HEAD_BYTES)
    head = _Elements(path, np.frombuffer(head, np.uint8), file.order)
    kind, size = head.tag(0, len(head.data))
    if kind != ARRAY:
        raise _Damage(f"what is compressed at byte {start} is no array")
    name = head.head(8, len(head.data))[2]
    if name not in names:
        return head, 8, len(head.data)
    check_ratio(path, f"its variable {name}", size, len(packed))

    def blocks():
        inflater = zlib.decompressobj()
        for at in range(0, len(packed), BLOCK_BYTES):
            part = packed[at:at + BLOCK_BYTES]
            while len(part):
                yield inflater.decompress(part, BLOCK_BYTES)
                part = inflater.unconsumed_tail
            forget(packed)

    data = gather(path, name, blocks(), np.dtype(np.uint8), (8 + size,))
    return _Elements(path, data, file.order), 8, len(data)


class _Damage(Exception):
    pass


class _Elements:
    """Bytes in which elements lie; nothing of them is copied but names and shapes."""

    def __init__(self, path, data, order):
        self.path, self.data, self.order = path, data, order
        self.left = MAX_ELEMENTS

    def tag(self, at, end):
        if end - at < 8:
            raise _Damage(f"it is cut off at byte {at}")
        return struct.unpack(self.order + "II", self.data[at:at + 8].tobytes())

    def split(self, start, end):
        """The elements from start to end: (type, start and end of its data)."""
        while start < end:
            self.left -= 1
            if self.left < 0:
                raise _Damage(f"it has more than {MAX_ELEMENTS} elements, more than any net has")
            kind, size = self.tag(start, end)
            start += 8
            if kind >> 16:
                # Up to four bytes lie within the tag.
                if kind >> 16 > 4:
                    raise _Damage(f"what stands before byte {start} is no element")
                yield kind & 0xFFFF, start - 4, start - 4 + (kind >> 16)
                continue
            if size > end - start:
                raise _Damage(f"it declares {size} bytes at {start}, where {end - start} are left")
            yield kind, start, start + size
            start += size if kind == COMPRESSED else -(-size // 8) * 8

    def head(self, start, end):
        """(class and flags, shape, name, the elements that follow) of an array."""
        parts = self.split(start, end)
        found = list(itertools.islice(parts, 3))
        if [kind for kind, _, _ in found[:2]] != [UINT32, INT32] or len(found) < 3:
            raise _Damage(f"the array at byte {start} has no class, shape or name")
        flags, shape, name = (self.bytes(a, b) for _, a, b in found)
        if len(flags) != 8 or len(shape) % 4:
            raise _Damage(f"the array at byte {start} has a class or shape that makes no sense")
        return (struct.unpack(self.order + "II", flags)[0],
                struct.unpack(f"{self.order}{len(shape) // 4}i", shape),
                name.decode("latin-1"), parts)

    def bytes(self, start, end):
        return self.data[start:min(end, start + MAX_TEXT_BYTES)].tobytes()

    def value(self, where, start, end, depth=0):
        """What an array holds; `where` says what leads to it."""
        if start == end:
            return np.empty((0, 0))
        if depth > MAX_DEPTH:
            raise _Damage(f"{short(where)} is nested deeper than {MAX_DEPTH}")
        flags, shape, _, parts = self.head(start, end)
        kind = flags & 0xFF
        if kind == CELL:
            labels = (f"{{{i}}}" for i in itertools.count(1))
            return self.values(where, labels, parts, math.prod(shape), depth)
        if kind in (STRUCT, OBJECT):
            fields = self.fields(where, parts, kind)
            labels = itertools.cycle(f".{field}" for field in fields)
            values = iter(self.values(where, labels, parts, math.prod(shape) * len(fields), depth))
            return [dict(zip(fields, row)) for row in zip(*[values] * len(fields))]
        part = next(parts, None)
        if part is not None and kind == TEXT and part[0] in TEXTS:
            codec = TEXTS[part[0]].format("le" if self.order == "<" else "be")
            return self.bytes(*part[1:]).decode(codec, "replace")
        if part is not None and kind in CLASSES and part[0] in NUMBERS and not flags & COMPLEX:
            return self.numbers(where, np.dtype(CLASSES[kind]), shape, *part)
        return None

    def values(self, where, labels, parts, count, depth):
        """What the arrays of a cell or struct hold, a list."""
        values = []
        for label, (kind, start, end) in zip(labels, parts):
            if kind != ARRAY:
                raise _Damage(f"{short(where + label)} is no array")
            values.append(self.value(where + label, start, end, depth + 1))
        if len(values) != count:
            raise _Damage(f"{short(where)} has {len(values)} entries where its shape asks for "
                          f"{count}")
        return values

    def fields(self, where, parts, kind):
        """The names of a struct's fields."""
        # Before them an object has the name of its class.
        found = list(itertools.islice(parts, 3 if kind == OBJECT else 2))[-2:]
        length, names = (self.bytes(a, b) for _, a, b in found) if len(found) == 2 else (b"", b"")
        length = int.from_bytes(length, "little" if self.order == "<" else "big")
        if length < 1 or len(names) % length:
            raise _Damage(f"{short(where)} is a struct without names of fields")
        fields = [names[at:at + length].partition(b"\0")[0].decode("latin-1")
                  for at in range(0, len(names), length)]
        if len(set(fields)) < len(fields):
            raise _Damage(f"{short(where)} has a field twice")
        return fields

    def numbers(self, where, dtype, shape, kind, start, end):
        """An array, of which the file may hold the numbers in a smaller type."""
        stored = np.dtype(NUMBERS[kind]).newbyteorder(self.order)
        check_tensor(self.path, short(where), dtype, shape)
        if end - start != math.prod(shape) * stored.itemsize:
            raise _Damage(f"{short(where)} has {end - start} bytes for its shape {shape}")
        # MATLAB's order is Fortran's.
        array = view(self.data, start, stored, shape[::-1])
        if stored != dtype:
            line, step = array.reshape(-1), BLOCK_BYTES // dtype.itemsize

            def blocks():
                for at in range(0, line.size, step):
                    yield line[at:at + step].astype(dtype).tobytes()
                    forget(line)

            array = gather(self.path, short(where), blocks(), dtype, shape[::-1])
        return array.T
