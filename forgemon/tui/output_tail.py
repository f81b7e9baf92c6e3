"""The last lines of what the watched command printed."""

from __future__ import annotations

import os
import re
from pathlib import Path

from forgemon.tui.text import plain

LAST_BYTES = 64 << 10
MOST_LINES = 500
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")


class OutputTail:
    """Reads the end of a growing file; nothing while there is none."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._size = -1
        self.lines: tuple[str, ...] = ()

    def read(self) -> bool:
        """Whether the file has changed its size since the last call."""
        if self._path is None:
            return False
        try:
            with open(self._path, "rb") as file:
                size = file.seek(0, os.SEEK_END)
                if size == self._size:
                    return False
                file.seek(max(size - LAST_BYTES, 0))
                data = file.read(LAST_BYTES)
        except OSError:
            return False
        self._size = size
        self.lines = lines_of(data, whole=size <= LAST_BYTES)
        return True


def lines_of(data: bytes, whole: bool = True) -> tuple[str, ...]:
    """The lines as a terminal would have left them: no escape sequences, a progress bar's last state only."""
    lines = data.decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
    if not whole:
        lines = lines[1:]
    if lines and not lines[-1]:
        lines.pop()
    return tuple(plain(_ESCAPES.sub("", line).rstrip("\r").rpartition("\r")[2].expandtabs()) for line in lines[-MOST_LINES:])
