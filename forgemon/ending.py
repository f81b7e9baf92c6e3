"""How a process that is not our child ended: exit code or signal from the kernel, and what the run's events say of it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

GET_INFO = 0xC040FF0B  # PIDFD_GET_INFO = _IOWR(0xFF, 11, struct pidfd_info) of linux/pidfd.h, 64 bytes, since Linux 6.13
INFO_EXIT = 1 << 3  # PIDFD_INFO_EXIT, since Linux 6.15: the wait status, from the moment somebody reaps the process
REAP_WAIT_S = 1.0
"How long to wait for the parent to reap a process whose exit status only the reaped process gives away."


@dataclass(frozen=True)
class Exit:
    """A wait status: exactly one of the two is set."""

    code: int | None
    signal: int | None


def exit_of_status(status: int) -> Exit:
    number = status & 0x7F
    return Exit(code=None, signal=number) if number else Exit(code=(status >> 8) & 0xFF, signal=None)


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on (field 3 of proc(5) is index 0); None when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot: with the pid this names one process for good."""
    fields = stat_fields(pid)
    return int(fields[19]) if fields else None


def process_state(pid: int) -> str:
    """R, S, D, T (stopped), t (traced), Z (zombie) or an empty string."""
    fields = stat_fields(pid)
    return fields[0] if fields else ""


def open_pidfd(pid: int) -> int:
    """-1 where there is no such process, before Linux 5.3, and in a sandbox that forbids it: then /proc alone is asked."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return -1


class WatchedProcess:
    """One process, told apart by its start time from any later one with the same pid. Never signals or traces it."""

    def __init__(self, pid: int, started: int | None = None, pidfd: int = -1) -> None:
        """`started` in clock ticks, and `pidfd`, when the caller knew the process before it may have ended."""
        self.pid = pid
        self.ended_at: float | None = None
        "Unix time at which the end was noticed."
        self._exit: Exit | None = None
        self._asked = False
        self.pidfd = open_pidfd(pid) if pidfd < 0 else pidfd
        ticks = start_ticks(pid)
        self.started = ticks if started is None else started
        # Without a known start time the descriptor says which process is meant, also when that has just died.
        held = started is None and self.pidfd >= 0
        if pidfd < 0 and not held and (ticks is None or ticks != self.started):
            self.close()  # it may be another process by now
            self.ended_at = time.time()

    def alive(self) -> bool:
        """False from the moment all its threads are gone, reaped or not."""
        if self.ended_at is None and self._over():
            self.ended_at = time.time()
        return self.ended_at is None

    def _over(self) -> bool:
        if self.pidfd >= 0:
            poll = select.poll()
            poll.register(self.pidfd, select.POLLIN)
            return bool(poll.poll(0))
        fields = stat_fields(self.pid)
        return fields is None or int(fields[19]) != self.started or fields[0] in "ZX"

    def exit(self) -> Exit | None:
        """How it ended; None while it lives, and where the kernel does not tell. May wait a second for its parent."""
        if not self._asked and not self.alive():
            self._asked = True
            deadline = time.monotonic() + REAP_WAIT_S
            while True:
                self._exit = self._zombie_status() or self._reaped_status()
                if self._exit or not self._is_zombie() or time.monotonic() > deadline:
                    break
                time.sleep(0.02)
            if self._exit is None:  # reaped between the two questions
                self._exit = self._reaped_status()
        return self._exit

    def _reaped_status(self) -> Exit | None:
        if self.pidfd < 0:
            return None
        import fcntl

        info = bytearray(64)
        struct.pack_into("=Q", info, 0, INFO_EXIT)
        try:
            fcntl.ioctl(self.pidfd, GET_INFO, info, True)
        except OSError:  # not reaped yet, or an older kernel
            return None
        mask = struct.unpack_from("=Q", info, 0)[0]
        return exit_of_status(struct.unpack_from("=i", info, 60)[0]) if mask & INFO_EXIT else None

    def _is_zombie(self) -> bool:
        fields = stat_fields(self.pid)
        return fields is not None and int(fields[19]) == self.started and fields[0] == "Z"

    def _zombie_status(self) -> Exit | None:
        """The exit status in /proc/PID/stat; the kernel shows 0 instead to those who may not trace the process."""
        fields = stat_fields(self.pid)
        if fields is None or int(fields[19]) != self.started or fields[0] != "Z" or len(fields) < 50:
            return None
        try:
            readable = os.geteuid() in (0, os.stat(f"/proc/{self.pid}").st_uid)
        except OSError:
            return None
        return exit_of_status(int(fields[49])) if readable else None

    def close(self) -> None:
        if self.pidfd >= 0:
            with contextlib.suppress(OSError):
                os.close(self.pidfd)
            self.pidfd = -1


@dataclass(frozen=True)
class Death:
    """What is known of one watched process at the end of the run."""

    label: str
    "`` for the process the sidecar was started for, `rank 1 (pid 123)` for another one."
    time: float
    exit: Exit | None
    exception: tuple[float, str] | None
    "Unix time and last line of the exception that ended the program, by its own account."
    exiting: bool
    "The interpreter said that it shuts down in order."


def describe_end(main: Death, others: Sequence[Death]) -> dict[str, Any]:
    """The fields of the `ended` event. Of several processes the one that went wrong first is the cause."""
    code = main.exit.code if main.exit else None
    number = main.exit.signal if main.exit else None
    ended: dict[str, Any] = {"exit_code": code, "signal": signal_name(number) if number else None}
    blamed = [] if code == 0 and main.exception is None else sorted(_faults([main, *others]), key=lambda fault: fault[0])
    if blamed:
        _, how, name, message = blamed[0]
        return {"how": how, **ended, "signal": name or ended["signal"], "message": message}
    if code:
        return {"how": "exited", **ended, "message": f"left with exit code {code}"}
    if code == 0 or main.exiting:
        return {"how": "finished", **ended, "message": ""}
    return {
        "how": "gone",
        **ended,
        "message": "gone without a word, and the kernel did not say how: most likely killed (out of memory?)",
    }


def _faults(deaths: Sequence[Death]) -> list[tuple[float, str, str | None, str]]:
    """(time, how, signal name, message) of every exception and every death by signal."""
    faults: list[tuple[float, str, str | None, str]] = []
    for death in deaths:
        prefix = f"{death.label}: " if death.label else ""
        if death.exception:
            faults.append((death.exception[0], "exception", None, prefix + death.exception[1]))
        if death.exit and death.exit.signal:
            name = signal_name(death.exit.signal)
            faults.append((death.time, "killed", name, f"{prefix}killed by {name}"))
    return faults
