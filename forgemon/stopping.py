"""Stops a command that we started, in order: as Ctrl-C does, then as a scheduler does, then by force."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from forgemon.ending import stat_fields
from forgemon.foreground import has_ended
from forgemon.rank_events import RankEvents, ranks_in, writes_events
from probes.record import OPEN_FLAGS, event_line

PAUSE_S = 0.05


@dataclass(frozen=True)
class Patience:
    """How long the command may take to leave after each request, in seconds."""

    interrupt_s: float = 20.0
    "After SIGINT: it may be in the middle of a long step, and save a checkpoint on its way out."
    terminate_s: float = 10.0
    "After SIGTERM."
    kill_s: float = 5.0
    "After SIGKILL, which no process can ignore; one that waits for a disk or a GPU may still take a moment."


class Stopping:
    """A command that leads its own process group, and the ranks that report in `run`, wherever a launcher put them."""

    def __init__(self, pid: int, run: Path, tell: Callable[[str], None], patience: Patience | None = None) -> None:
        self.pid = pid
        self.run = run
        self._tell = tell
        self._patience = patience or Patience()
        self._ranks: dict[int, RankEvents] = {}

    def stop(self) -> str:
        """The last signal that was needed. A second Ctrl-C meanwhile goes straight to SIGKILL. The command is left unreaped."""
        patience = self._patience
        order = (
            (signal.SIGINT, patience.interrupt_s),
            (signal.SIGTERM, patience.terminate_s),
            (signal.SIGKILL, patience.kill_s),
        )
        for number, wait_s in order:
            if number != signal.SIGINT:
                self._tell(f"not all of it has left; sending {number.name}")
            note_request(self.run, number)
            try:
                self._send(number)
                if self._gone_within(wait_s):
                    return number.name
            except KeyboardInterrupt:
                note_request(self.run, signal.SIGKILL)
                self._send(signal.SIGKILL)
                self._gone_within(patience.kill_s)
                return "SIGKILL"
        self._tell("the command cannot be ended, not even by SIGKILL: it waits inside the kernel")
        return "SIGKILL"

    def over(self) -> bool:
        """Whether the command has ended and none of its ranks runs on without it."""
        return has_ended(self.pid) and next(iter(self._living_ranks()), None) is None

    def _gone_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not (has_ended(self.pid) and not self._left()):
            if time.monotonic() > deadline:
                return False
            time.sleep(PAUSE_S)
        return True

    def _left(self) -> set[int]:
        return {*_members(self.pid), *self._living_ranks()} - {self.pid}

    def _send(self, number: signal.Signals) -> None:
        """To the group, as a terminal does. A launcher passes it on to ranks in groups of their own, unless it is gone."""
        ranks = set(self._living_ranks())
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)
        if number == signal.SIGKILL or has_ended(self.pid):
            for pid in ranks - set(_members(self.pid)):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)

    def _living_ranks(self) -> Iterable[int]:
        """Processes that hold the events of a rank of this run open: no other process is meant by their numbers."""
        for rank in ranks_in(str(self.run)):
            events = self._ranks.setdefault(rank, RankEvents(str(self.run), rank))
            events.read()
            pid = events.placed(self.pid) or events.pid
            if pid is not None and _lives(pid) and writes_events(pid, str(self.run), rank):
                yield pid


def _members(group: int) -> list[int]:
    """The processes of a group that live; a zombie is none."""
    found = []
    for name in os.listdir("/proc"):
        fields = stat_fields(int(name)) if name.isdecimal() else None
        if fields and int(fields[2]) == group and fields[0] not in "ZX":
            found.append(int(name))
    return found


def _lives(pid: int) -> bool:
    fields = stat_fields(pid)
    return fields is not None and fields[0] not in "ZX"


def note_request(run: Path, number: signal.Signals) -> None:
    """Write into the run that its end was asked for, so that nobody takes it for a fault later. One write, as the sidecar's own."""
    line = event_line({"time": time.time(), "kind": "stopping", "by": "forgemon check", "signal": number.name})
    with contextlib.suppress(OSError):  # a full disk: then the end is not explained
        fd = os.open(run / "machine.jsonl", os.O_WRONLY | os.O_APPEND | OPEN_FLAGS, 0o644)
        try:
            os.write(fd, line)
        finally:
            os.close(fd)
