"""A run directory written by hand and a process to watch, for tests of the sidecar."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from forgemon import sidecar
from forgemon.ending import WatchedProcess
from probes.record import STEP_COLUMNS
from probes.table import Table
from tests.waiting import wait_for

QUICK = ("--stall-after", "0.4", "--first-step-after", "0.4")


class Scene:
    """Starts processes and sidecars, and ends them all."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.rank = run / "rank-0"
        self.rank.mkdir(parents=True)
        self.steps: Table | None = None
        self._processes: list[subprocess.Popen[bytes]] = []
        self._sidecars: list[int] = []

    def python(self, code: str) -> subprocess.Popen[bytes]:
        """A Python process that has reached the end of its imports; its stdin is a pipe that nobody writes to."""
        process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._processes.append(process)
        return process

    def waiting_python(self, then: str = "") -> subprocess.Popen[bytes]:
        """One that says `ready` and does `then` once its stdin is closed."""
        process = self.python(f"import os, sys, time\nprint('ready', flush=True)\nsys.stdin.read()\n{then}\n")
        assert process.stdout and process.stdout.readline() == b"ready\n"
        return process

    def start_sidecar(self, pid: int, *options: str) -> int:
        started = sidecar.start(self.run, pid, options)
        self._sidecars.append(started)
        return started

    def watch(self, pid: int, *options: str) -> int:
        """A sidecar that has begun to watch."""
        count = len(self.events("started"))
        started = self.start_sidecar(pid, *options)
        wait_for(lambda: len(self.events("started")) > count, "the sidecar to start")
        return started

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        try:
            lines = (self.run / "machine.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [event for event in map(json.loads, lines) if kind in (None, event["kind"])]

    def wait_for_event(self, kind: str) -> dict[str, Any]:
        return wait_for(lambda: self.events(kind), f"the event {kind}")[-1]

    def probe_says(self, kind: str, rank: int = 0, **fields: Any) -> None:
        with open(self.run / f"rank-{rank}" / "events.jsonl", "a") as file:
            file.write(json.dumps({"time": time.time(), "step": 1, "kind": kind, **fields}) + "\n")

    def probe_steps(self, *ages_s: float) -> None:
        """Rows that ended so many seconds ago."""
        if self.steps is None:
            self.steps = Table(str(self.rank / "steps.npy"), STEP_COLUMNS)
        self.steps.append([step_row(time.time() - age) for age in ages_s])

    def close(self) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()
        for pid in self._sidecars:
            wait_for(lambda pid=pid: is_gone(pid), "the sidecar to leave")  # type: ignore[misc]
        if self.steps is not None:
            self.steps.close()


def step_row(when: float) -> Sequence[float]:
    return [when if column[0] == "time" else 0 for column in STEP_COLUMNS]


def let_go(process: subprocess.Popen[bytes]) -> None:
    """Let a waiting process go on to its end. It stays a zombie, which every kernel lets its user ask how it ended."""
    assert process.stdin
    process.stdin.close()


def kernel_tells_after_reaping() -> bool:
    """Since Linux 6.15 who holds a pidfd learns the exit status of a process that its parent has reaped."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    watched = WatchedProcess(process.pid)
    process.communicate(b"\n")
    return watched.exit() is not None


def is_gone(pid: int) -> bool:
    """Also true of a zombie: whoever inherits orphans here may never reap them."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def open_files(pid: int) -> set[str]:
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found
