"""One growing .npy file of a run directory, read a piece at a time while another process appends to it."""

from __future__ import annotations

import os
import re
import stat
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from forgemon.chunk import Rows
from forgemon.soundness import SoundRows, UnreadableTable

MAX_HEADER_BYTES = 65_546
MAX_COLUMNS = 2_000
MAX_VECTOR = 200_000
MAX_BLOCK_BYTES = 32 << 20
MAX_BYTES_PER_READ = 128 << 20

_HEADER = re.compile(r"\{'descr': \[(.*)\], 'fortran_order': False, 'shape': \(\d+,\), \} *\n?")
_COLUMN = re.compile(r"\('(\w{1,64})', '<([if][48])'(?:, \((\d{1,6}),\))?\)(?:, |,?$)")


def parse_columns(header: str) -> np.dtype[Any]:
    """The row type that the text of a .npy header describes.

    Only what probes.record writes is understood: named columns of little-endian i4, i8, f4, f8, at most one vector dimension.
    Nothing is evaluated, so nothing that stands in the header can do more than fail to match.
    """
    match = _HEADER.fullmatch(header)
    if match is None:
        raise UnreadableTable("its header is not that of a table")
    described, position = match[1], 0
    columns: list[tuple[str, str] | tuple[str, str, tuple[int]]] = []
    while position < len(described):
        column = _COLUMN.match(described, position)
        if column is None or len(columns) == MAX_COLUMNS:
            raise UnreadableTable("its columns are not plain numbers")
        position = column.end()
        name, code, length = column[1], "<" + column[2], column[3]
        if length is not None and not 1 <= int(length) <= MAX_VECTOR:
            raise UnreadableTable(f"column {name} has {length} numbers a row, more than {MAX_VECTOR} or none")
        columns.append((name, code) if length is None else (name, code, (int(length),)))
    if not columns or len({c[0] for c in columns}) < len(columns):
        raise UnreadableTable("it has no columns or one twice")
    return np.dtype(columns)


def read_header(file: FileIO) -> tuple[str, int] | None:
    """The header's text and the offset of the first row; None while it is not written whole."""
    start = file.read(10)
    if len(start) < 10:
        if not b"\x93NUMPY".startswith(start[:6]):
            raise UnreadableTable("it is no .npy file")
        return None
    if start[:7] != b"\x93NUMPY\x01":
        raise UnreadableTable("it is no .npy file of version 1")
    length = int.from_bytes(start[8:10], "little")
    body = read_fully(file, length)
    return (body.decode("latin1"), 10 + length) if len(body) == length else None


def read_fully(file: FileIO, size: int) -> bytes:
    """Up to `size` bytes; less only at the end of the file."""
    parts: list[bytes] = []
    while size > 0:
        part = file.read(size)
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def open_regular(path: Path) -> FileIO:
    """`path` for reading, unbuffered. OSError as the disk raises it, and for all but plain files: a pipe would block."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(None, "not a plain file")
    return FileIO(path)


class TableFile:
    """Reads what was appended since the last read. The file's size decides what is there, never the count in its header.

    The file is opened anew each time and never mapped into memory: it may be replaced, cut short or deleted at any moment.
    """

    def __init__(self, path: Path, sound: SoundRows) -> None:
        self.path = path
        self.sound = sound
        self.caught_up = False
        "Whether the last read reached the end of the file."
        self.dtype: np.dtype[Any] | None = None
        self._described = ""
        self._offset = 0
        self._identity: tuple[int, int] | None = None
        self._trouble = ""
        self._replaced = 0

    @property
    def problems(self) -> list[str]:
        name = self.path.name
        found = [f"{name}: {self._trouble}"] if self._trouble else []
        if self._replaced:
            found.append(f"{name}: was replaced or cut short while it was read")
        left_out = self.sound.left_out
        return [*found, f"{name}: {left_out}"] if left_out else found

    def read(self, max_rows: int) -> Rows | None:
        """At most `max_rows` sound new rows in the order they were written; None when there are none."""
        self.caught_up = True
        try:
            with open_regular(self.path) as file:
                return self._read(file, max_rows) if self._find_start(file) else None
        except FileNotFoundError:
            return None
        except OSError as error:
            self._trouble = f"cannot be read: {error.strerror or error}"
        except UnreadableTable as error:
            self._trouble = str(error)
        return None

    def _find_start(self, file: FileIO) -> bool:
        """Look at the header again: a new file, a new set of columns or a shorter file is read from its start."""
        header = read_header(file)
        if header is None:
            if self.dtype is not None:
                self._begin_again()
            return False
        described = header[0].partition("'shape'")[0]
        status = os.fstat(file.fileno())
        identity = (status.st_dev, status.st_ino)
        if self.dtype is not None and (
            identity != self._identity or described != self._described or status.st_size < self._offset
        ):
            self._begin_again()
        if self.dtype is None:
            dtype = parse_columns(header[0])
            self.sound.check_columns(dtype)
            self.dtype, self._described, self._offset, self._identity = dtype, described, header[1], identity
        self._trouble = ""
        return True

    def _begin_again(self) -> None:
        self.dtype = None
        self._replaced += 1
        self.sound.begin_again()

    def _read(self, file: FileIO, max_rows: int) -> Rows | None:
        assert self.dtype is not None
        row_bytes = self.dtype.itemsize
        block_rows = max(1, min(max_rows, MAX_BLOCK_BYTES // row_bytes))
        end = self._offset + MAX_BYTES_PER_READ
        while self._offset < end:
            file.seek(self._offset)
            data = read_fully(file, block_rows * row_bytes)
            count = len(data) // row_bytes  # a torn last row is simply not there yet
            if not count:
                return None
            self._offset += count * row_bytes
            rows = np.frombuffer(data, self.dtype, count)
            kept = self.sound.keep(rows)
            if len(kept):
                self.caught_up = count < block_rows
                return kept
            self._skip_hole(file, row_bytes)
        self.caught_up = False
        return None

    def _skip_hole(self, file: FileIO, row_bytes: int) -> None:
        """A file can be a terabyte of nothing: go on at the next row that has data on disk, where the system can tell."""
        if not hasattr(os, "SEEK_DATA"):
            return
        try:
            data = os.lseek(file.fileno(), self._offset, os.SEEK_DATA)
        except OSError:  # no data to the end of the file, or a file system without holes
            return
        skipped = (data - self._offset) // row_bytes
        if skipped > 0:
            self._offset += skipped * row_bytes
            self.sound.zeros += skipped


def last_row(path: Path) -> tuple[int, npt.NDArray[Any] | None]:
    """How many whole rows a table has by its size, and the newest of the last hundred that is not zero. Never raises."""
    try:
        with open_regular(path) as file:
            header = read_header(file)
            if header is None:
                return 0, None
            dtype = parse_columns(header[0])
            count = max(0, os.fstat(file.fileno()).st_size - header[1]) // dtype.itemsize
            first = max(0, count - 100)
            file.seek(header[1] + first * dtype.itemsize)
            data = read_fully(file, (count - first) * dtype.itemsize)
    except (OSError, UnreadableTable):
        return 0, None
    rows = np.frombuffer(data, dtype, len(data) // dtype.itemsize)
    key = rows[dtype.names[0]] if dtype.names else np.zeros(0)
    alive = np.flatnonzero(key)
    return count, rows[alive[-1:]] if len(alive) else None
