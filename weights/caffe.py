"""Caffe models (.caffemodel): the protobuf message NetParameter, read without protobuf.

Field numbers are those of Caffe's `src/caffe/proto/caffe.proto`. A tensor's name is that of its
layer and the number of the blob: "conv1_1/0" is the weights, "conv1_1/1" the bias. Shapes are as
stored: four numbers in the older files, where a bias is (1, 1, 1, n).
"""
import math

import numpy as np

from tinyfcn.weights.errors import weights_error
from tinyfcn.weights.tensors import (
    BLOCK_BYTES, MAX_RANK, Tensors, check_name, check_tensor, gather, map_file, native, short, view)

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

# NetParameter: the fields that a file may begin with, and the two kinds of layers.
NET_FIELDS = {1: BYTES, 2: BYTES, 3: BYTES, 4: VARINT, 5: VARINT, 6: BYTES, 7: VARINT, 8: BYTES,
              100: BYTES}
V1_LAYERS, LAYERS = 2, 100
# (name, blobs) in V1LayerParameter and in LayerParameter.
LAYER_FIELDS = {V1_LAYERS: (4, 6), LAYERS: (1, 7)}
V0_LAYER = 1
# BlobProto.
LEGACY_SHAPE, DATA, SHAPE, DOUBLE_DATA = (1, 2, 3, 4), 5, 7, 8

# A model has a few thousand fields; each costs Python's time.
MAX_FIELDS = 500_000


def recognise(path):
    """Say whether a file begins with two fields of a NetParameter.

    Nothing marks a protobuf file, so this is asked after all other formats.
    """
    with open(path, "rb") as stream:
        head = stream.read(1 << 16)
        size = stream.seek(0, 2)
    at = 0
    for _ in range(2):
        try:
            key, at = _varint(head, at, len(head))
            field, kind = key >> 3, key & 7
            if NET_FIELDS.get(field) != kind:
                return False
            value, at = _varint(head, at, len(head))
        except _Damage:
            return False
        if kind == BYTES:
            if at + value > size:
                # Cut off within a layer, or something else altogether.
                return field in LAYER_FIELDS
            if field in (1, 3) and not _is_text(head[at:at + value]):
                return False
            at += value
        if at >= len(head):
            return True
    return True


def read(path):
    """Read the blobs of all layers.

    Returns
    -------
    Tensors
        float32, or float64 where the file holds that; views of the mapped file.

    Raises
    ------
    WeightsError
    """
    return _Reader(path).read()


class _Damage(Exception):
    pass


