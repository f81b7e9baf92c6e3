"""What the sidecar needs of rank-R/events.jsonl, read as it grows: who is watched, signs of life, how the program ended."""

from __future__ import annotations

import json
import os
import re
from typing import Any

from forgemon.exceptions import exception_line
from probes.record import rank_directory

READ_BYTES = 1 << 20
PLACE_ATTEMPTS = 5
SIGNS_OF_LIFE = frozenset({"progress", "evaluation", "checkpoint", "epoch", "mode", "optimizer", "table", "fact"})


class RankEvents:
    """The tail of one rank's events.jsonl; the newest `attached` begins everything anew."""

    def __init__(self, run: str, rank: int) -> None:
        self.run = run
        self.rank = rank
        self.steps_path = os.path.join(rank_directory(run, rank), "steps.npy")
        self._path = os.path.join(rank_directory(run, rank), "events.jsonl")
        self._offset = 0
        self._torn = b""
        self.life = 0
        "Events so far that only a loop that goes on can have caused."
        self._begin(None)

    def _begin(self, pid: int | None) -> None:
        self.pid = pid
        "As the process itself sees it, until `placed` finds it to be another one for us."
        self._attempts = PLACE_ATTEMPTS
        self.exception: tuple[float, str] | None = None
        self.exiting = False
        self.detached = False

    def read(self) -> None:
        """Take in what was appended. A file that cannot be read is one without events."""
        try:
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                data = file.read(READ_BYTES)
        except OSError:
            return
        self._offset += len(data)
        *lines, self._torn = (self._torn + data).split(b"\n")
        self._torn = self._torn[-READ_BYTES:]
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # the reader counts broken lines and says so
            if isinstance(event, dict):
                self._take(event)

    def placed(self, watched: int) -> int | None:
        """The pid of the process that writes these events, as this host and pid namespace has it; None when it is not here.

        In a container the process knows itself by another pid than we know it by: that of `watched`.
        """
        if self.pid is not None and self._attempts > 0:
            self._attempts -= 1
            found = next((pid for pid in (self.pid, watched) if writes_events(pid, self.run, self.rank)), None)
            if found is not None:
                self.pid, self._attempts = found, 0
            return found
        return None

    def _take(self, event: dict[str, Any]) -> None:
        kind = event.get("kind")
        self.life += kind in SIGNS_OF_LIFE
        if kind == "attached":
            pid = event.get("pid")
            self._begin(pid if isinstance(pid, int) else None)
        elif kind == "exception":
            time = event.get("time")
            self.exception = (float(time) if isinstance(time, (int, float)) else 0.0, last_line(event))
        elif kind == "exiting":
            self.exiting = True
        elif kind == "detached":
            self.detached = True


def last_line(event: dict[str, Any]) -> str:
    """`ValueError: bad batch`, as the last line of a traceback, on one line."""
    return exception_line(str(event.get("type") or "exception"), str(event.get("message") or ""))[:500]


def ranks_in(run: str) -> list[int]:
    """The ranks that have a folder, in order; none where the run directory is not there."""
    try:
        names = os.listdir(run)
    except OSError:
        return []
    return sorted(int(match[1]) for name in names if (match := re.fullmatch(r"rank-(\d{1,6})", name)))


def writes_events(pid: int, run: str, rank: int) -> bool:
    """Whether that process holds the rank's events open: not so when it is of another host or another pid namespace."""
    try:
        ours = os.stat(os.path.join(rank_directory(run, rank), "events.jsonl"))
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for name in names:
        try:
            found = os.stat(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
        if (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino):
            return True
    return False
