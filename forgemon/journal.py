"""One growing .jsonl file of a run directory, read line by line while another process appends, and the fields of its events.

Anyone who can write the folder can put anything in it, so every field is taken through `text`, `number`, `whole`, `flag`,
`texts` or `where_of`: they return nothing rather than fail on a field that is missing or of another type.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

from forgemon.chunk import Event
from forgemon.findings import Where
from forgemon.soundness import MAX_STEP, MAX_TIME
from forgemon.tables import open_regular, read_fully
from probes.record import decode_number

MAX_LINE_BYTES = 1 << 20
BLOCK_BYTES = 4 << 20
MAX_SOURCE_LINES = 50
MAX_TEXT = 20_000


def text(event: Mapping[str, Any], field: str) -> str:
    """The field as text, "" when it is none."""
    value = event.get(field)
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def number(event: Mapping[str, Any], field: str) -> float:
    """The field as a float, NaN when it is none; "nan", "inf" and "-inf" are the numbers they name."""
    value = event.get(field)
    if isinstance(value, int) and abs(value) > 2**1000:
        return math.nan
    return decode_number(value) if isinstance(value, (int, float, str)) else math.nan


def whole(event: Mapping[str, Any], field: str) -> int | None:
    """The field as a whole number of at most 53 bits, None when it is none."""
    value = number(event, field)
    return int(value) if math.isfinite(value) and abs(value) <= MAX_STEP and value == int(value) else None


def flag(event: Mapping[str, Any], field: str) -> bool | None:
    """The field when it is true or false, else None."""
    value = event.get(field)
    return value if isinstance(value, bool) else None


def texts(event: Mapping[str, Any], field: str) -> tuple[str, ...]:
    """The texts in a field that is a list; () when it is none."""
    value = event.get(field)
    return tuple(item[:MAX_TEXT] for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def where_of(event: Mapping[str, Any], field: str = "where") -> Where | None:
    """The user's line in an event, {file, line, function, source: [lines], source_first_line}; None without file and line."""
    value = event.get(field)
    if not isinstance(value, Mapping):
        return None
    file, line = text(value, "file"), whole(value, "line")
    if not file or line is None or line < 0:
        return None
    source = texts(value, "source")[:MAX_SOURCE_LINES]
    return Where(file, line, text(value, "function"), source, whole(value, "source_first_line") or 0)


def parse_event(line: bytes) -> dict[str, Any] | None:
    """The event on one line; None when it is no object with a time and a kind."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not 0 < len(text(event, "kind")) <= 64:
        return None
    event["time"] = number(event, "time")
    return event if 0 < event["time"] < MAX_TIME else None


class JournalFile:
    """Reads the complete lines appended since the last read; broken ones are skipped and counted.

    With `steps`, each event gets a whole number `step`: its own, or that of the event before it where it has none.
    """

    def __init__(self, path: Path, steps: bool) -> None:
        self.path = path
        self.caught_up = False
        self._steps = steps
        self._step = 0
        self._offset = 0
        self._identity: tuple[int, int] | None = None
        self._in_long_line = False
        self._newest_time = 0.0
        self._seen_before = 0.0
        self._broken = 0
        self._replaced = False
        self._trouble = ""

    @property
    def problems(self) -> list[str]:
        found = [self._trouble] if self._trouble else []
        if self._replaced:
            found.append("was replaced or cut short while it was read")
        if self._broken:
            found.append(f"left out broken lines: {self._broken}")
        return [f"{self.path.name}: {problem}" for problem in found]

    def read(self, max_events: int) -> list[Event]:
        """At most `max_events` new events, and no more than one block of the file."""
        self.caught_up = True
        try:
            with open_regular(self.path) as file:
                self._find_start(file)
                file.seek(self._offset)
                data = read_fully(file, BLOCK_BYTES)
        except FileNotFoundError:
            return []
        except OSError as error:
            self._trouble = f"cannot be read: {error.strerror or error}"
            return []
        self._trouble = ""
        events: list[Event] = []
        for line in self._complete_lines(data):
            event = parse_event(line)
            if event is None:
                self._broken += bool(line.strip())
            elif self._is_new(event):
                events.append(event)
                if len(events) >= max_events:
                    self.caught_up = False
                    break
        return events

    def _find_start(self, file: FileIO) -> None:
        status = os.fstat(file.fileno())
        identity = (status.st_dev, status.st_ino)
        if self._identity is not None and (identity != self._identity or status.st_size < self._offset):
            self._offset, self._step, self._in_long_line, self._replaced = 0, 0, False, True
            self._seen_before = self._newest_time
        self._identity = identity

    def _complete_lines(self, data: bytes) -> Iterator[bytes]:
        """The lines of a block that are whole; the offset moves behind each as it is taken."""
        position = 0
        while position < len(data):
            end = data.find(b"\n", position)
            if end < 0:
                break
            line, position = data[position:end], end + 1
            self._offset += len(line) + 1
            if self._in_long_line:
                self._in_long_line = False
            elif len(line) > MAX_LINE_BYTES:
                self._broken += 1
            else:
                yield line
        if len(data) - position > MAX_LINE_BYTES:  # a line without end: go on behind it
            self._broken += not self._in_long_line
            self._in_long_line = True
            self._offset += len(data) - position
        if len(data) == BLOCK_BYTES:
            self.caught_up = False

    def _is_new(self, event: dict[str, Any]) -> bool:
        if self._steps:
            step = whole(event, "step")
            self._step = self._step if step is None or step < 0 else step
            event["step"] = self._step
        self._newest_time = max(self._newest_time, event["time"])
        return bool(event["time"] > self._seen_before)


def tail_events(path: Path, size: int = 256 << 10) -> list[Event]:
    """The sound events in the last `size` bytes of a journal; none where it cannot be read. Cheap, for lists of runs."""
    try:
        with open_regular(path) as file:
            start = max(0, os.fstat(file.fileno()).st_size - size)
            file.seek(start)
            data = read_fully(file, size)
    except OSError:
        return []
    lines = data.split(b"\n")[1 if start else 0 : -1]
    return [event for event in map(parse_event, lines) if event is not None]
