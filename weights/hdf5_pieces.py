"""Reads HDF5 datasets piece by piece: a tensor may be most of a net, and compressed.

libhdf5 unpacks a compressed chunk whole, each time that a part of it is read, and holds it packed
beside that. So pieces are whole chunks; one that is too large for a piece is unpacked here, as a
stream.
"""
import functools
import itertools
import math
import struct
import zlib

import h5py
import numpy as np

from tinyfcn.weights.tensors import (
    BLOCK_BYTES, SLICE_BYTES, forget, gather, native, short)

SHUFFLE, DEFLATE, FLETCHER32 = (
    h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_FLETCHER32)


def pieces(path, name, dataset):
    """Read a dataset piece by piece.

    Parameters
    ----------
    path : str or path-like
        Of its file.
    name : str
        For messages.
    dataset : h5py.Dataset

    Yields
    ------
    (place, array)
        A tuple of slices, and the numbers there in the machine's byte order. Pieces take some
        `SLICE_BYTES`, but where a chunk is larger and its filters are not in the usual order.

    Raises
    ------
    Errors of h5py and zlib, where the data are damaged.
    """
    shape, itemsize = dataset.shape, dataset.dtype.itemsize
    filters = dataset.id.get_create_plist().get_nfilters()
    chunk = dataset.chunks if filters else (1,) * len(shape)
    for place in _places(shape, chunk, itemsize):
        if filters and math.prod(_sizes(place)) * itemsize > SLICE_BYTES:
            yield from _large_chunk(path, name, dataset, place)
        else:
            yield place, native(np.asarray(dataset[place]))


def _places(shape, chunk, itemsize):
    """Boxes of whole chunks, of `SLICE_BYTES` or one chunk, that cover a shape."""
    box = list(chunk)
    for axis in reversed(range(len(shape))):
        box[axis] *= max(1, SLICE_BYTES // (math.prod(box) * itemsize))
        if box[axis] < shape[axis]:
            break
        box[axis] = max(1, shape[axis])
    starts = itertools.product(*map(range, [0] * len(shape), shape, box))
    for start in starts:
        yield tuple(slice(at, min(at + n, end)) for at, n, end in zip(start, box, shape))


def _sizes(place):
    return [part.stop - part.start for part in place]


def _large_chunk(path, name, dataset, place):
    """The pieces of one chunk."""
    plist = dataset.id.get_create_plist()
    stored = dataset.id.get_chunk_info_by_coord(tuple(part.start for part in place))
    # A chunk may do without some of the filters.
    filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())
               if not stored.filter_mask >> i & 1]
    row = math.prod(dataset.chunks[1:])
    step = max(1, SLICE_BYTES // (row * dataset.dtype.itemsize))
    first, *others = place
    if stored.byte_offset is None or not filters:
        # Not stored at all, or as it is: any part can be read alone.
        chunk = None
    elif filters == [code for code in (SHUFFLE, DEFLATE, FLETCHER32) if code in filters]:
        chunk = _unpack(path, name, dataset, stored, filters)
    else:
        yield place, native(np.asarray(dataset[place]))
        return
    for start in range(first.start, first.stop, step):
        part = slice(start, min(start + step, first.stop)), *others
        if chunk is None:
            yield part, native(np.asarray(dataset[part]))
            continue
        at = start - first.start
        numbers = np.ascontiguousarray(chunk[at * row:(at + step) * row]).view(dataset.dtype)
        numbers = numbers.reshape(-1, *dataset.chunks[1:])[tuple(map(slice, _sizes(part)))]
        forget(chunk)
        yield part, native(numbers)


def _unpack(path, name, dataset, stored, filters):
    """The bytes of a chunk, (numbers, bytes of each), in a temporary file."""
    blocks = _stored_blocks(path, dataset, stored, FLETCHER32 in filters)
    blocks = _inflated(blocks) if DEFLATE in filters else blocks
    shape = math.prod(dataset.chunks), dataset.dtype.itemsize
    # Shuffled are the first bytes of all numbers, then the second ones.
    shape = shape[::-1] if SHUFFLE in filters else shape
    chunk = gather(path, short(name), blocks, np.dtype(np.uint8), shape)
    return chunk.T if SHUFFLE in filters else chunk


def _stored_blocks(path, dataset, stored, checked):
    """The bytes of a chunk as the file has them, up to a checksum, which has to agree."""
    left, sums = stored.size - 4 * checked, (0, 0)
    with open(path, "rb") as stream:
        stream.seek(_place_in_file(dataset.file, stored.byte_offset))
        while left > 0 and (data := stream.read(min(left, BLOCK_BYTES))):
            left -= len(data)
            sums = _fletcher32(data, sums) if checked else sums
            yield data
        # Versions of libhdf5 have written the halves in either byte order, and 0 as 65535.
        checksum = stream.read(4) if checked else b""
    if checked and (len(checksum) < 4 or sums not in [
            tuple(half % 65535 for half in struct.unpack(order, checksum))
            for order in ("<HH", ">HH")]):
        raise zlib.error("its checksum does not agree")


def _fletcher32(data, sums):
    """Go on with a checksum: the sum of all words, and the sum of the sums so far."""
    words = np.frombuffer(data + bytes(len(data) % 2), ">u2").astype(np.uint64)
    first, second = sums
    weighted = int(words @ np.arange(len(words), 0, -1, dtype=np.uint64))
    return (first + int(words.sum())) % 65535, (second + len(words) * first + weighted) % 65535


def _inflated(blocks):
    inflater = zlib.decompressobj()
    for data in blocks:
        # What lies behind the end is passed over: the inflater would collect it.
        while data and not inflater.eof:
            yield inflater.decompress(data, BLOCK_BYTES)
            data = inflater.unconsumed_tail
    if not inflater.eof:
        raise zlib.error("the compressed data are cut off")


def _place_in_file(file, offset):
    """Where in a file the byte lies that libhdf5 says a chunk begins with."""
    # MATLAB puts a user block in front of all its files.
    user_block = file.userblock_size
    return offset + user_block if user_block and _leaves_out_user_blocks() else offset


@functools.cache
def _leaves_out_user_blocks():
    """Say whether this libhdf5 counts the places of chunks from the end of the user block."""
    # HDF5 1.12 does and 2.0 does not: it is asked for, since others may be in use.
    def place(user_block):
        with h5py.File("probe", "w", driver="core", backing_store=False,
                       userblock_size=user_block) as file:
            dataset = file.create_dataset("x", data=[0], chunks=(1,))
            file.flush()
            return dataset.id.get_chunk_info(0).byte_offset

    return place(512) == place(0)