class _Reader:
    """Walks through one file; nothing of it is copied but names and shapes."""

    def __init__(self, path):
        self.path = path
        self.data = map_file(path)
        self.bytes = memoryview(self.data)
        self.fields_left = MAX_FIELDS
        self.where = "the net"

    def read(self):
        tensors = Tensors(self.path, "Caffe model")
        kinds = set()
        try:
            for number, (field, kind, start, end) in enumerate(self.fields(0, len(self.data)), 1):
                self.where = f"record {number}"
                if field in LAYER_FIELDS and kind == BYTES:
                    kinds.add(field)
                    self.layer(tensors, field, start, end)
                self.where = f"what follows {self.where}"
        except _Damage as damage:
            raise weights_error(self.path, f"damaged Caffe model: {self.where} {damage}") from None
        if kinds == {V1_LAYERS}:
            tensors.format += ", V1 layers"
        if not tensors:
            raise weights_error(self.path, "is a Caffe net without any weights")
        return tensors

    def layer(self, tensors, kind, start, end):
        name_field, blob_field = LAYER_FIELDS[kind]
        name, blobs = "", []
        for field, wire_type, a, b in self.fields(start, end):
            if field == name_field and wire_type == BYTES:
                name = self.text(a, b)
                self.where = f"layer {short(name)}"
            elif field == blob_field and wire_type == BYTES:
                blobs.append((a, b))
            elif kind == V1_LAYERS and field == V0_LAYER and wire_type == BYTES:
                raise _Damage("is in Caffe's format of 2013 (V0), which is not read: "
                              "upgrade_net_proto_binary makes it a newer one")
        for index, (a, b) in enumerate(blobs):
            check_name(self.path, name)
            self.where = short(f"{name}/{index}")
            tensors.put(f"{name}/{index}", self.blob(f"{name}/{index}", a, b))

    def blob(self, name, start, end):
        legacy, shape, runs = {}, None, []
        for field, kind, a, b in self.fields(start, end, floats=runs):
            if field in LEGACY_SHAPE and kind == VARINT:
                legacy[field] = a
            elif field == SHAPE and kind == BYTES:
                shape = self.shape(a, b)
            elif field == DATA and kind == BYTES:
                runs.append((np.dtype("<f4"), a, b, 4))
            elif field == DOUBLE_DATA and kind == BYTES:
                runs.append((np.dtype("<f8"), a, b, 8))
            elif field == DATA and kind != FIXED32 or field == DOUBLE_DATA and kind != FIXED64:
                raise _Damage("has data of an unknown kind")
        if shape is None:
            shape = tuple(legacy.get(field, 0) for field in LEGACY_SHAPE) if legacy else None
        return self.join(name, shape, runs)

    def shape(self, start, end):
        sizes = []
        for field, kind, a, b in self.fields(start, end):
            if field == 1 and kind == VARINT:
                sizes.append(a)
            elif field == 1 and kind == BYTES:
                while a < b and len(sizes) <= MAX_RANK:
                    size, a = _varint(self.bytes, a, b)
                    sizes.append(size)
            if len(sizes) > MAX_RANK:
                raise _Damage(f"has more than {MAX_RANK} dimensions")
        return tuple(sizes)

    def join(self, name, shape, runs):
        """One array out of runs of numbers: (dtype, start, end, bytes from one to the next)."""
        kinds = {dtype for dtype, *_ in runs}
        if len(kinds) > 1:
            raise _Damage("has both float and double data")
        dtype = kinds.pop() if kinds else np.dtype("<f4")
        counts = []
        for _, start, end, step in runs:
            if (end - start) % step:
                raise _Damage("has data that end within a number")
            counts.append((end - start) // step)
        if shape is None:
            shape = (sum(counts),)
        # Sizes are 64-bit integers; a negative one looks huge here.
        shape = tuple(size - (1 << 64) if size >> 63 else size for size in shape)
        check_tensor(self.path, short(name), dtype, shape)
        if math.prod(shape) != sum(counts):
            raise _Damage(f"is {shape}, but has {sum(counts)} numbers")
        parts = [self.numbers(*run) for run in runs]
        if not parts:
            return np.empty(shape, dtype)
        if len(parts) == 1:
            return native(parts[0].reshape(shape))
        blocks = (part[i:i + BLOCK_BYTES // 8].tobytes() for part in parts
                  for i in range(0, len(part), BLOCK_BYTES // 8))
        return native(gather(self.path, short(name), blocks, dtype, shape))

    def numbers(self, dtype, start, end, step):
        if step == dtype.itemsize:
            return view(self.data, start, dtype, ((end - start) // step,))
        # Unpacked: each number follows its key of one byte.
        pair = np.dtype([("key", "u1"), ("value", dtype)])
        return view(self.data, start, pair, ((end - start) // step,))["value"]

    def fields(self, start, end, floats=None):
        """The fields of a message: (number, wire type, value or start, end of the bytes).

        Where `floats` is given, unpacked numbers are not yielded one by one: whole runs of them
        are put there.
        """
        at, data = start, self.bytes
        while at < end:
            self.fields_left -= 1
            if self.fields_left < 0:
                raise _Damage(f"lies behind {MAX_FIELDS} fields, more than any net has")
            key_at = at
            key, at = _varint(data, at, end)
            field, kind = key >> 3, key & 7
            if not 0 < field < 1 << 29:
                raise _Damage(f"has a field with the number {field}")
            if kind == VARINT:
                value, at = _varint(data, at, end)
                yield field, kind, value, at
            elif kind == BYTES:
                length, at = _varint(data, at, end)
                if length > end - at:
                    raise _Damage(f"declares {length} bytes where {end - at} are left")
                yield field, kind, at, at + length
                at += length
            elif kind in (FIXED32, FIXED64):
                size = 4 if kind == FIXED32 else 8
                if size > end - at:
                    raise _Damage("ends within a number")
                wanted = (DATA, FIXED32, 1) if kind == FIXED32 else (DOUBLE_DATA, FIXED64, 1)
                if floats is not None and (field, kind, at - key_at) == wanted:
                    count = self.run_length(key_at, end, size + 1)
                    dtype = np.dtype("<f4" if kind == FIXED32 else "<f8")
                    floats.append((dtype, key_at, key_at + count * (size + 1), size + 1))
                    at = key_at + count * (size + 1)
                else:
                    yield field, kind, at, at + size
                    at += size
            else:
                raise _Damage(f"has a field of wire type {kind}")

    def run_length(self, start, end, step):
        """How many numbers follow each other, every one behind the same key."""
        key, count = self.data[start], 0
        most = (end - start) // step
        while count < most:
            block = self.data[start + count * step:start + most * step:step][:BLOCK_BYTES]
            other = np.flatnonzero(block != key)
            if len(other):
                return count + int(other[0])
            count += len(block)
        return count

    def text(self, start, end):
        try:
            return bytes(self.bytes[start:min(end, start + 4096)]).decode("utf-8")
        except UnicodeDecodeError:
            raise _Damage("has a name that is no text") from None


def _varint(data, at, end):
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise _Damage("ends within a number")
        byte = int(data[at])
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, at
    raise _Damage("has a number of more than 64 bits")


def _is_text(data):
    try:
        return data.decode("utf-8").isprintable()
    except UnicodeDecodeError:
        return False
