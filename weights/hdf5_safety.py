"""What stands between damaged or hostile HDF5 files and the process that reads them.

libhdf5 may crash or loop for ever on a file with a few changed bytes, and no Python code can catch
that. So it never meets such a file in this process:

* The project's files end with the SHA-256 of all that goes before. HDF5 allows bytes after its
  own end, so other programs read the file as ever; one that changes it cuts the trailer off. A
  trailer that does not fit the content means damage, and the file is refused unopened.
* A file without a trailer is first read in a child process with a time and a memory limit.

The checksum tells damage, not malice. What a well-formed file may ask for is held against a
list: only hard links, each object under one name; no external or virtual storage; numbers of at
most 8 bytes; known filters; and shapes that the stored bytes can fill, checked before memory is
taken.
"""
import contextlib
import hashlib
import math
import os
import stat
import zlib

import h5py

from tinyfcn.weights.child import child
from tinyfcn.weights.description import KEY, MAX_BYTES, from_text
from tinyfcn.weights.errors import WeightsError, weights_error
from tinyfcn.weights.hdf5_pieces import pieces
from tinyfcn.weights.tensors import (
    MAX_NAME, MAX_RANK, MAX_TENSOR_BYTES, MAX_TENSORS, MAX_TOTAL_BYTES, check_ratio)

SIGNATURE = b"\x89HDF\r\n\x1a\n"
TRAILER = b"\ntinyfcn sha256 "
TRAILER_SIZE = len(TRAILER) + 64 + 1

MAX_DEPTH = 8
# Deflate cannot do better than 1032 : 1.
MAX_COMPRESSION = 1100
CHILD_SECONDS = 30
CHILD_BYTES = 4 << 30
# Reading goes at this rate at least.
BYTES_PER_SECOND = 10 << 20

