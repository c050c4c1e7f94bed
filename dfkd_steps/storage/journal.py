"""A file of records that is only ever appended to, so that kill -9 costs no more than the record being written.

    record: length of the content (8 bytes), CRC-32 of length and content (4 bytes), content

HDF5 is no such file: killed inside a flush, it can leave a file that opens, with a wrong idea of where it ends, and
then writes new chunks over old ones.
"""

import os
import struct
import zlib

LENGTH, CHECK = struct.Struct("<Q"), struct.Struct("<I")
PIECE = 1 << 20


class Journal:
    """The records of ``path``, if the file starts with the record ``head``; else, and of any other file, none.

    What follows the last whole record is cut off. ``len`` and indices count the records after the head.
    """

    def __init__(self, path, head: bytes):
        # Without a buffer: a record is in the operating system's hands as soon as it is appended.
        self.file = open(path, "a+b", buffering=0)  # noqa: SIM115
        self.spans = []
        self._scan()
        if not self.spans or self._read(0) != head:
            self.spans = []
            self.file.truncate(0)
            self.append(head)

    def _scan(self):
        size, at, overhead = os.fstat(self.file.fileno()).st_size, 0, LENGTH.size + CHECK.size
        while at + overhead <= size:
            self.file.seek(at)
            start = self.file.read(overhead)
            (length,), (check,) = LENGTH.unpack(start[: LENGTH.size]), CHECK.unpack(start[LENGTH.size :])
            if length > size - at - overhead or check != self._check(length):
                break
            self.spans.append((at + overhead, length))
            at += overhead + length
        self.file.truncate(at)

    def _check(self, length):
        check = zlib.crc32(LENGTH.pack(length))
        while length > 0:
            piece = self.file.read(min(PIECE, length))
            check, length = zlib.crc32(piece, check), length - len(piece) if piece else 0
        return check

    def _read(self, number):
        start, length = self.spans[number]
        content = bytearray(length)
        view, at = memoryview(content), 0
        self.file.seek(start)
        while at < length:
            read = self.file.readinto(view[at:])
            if not read:
                raise EOFError(f"{self.file.name}: ends inside a record; another process works on it")
            at += read
        return content

    def append(self, content: bytes):
        """Add a record; it is there in whole, or after a kill not at all."""
        check = zlib.crc32(content, zlib.crc32(LENGTH.pack(len(content))))
        rest, written = memoryview(LENGTH.pack(len(content)) + CHECK.pack(check) + content), 0
        end = os.fstat(self.file.fileno()).st_size
        while written < len(rest):
            written += self.file.write(rest[written:])
        self.spans.append((end + LENGTH.size + CHECK.size, len(content)))

    def __len__(self):
        return len(self.spans) - 1

    def __getitem__(self, number) -> bytearray:
        if not 0 <= number < len(self):
            raise IndexError(number)
        return self._read(number + 1)

    def close(self):
        """Close the file; it stays."""
        self.file.close()
