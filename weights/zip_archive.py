"""Zip archives that hold numbers: .npz files and PyTorch's newer checkpoints.

Nothing is ever unpacked to a name that the archive gives. Members that are stored as they are
become views of the mapped file; compressed ones are unpacked within the limits of `tensors`.
"""
import struct
import zipfile
import zlib

import numpy as np

from tinyfcn.weights.errors import weights_error
from tinyfcn.weights.tensors import (
    BLOCK_BYTES, MAX_TENSOR_BYTES, MAX_TENSORS, check_ratio, gather, map_file, short)

ZIP_MAGIC = b"PK\x03\x04"
END, END64, LOCATOR64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
MAX_MEMBERS = 2 * MAX_TENSORS
MAX_DIRECTORY_BYTES = 8 << 20
# What zipfile raises on damaged archives.
_FAILURES = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError,
             struct.error, RuntimeError, IndexError, OverflowError)


class Archive:
    """An archive whose table has been checked.

    Attributes
    ----------
    members : dict of str to ZipInfo
    """

    def __init__(self, path):
        self.path = path
        _check_directory_size(path)
        try:
            with zipfile.ZipFile(path) as archive:
                members, self._start_of_directory = archive.infolist(), archive.start_dir
        except _FAILURES as error:
            raise weights_error(path, f"damaged zip archive ({short(str(error), 120)})") from error
        self.members = {}
        for member in members:
            self._check(member)
            self.members[member.filename] = member
        self._check_sizes()
        self._data = None

    def _check(self, member):
        name, shown = member.filename, short(member.filename)
        if member.orig_filename != name or "\\" in name or name.startswith("/") or ":" in name \
                or ".." in name.split("/"):
            raise weights_error(self.path, f"its member {short(member.orig_filename)} has a name "
                                           "that leads elsewhere, which is refused")
        if name in self.members:
            raise weights_error(self.path, f"its member {shown} is there twice")
        if member.flag_bits & 1:
            raise weights_error(self.path, f"its member {shown} is encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise weights_error(self.path, f"its member {shown} is compressed by method "
                                           f"{member.compress_type}, which is not read")
        if member.compress_type == zipfile.ZIP_STORED and member.file_size != member.compress_size:
            raise weights_error(self.path, f"its member {shown} declares {member.file_size} bytes, "
                                           f"{member.compress_size} are stored")
        if member.file_size > MAX_TENSOR_BYTES + (1 << 16):
            raise weights_error(self.path, f"its member {shown} declares {member.file_size} bytes; "
                                           f"{MAX_TENSOR_BYTES} is the most that is read")

    def _check_sizes(self):
        """Members that overlap, or unpack to far more than there is, are a bomb."""
        members = sorted(self.members.values(), key=lambda member: member.header_offset)
        ends = [member.header_offset for member in members[1:]] + [self._start_of_directory]
        for member, end in zip(members, ends):
            if member.header_offset < 0 or member.header_offset + 30 + member.compress_size > end:
                raise weights_error(self.path, f"its member {short(member.filename)} declares more "
                                               "bytes than there are before the next")
        unpacked = sum(member.file_size for member in members)
        packed = sum(member.compress_size for member in members)
        check_ratio(self.path, "the archive", unpacked, packed)

    def read(self, name):
        """Give the bytes of a member, which agree with its checksum.

        Returns
        -------
        ndarray of uint8, (bytes,)
            A view of the mapped file, if the member is not compressed.
        """
        member = self.members[name]
        try:
            if member.compress_type == zipfile.ZIP_DEFLATED:
                return self._unpack(member)
            return self._view(member)
        except _FAILURES as error:
            # Errors of this package are ValueErrors that have their line already.
            if type(error).__module__.startswith("tinyfcn"):
                raise
            raise self._damaged(member, short(str(error), 120)) from error

    def _view(self, member):
        if self._data is None:
            self._data = map_file(self.path)
        start = self._start_of_data(member)
        with open(self.path, "rb") as stream:
            stream.seek(start)
            crc, left = 0, member.file_size
            while left and (block := stream.read(min(left, BLOCK_BYTES))):
                crc, left = zlib.crc32(block, crc), left - len(block)
        # PyTorch can be told to leave the checksums out; it writes zeros then.
        if crc != member.CRC and any(other.CRC for other in self.members.values()):
            raise self._damaged(member, "its content does not have its checksum")
        return self._data[start:start + member.file_size]

    def _unpack(self, member):
        def blocks(stream):
            while block := stream.read(BLOCK_BYTES):
                yield block

        with zipfile.ZipFile(self.path) as archive, archive.open(member) as stream:
            return gather(self.path, short(member.filename), blocks(stream), np.dtype(np.uint8),
                          (member.file_size,))

    def _start_of_data(self, member):
        at = member.header_offset
        header = bytes(self._data[at:at + 30])
        if header[:4] != ZIP_MAGIC or len(header) < 30:
            raise self._damaged(member, "it has no header")
        name_length, extra_length = struct.unpack("<HH", header[26:30])
        name = bytes(self._data[at + 30:at + 30 + name_length])
        if name.decode("utf-8", "replace") != member.filename:
            raise self._damaged(member, "its header has another name")
        start = at + 30 + name_length + extra_length
        if start + member.file_size > len(self._data):
            raise self._damaged(member, "it is cut off")
        return start

    def _damaged(self, member, reason):
        return weights_error(self.path, f"damaged zip archive: {short(member.filename)}: {reason}")


def _check_directory_size(path):
    """Look at the end of the archive before the table of members is read into memory."""
    with open(path, "rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - (1 << 16) - 200))
        tail = stream.read()
    at = tail.rfind(END)
    if at < 0 or len(tail) < at + 22:
        raise weights_error(path, "damaged zip archive: its end is missing (cut off?)")
    count, length = struct.unpack("<HI", tail[at + 10:at + 16])
    at64 = at - 20 - 56
    if at64 >= 0 and tail[at - 20:at - 16] == LOCATOR64 and tail[at64:at64 + 4] == END64:
        count, length = struct.unpack("<QQ", tail[at64 + 32:at64 + 48])
    if count > MAX_MEMBERS or length > MAX_DIRECTORY_BYTES:
        raise weights_error(path, f"a zip archive of {count} members; {MAX_MEMBERS} is the most "
                                  "that is read")
