"""One thread a process that drains a bounded queue into the run directory. A slow or full disk costs rows, never a step.

The training thread only appends to a deque, which takes no lock. Nothing here imports the threading module, which would list our
thread among the user's own.
"""

from __future__ import annotations

import _thread
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .own_file import OwnFile
from .record import OPEN_FLAGS, Column, event_line, metric_file_name
from .table import Table

PERIOD_S = 0.2
RETRY_S = 5.0
"""A file that could not be made is not tried at every flush, nor is it said at every flush that rows were lost."""
LIMIT = 20_000
"""Queued rows and events; a disk that stands still for longer costs rows."""

MOST_OPEN = 16
"""Files of metrics kept open between writes; where there are more, each is opened for its rows alone."""
NUMBERED_KEPT = 4
"""Of tables with a number (gradients-7), so many of the newest may still get rows, which a GPU sends late."""

FLUSHED = object()
"""Stands in the queue for a thread that waits until all before it is written."""

Prepare = Callable[[dict[str, Any]], dict[str, Any]]


class Writer:
    """Writes the files of one rank. `prepare` completes an event on the writer's thread (source lines, file sizes).

    `each_period` is called between flushes, also when nothing was written, and `failed` with an error of our own.
    """

    def __init__(
        self,
        directory: str,
        prepare: Prepare,
        each_period: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self.directory = directory
        self.started = False
        self._events = OwnFile("", 0)
        self._prepare = prepare
        self._each_period = each_period
        self._failed = failed
        self._queue: deque[tuple[Any, ...]] = deque()
        self._tables: dict[str, Table] = {}
        self._columns: dict[str, Sequence[Column]] = {}
        self._not_before: dict[str, float] = {}
        self._lost = 0
        self._lost_on_disk = 0
        self._say_lost_after = 0.0
        self._torn = False
        self._stopping = False
        self._ended = _thread.allocate_lock()
        self._wake = _thread.allocate_lock()
        self._wake.acquire()

    def start(self) -> None:
        """Open the files and begin to write what was queued so far. Raises OSError when the directory cannot be written."""
        os.makedirs(os.path.join(self.directory, "metrics"), exist_ok=True)
        self._events = OwnFile(os.path.join(self.directory, "events.jsonl"), os.O_WRONLY | os.O_APPEND | OPEN_FLAGS)
        self._events.open()
        self.started = True
        self._ended.acquire()
        _thread.start_new_thread(self._run, ())

    def declare(self, name: str, columns: Sequence[Column]) -> None:
        """Name a table; its file is made when its first row is written. Of numbered ones, the newest are kept open."""
        self._columns[name] = columns
        base, _, number = name.rpartition("-")
        if number.isdigit() and int(number) >= NUMBERED_KEPT:
            self._put((None, f"{base}-{int(number) - NUMBERED_KEPT}"))

    def row(self, table: str, values: Iterable[float]) -> None:
        """Queue one row, on any thread; it is iterated over on the writer's."""
        self._put((table, values))

    def lose_row(self) -> None:
        """Count a row that could not be had."""
        self._lost += 1

    def metric(self, name: str, values: Sequence[float]) -> None:
        self._put(("metrics/" + metric_file_name(name)[:-4], values))

    def event(self, event: dict[str, Any]) -> None:
        self._put((None, event))

    def file(self, name: str, write: Callable[[str], None]) -> None:
        """Queue a call of `write(path)` for a file that is written once."""
        self._put((name, write))

    def _put(self, item: tuple[Any, ...]) -> None:
        if len(self._queue) >= LIMIT:
            self._lost += 1
        else:
            self._queue.append(item)

    def flush(self, timeout_s: float) -> bool:
        """Have the writer's thread write all that is queued; False when the disk did not let it within `timeout_s`."""
        if not self.started or self._stopping:
            return False
        written = _thread.allocate_lock()
        written.acquire()
        self._queue.append((FLUSHED, written))
        if self._wake.locked():
            self._wake.release()
        return written.acquire(timeout=timeout_s)

    def stop(self, timeout_s: float = 2.0) -> None:
        """Flush, end the thread and close the files. Waits at most `timeout_s` for a disk that hangs."""
        self._stopping = True
        if not self.started:
            return
        if self._wake.locked():
            self._wake.release()
        if self._ended.acquire(timeout=timeout_s):
            self._ended.release()

    def _run(self) -> None:
        try:
            # A signal sent to the process must reach the user's thread, as it would without us.
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            while not self._stopping:
                try:
                    self._drain()
                    self._each_period()
                except Exception as error:
                    self._failed(error)  # a bug of ours: said once, and what was in hand is lost
                self._wake.acquire(timeout=PERIOD_S)
            for last in (self._drain, self._drain, self._close):  # twice: what was found out on this thread at the end
                try:
                    last()
                except Exception as error:
                    self._failed(error)
        finally:
            self._ended.release()

    def _drain(self) -> None:
        rows: dict[str, list[Iterable[float]]] = {}
        for _ in range(len(self._queue)):
            item = self._queue.popleft()
            if item[0] is None and isinstance(item[1], str):
                self._flush_rows(rows)
                self._retire(item[1])
            elif item[0] is None:
                self._flush_rows(rows)
                if not self._writes(self._write_event, item[1]):
                    self._lost_on_disk += 1
            elif item[0] is FLUSHED:
                self._flush_rows(rows)
                item[1].release()
            elif callable(item[1]):
                if not self._writes(item[1], os.path.join(self.directory, item[0])):
                    self._lost_on_disk += 1
            else:
                rows.setdefault(item[0], []).append(item[1])
        self._flush_rows(rows)
        self._report_lost()

    def _flush_rows(self, rows: dict[str, list[Iterable[float]]]) -> None:
        for name, new in rows.items():
            if not self._writes(self._append, name, new):
                self._lost_on_disk += len(new)
        rows.clear()
        metrics = [name for name in self._tables if name.startswith("metrics/")]
        if len(metrics) > MOST_OPEN:
            for name in metrics:
                self._tables[name].rest()

    def _table(self, name: str) -> Table:
        if name not in self._tables:
            if time.monotonic() < self._not_before.get(name, 0.0):
                raise OSError("not tried again yet")
            if name not in self._columns and not name.startswith("metrics/"):
                raise OSError("no such table any more")
            self._not_before[name] = time.monotonic() + RETRY_S
            columns = self._columns["metrics"] if name.startswith("metrics/") else self._columns[name]
            self._tables[name] = Table(os.path.join(self.directory, name + ".npy"), columns)
        return self._tables[name]

    def _retire(self, name: str) -> None:
        """Close a table that gets no more rows."""
        table = self._tables.pop(name, None)
        self._columns.pop(name, None)
        self._not_before.pop(name, None)
        if table is not None:
            self._writes(table.close)

    def _append(self, name: str, rows: list[Iterable[float]]) -> None:
        self._table(name).append(rows)

    def _writes(self, write: Callable[..., object], *values: Any) -> bool:
        """Whether `write` could; not for the disk's sake or, which is said, by a bug of ours."""
        try:
            write(*values)
        except OSError:
            return False
        except Exception as error:
            self._failed(error)
            return False
        return True

    def _write_event(self, event: dict[str, Any]) -> None:
        try:
            line = event_line(self._prepare(event))
        except Exception as error:
            self._failed(error)
            line = event_line({**event, "where": None})
        if not self._write_line(line):
            self._lost_on_disk += 1

    def _write_line(self, line: bytes) -> bool:
        if self._torn:  # half a line of ours stands at the end of the file: close it, so that only that one is broken
            line = b"\n" + line
        try:
            written = os.write(self._events.descriptor(), line)
        except OSError:
            return False
        self._torn = 0 < written < len(line)
        return written == len(line)

    def _report_lost(self) -> None:
        lost, now = self._lost + self._lost_on_disk, time.monotonic()
        if not lost or (now < self._say_lost_after and not self._stopping):
            return
        self._say_lost_after = now + RETRY_S
        if self._write_line(event_line({"time": time.time(), "step": -1, "kind": "dropped", "rows": lost})):
            self._lost = self._lost_on_disk = 0

    def _close(self) -> None:
        for table in self._tables.values():
            self._writes(table.close)
        self._events.close()


def event(kind: str, step: int, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"time": time.time(), "step": step, "kind": kind, **fields}