KNOWN_FILTERS = {
    h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
# What h5py raises when libhdf5 reports an error, and when what it reports makes no sense to h5py.
_FAILURES = (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError,
             ArithmeticError, MemoryError, SystemError)

# The last file that was found good, so that shapes, description and data cost one check together.
_checked = None


def recognise(path):
    """Say whether a file begins like an HDF5 file, after an optional user block."""
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        at = 0
        while at + len(SIGNATURE) <= size:
            stream.seek(at)
            if stream.read(len(SIGNATURE)) == SIGNATURE:
                return True
            at = 2 * at or 512
    return False


@contextlib.contextmanager
def opened(path):
    """Open a file that was found good: ({name: h5py.Dataset}, description)."""
    _check_before_opening(path)
    with open_hdf5(path) as file:
        yield _examine(path, file)


@contextlib.contextmanager
def open_hdf5(path, what="HDF5 file"):
    """Open a file of a kind as an h5py.File; what goes wrong is a WeightsError."""
    try:
        # Without caches of chunks, one for each dataset: none is read twice.
        with h5py.File(path, "r", locking=False, rdcc_nbytes=0) as file:
            yield file
    except _FAILURES as error:
        if isinstance(error, WeightsError):
            raise
        raise weights_error(path, f"damaged {what} ({reason(error)})") from error


def append_trailer(path):
    """End a file with the checksum of all that it holds, and see it on the disk."""
    with open(path, "r+b") as stream:
        digest = _digest(stream, os.fstat(stream.fileno()).st_size)
        stream.seek(0, os.SEEK_END)
        stream.write(TRAILER + digest.hexdigest().encode("ascii") + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def _check_before_opening(path):
    """Keep files away from libhdf5 that it may crash on."""
    global _checked
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise weights_error(path, "not a file")
        version = (os.path.realpath(path), status.st_dev, status.st_ino, status.st_size,
                   status.st_mtime_ns)
        if version == _checked:
            return
        if not recognise(path):
            raise weights_error(path, "not an HDF5 file")
        intact = _check_trailer(path)
    except OSError as error:
        raise weights_error(path, f"cannot be read: {reason(error)}") from error
    if not intact:
        try_in_child(path, f"{__name__}:read_for_trial", "HDF5 file")
    _checked = version


def _check_trailer(path):
    """True if the file's own checksum fits, False if it has none."""
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size - TRAILER_SIZE
        if size <= 0:
            return False
        stream.seek(size)
        trailer = stream.read()
        if not trailer.startswith(TRAILER):
            return False
        stream.seek(0)
        if trailer[len(TRAILER):-1] != _digest(stream, size).hexdigest().encode("ascii"):
            raise weights_error(path, "damaged: its content does not have the checksum that it "
                                      "was written with")
    return True


def try_in_child(path, function, what):
    """Read a file once in a process that may crash, hang or ask for any amount of memory.

    `function` is "module:function", `what` the kind of file.
    """
    size = os.path.getsize(path)
    child(path, function, (what, "the HDF5 library"), CHILD_SECONDS + size / BYTES_PER_SECOND,
          CHILD_BYTES + 2 * size)


def read_for_trial(path):
    """What the child process does: read all that could go wrong."""
    with open_hdf5(path) as file:
        tensors, _ = _examine(path, file)
        for name, dataset in tensors.items():
            # Contiguous data are plain bytes at a known place: nothing in them can go wrong.
            if dataset.chunks is not None:
                for _ in read_pieces(path, name, dataset):
                    pass


def _examine(path, file):
    """Walk through an open file: ({name: h5py.Dataset}, description); no data are read."""
    about = _read_about(path, file)
    tensors = {}
    total = _walk(path, file.id, "", tensors, {_address(file.id)}, 0)
    if total > MAX_TOTAL_BYTES:
        raise weights_error(path, f"declares {total} bytes of tensors; {MAX_TOTAL_BYTES} is the "
                                  "most that is read")
    return tensors, about


def _walk(path, group, prefix, tensors, seen, depth):
    """Collect the datasets below a group; returns the bytes they declare."""
    if depth >= MAX_DEPTH:
        raise weights_error(path, f"groups nested deeper than {MAX_DEPTH}")
    # Asked for before the names are, since a list of them takes memory.
    if group.get_num_objs() > MAX_TENSORS:
        raise weights_error(path, f"more than {MAX_TENSORS} entries")
    names = []
    group.links.iterate(names.append)
    total = 0
    for raw in sorted(names):
        name = prefix + raw.decode("utf-8")
        shown = name if len(name) <= 80 else name[:77] + "..."
        if len(name) > MAX_NAME:
            raise weights_error(path, f"a name has more than {MAX_NAME} characters: {shown}")
        if group.links.get_info(raw).type != h5py.h5l.TYPE_HARD:
            raise weights_error(path, f"{shown} is a link to elsewhere, which is refused")
        item = h5py.h5o.open(group, raw)
        address = _address(item)
        if address in seen:
            raise weights_error(path, f"{shown} is the same object as another entry")
        seen.add(address)
        if len(seen) > 4 * MAX_TENSORS:
            raise weights_error(path, f"more than {4 * MAX_TENSORS} entries")
        if isinstance(item, h5py.h5g.GroupID):
            total += _walk(path, item, name + "/", tensors, seen, depth + 1)
        elif isinstance(item, h5py.h5d.DatasetID):
            total += check_dataset(path, shown, item)
            tensors[name] = h5py.Dataset(item)
            if len(tensors) > MAX_TENSORS:
                raise weights_error(path, f"more than {MAX_TENSORS} tensors")
        else:
            raise weights_error(path, f"{shown} is neither a group nor a dataset")
    return total


def _address(item):
    information = h5py.h5o.get_info(item)
    return information.fileno, information.addr


def check_place(path, name, dataset):
    """Refuse a dataset that is not in its file; returns the way it lies there."""
    properties = dataset.get_create_plist()
    layout = properties.get_layout()
    if layout == h5py.h5d.VIRTUAL:
        raise weights_error(path, f"{name} is a virtual dataset, which is refused")
    if properties.get_external_count():
        raise weights_error(path, f"{name} has its data in another file, which is refused")
    return layout, properties


def check_dataset(path, name, dataset):
    """Refuse what is not a plain tensor whose stored bytes fill its shape; returns its bytes."""
    layout, properties = check_place(path, name, dataset)
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    for code in filters:
        if code not in KNOWN_FILTERS:
            raise weights_error(path, f"{name} is stored with an unknown filter ({code})")

    kind = dataset.get_type()
    if not isinstance(kind, (h5py.h5t.TypeFloatID, h5py.h5t.TypeIntegerID)):
        raise weights_error(path, f"{name} does not hold numbers")
    if kind.get_size() > 8 or dataset.dtype.kind not in "fiu":
        raise weights_error(path, f"{name} is of a type that is not read")
    space = dataset.get_space()
    if space.get_simple_extent_type() not in (h5py.h5s.SIMPLE, h5py.h5s.SCALAR):
        raise weights_error(path, f"{name} is empty")
    shape = space.get_simple_extent_dims()
    if len(shape) > MAX_RANK:
        raise weights_error(path, f"{name} has {len(shape)} dimensions")

    # Python's integers: a product of declared sizes does not wrap.
    size = math.prod(int(n) for n in shape) * kind.get_size()
    stored = dataset.get_storage_size()
    # A damaged index may declare any storage: only what lies in the file counts.
    held = min(stored, os.path.getsize(path))
    if layout == h5py.h5d.CHUNKED:
        chunk = math.prod(int(n) for n in properties.get_chunk()) * kind.get_size()
        if chunk > max(4 * size, 1 << 16):
            raise weights_error(path, f"{name} is stored in chunks larger than itself")
        if filters:
            held *= MAX_COMPRESSION
    elif layout == h5py.h5d.CONTIGUOUS and size:
        offset = dataset.get_offset()
        if offset is None or offset + size > os.path.getsize(path):
            held = 0
    if size > held:
        raise weights_error(path, f"{name} declares {size} bytes {tuple(shape)}, more than the "
                                  "file holds")
    if size > MAX_TENSOR_BYTES:
        raise weights_error(path, f"{name} has {size} bytes; {MAX_TENSOR_BYTES} is the most that "
                                  "is read")
    if filters:
        check_ratio(path, name, size, stored)
    return size


def _read_about(path, file):
    raw_name = KEY.encode("ascii")
    if not h5py.h5a.exists(file.id, raw_name):
        return {}
    attribute = h5py.h5a.open(file.id, raw_name)
    kind = attribute.get_type()
    if not isinstance(kind, h5py.h5t.TypeStringID) \
            or attribute.get_space().get_simple_extent_type() != h5py.h5s.SCALAR:
        raise weights_error(path, f"the attribute {KEY!r} is not a text")
    if kind.get_size() > MAX_BYTES:
        raise weights_error(path, f"the attribute {KEY!r} is too long")
    return from_text(path, file.attrs[KEY])


def read_pieces(path, name, dataset):
    """Read a dataset as `pieces` does, raising WeightsError where it is damaged."""
    try:
        yield from pieces(path, name, dataset)
    except (*_FAILURES, zlib.error) as error:
        if isinstance(error, WeightsError):
            raise
        raise weights_error(
            path, f"damaged HDF5 file: {name[:80]} cannot be read ({reason(error)})") from error


def _digest(stream, size):
    digest = hashlib.sha256()
    while size > 0:
        block = stream.read(min(size, 1 << 20))
        if not block:
            break
        digest.update(block)
        size -= len(block)
    return digest


def reason(error):
    """The part of an error that a user can do something with, on one line."""
    text = getattr(error, "strerror", None) or str(error).strip().strip("'\"") \
        or type(error).__name__
    text = " ".join(text.split())
    return text if len(text) <= 160 else text[:157] + "..."
