"""Takes the probes out of a process again: asks through the run directory, or else through the main thread."""

from __future__ import annotations

import time
from pathlib import Path

from forgemon.inject import procfs
from forgemon.inject.boot import detach_source
from forgemon.inject.errors import AttachError
from forgemon.inject.folders import acting_as
from forgemon.inject.handshake import is_alive, main_thread_is_in, request_detach
from forgemon.inject.preflight import LIST, no_process, user_name
from forgemon.inject.procfs import OpenRun
from forgemon.inject.python import PythonProcess, find_python
from forgemon.inject.way import choose_way
from probes.record import rank_directory

DEADLINE_S = 10.0
_POLL_S = 0.02


def detach_process(pid: int, deadline_s: float = DEADLINE_S) -> tuple[OpenRun, ...]:
    """Have the probes leave process `pid`; returns once they have, with the runs they recorded. AttachError."""
    try:
        runs = _runs(pid)
        for run in runs:
            _ask(pid, run)
    except (FileNotFoundError, ProcessLookupError):
        raise no_process(pid) from None
    _wait_until_gone(pid, deadline_s)
    return runs


def _runs(pid: int) -> tuple[OpenRun, ...]:
    status = procfs.status(pid)
    try:
        runs = procfs.open_runs(pid)
    except PermissionError:
        owner = f"{user_name(status.uid)} (uid {status.uid})"
        raise AttachError(f"PID {pid} belongs to {owner}. Run forgemon as that user or with sudo") from None
    if not runs:
        raise AttachError(f"PID {pid} is not watched: nothing of forgemon is in it. {LIST}")
    return runs


def _ask(pid: int, run: OpenRun) -> None:
    try:
        if run.deleted:
            raise FileNotFoundError(run.run)
        with acting_as(procfs.status(pid)):
            request_detach(Path(rank_directory(run.run, run.rank)))
    except OSError:  # the disk is full, or somebody removed the folder
        python = find_python(pid, procfs.mappings(pid))
        if isinstance(python, PythonProcess):
            choose_way(python).inject(detach_source())


def _wait_until_gone(pid: int, deadline_s: float) -> None:
    end = time.monotonic() + deadline_s
    while is_alive(pid):
        try:
            if not procfs.open_runs(pid):
                return
        except (FileNotFoundError, ProcessLookupError):
            return
        if time.monotonic() > end:
            place = main_thread_is_in(pid)
            raise AttachError(
                f"the probes have not left PID {pid} in {deadline_s:.0f} s: its main thread is busy"
                f"{f' in {place}' if place else ''}. They leave as soon as it returns to Python; nothing else is to be done"
            )
        time.sleep(_POLL_S)
