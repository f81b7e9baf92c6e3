"""The sidecar's two files: machine.npy and machine.jsonl. A full or read-only disk costs rows, never the sidecar."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Sequence
from typing import Any

from probes.record import OPEN_FLAGS, Column, event_line
from probes.table import Table, npy_header

RETRY_S = 5.0


class ContinuedTable(Table):
    """A table that goes on behind the rows of an earlier sidecar, where that one wrote the same columns."""

    def _begin(self) -> None:
        header = npy_header(self._columns, 0)
        if not _is_table(self.path, header.partition(b"'shape'")[0]):
            super()._begin()
            return
        self._file.open()
        fd = self._file.descriptor()
        self._count = max(0, os.fstat(fd).st_size - len(header)) // self._row.size
        os.ftruncate(fd, len(header) + self._count * self._row.size)  # the torn row of a sidecar that was killed


def _is_table(path: str, beginning: bytes) -> bool:
    """Whether `path` is a table that begins so. One of other columns (another number of GPUs) is put aside."""
    try:
        fd = os.open(path, os.O_RDONLY | (OPEN_FLAGS & ~os.O_CREAT))
    except FileNotFoundError:
        return False
    try:
        found = os.pread(fd, len(beginning), 0)
    finally:
        os.close(fd)
    if found and found != beginning:
        os.replace(path, f"{path}.{int(time.time())}.old")
    return found == beginning


class MachineFiles:
    """Writes what the disk takes and drops the rest, trying again every few seconds."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._events = -1
        self._table: Table | None = None
        self._again_at = 0.0
        self._torn = False

    def claim(self) -> bool:
        """False while another sidecar holds this run. True also where the disk lets nobody hold anything."""
        if self._events < 0:
            flags = os.O_WRONLY | os.O_APPEND | OPEN_FLAGS
            try:
                self._events = os.open(os.path.join(self._run, "machine.jsonl"), flags, 0o644)
            except OSError:
                return True
        try:
            fcntl.flock(self._events, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)  # else a file system without locks
        return True

    def event(self, kind: str, **fields: Any) -> None:
        if self._events < 0 and not self._reopen():
            return
        line = event_line({"time": time.time(), "kind": kind, **fields})
        with contextlib.suppress(OSError):
            written = os.write(self._events, b"\n" + line if self._torn else line)
            self._torn = written < len(line)

    def _reopen(self) -> bool:
        return self.claim() and self._events >= 0

    def row(self, columns: Sequence[Column], row: Sequence[float]) -> None:
        now = time.monotonic()
        if now < self._again_at:
            return
        try:
            if self._table is None:
                self._table = ContinuedTable(os.path.join(self._run, "machine.npy"), columns)
            self._table.append([row])
        except OSError:
            self._again_at = now + RETRY_S

    def close(self) -> None:
        if self._table is not None:
            self._table.close()
        if self._events >= 0:
            os.close(self._events)
