"""A .npy file that grows by whole rows, as record.py describes it. Stdlib only."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterable, Sequence

from .own_file import OwnFile
from .record import OPEN_FLAGS, Column


class Table:
    """A growing .npy file of a structured dtype; one writer. Every method raises OSError as the disk does."""

    def __init__(self, path: str, columns: Sequence[Column]) -> None:
        self.path = path
        self._row = struct.Struct("<" + "".join(_struct_code(c) for c in columns))
        self._columns = columns
        self._count = 0
        self._header_size = len(npy_header(columns, 0))
        self._file = OwnFile(path, os.O_RDWR | OPEN_FLAGS & ~os.O_CREAT)
        self._begin()

    def _begin(self) -> None:
        self._file.open(os.O_CREAT | os.O_TRUNC)
        try:
            self._write(npy_header(self._columns, 0), 0)
        except OSError:
            self.close()  # whoever tries again opens it anew
            raise

    def append(self, rows: Iterable[Iterable[float]]) -> int:
        """Append rows, each a flat sequence of all numbers of the columns; returns how many. All or nothing."""
        packed = [self._pack(row) for row in rows]
        if not packed:
            return 0
        self._write(b"".join(packed), self._header_size + self._count * self._row.size)
        self._count += len(packed)
        self._write(npy_header(self._columns, self._count), 0)
        return len(packed)

    def _pack(self, row: Iterable[float]) -> bytes:
        try:
            return self._row.pack(*row)
        except OverflowError:  # finite, but beyond a float32
            return self._row.pack(*[v if abs(v) < 3e38 or v != v else math.copysign(math.inf, v) for v in row])

    def _write(self, data: bytes, offset: int) -> None:
        fd = self._file.descriptor()
        written = os.pwrite(fd, data, offset)
        if written != len(data):  # a full disk took a part: leave no torn row for the next append to follow
            if offset:
                os.ftruncate(fd, offset)
            raise OSError(28, "short write", self.path)

    def rest(self) -> None:
        """Close the file until the next append: a process has only so many open files, and the others are the program's."""
        self.close()

    def close(self) -> None:
        self._file.close()


def _struct_code(column: Column) -> str:
    code = {"i8": "q", "i4": "i", "f8": "d", "f4": "f"}[column[1]]
    return code if len(column) == 2 else f"{column[2]}{code}"


def npy_header(columns: Sequence[Column], count: int) -> bytes:
    """Version 1.0 header of the .npy format (numpy.lib.format), of one size for every row count."""
    described = ", ".join(f"({c[0]!r}, '<{c[1]}')" if len(c) == 2 else f"({c[0]!r}, '<{c[1]}', ({c[2]},))" for c in columns)
    text = f"{{'descr': [{described}], 'fortran_order': False, 'shape': ({count},), }}"
    widest = len(text) - len(str(count)) + 20
    padded = -(-(10 + widest + 1) // 64) * 64
    body = text.ljust(padded - 11) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(body)) + body.encode("latin1")
