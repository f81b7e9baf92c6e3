"""A demo loop as a process of its own: started, waited for until it trains, and gone when its watcher leaves."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from forgemon.errors import UserError
from forgemon.foreground import await_note, has_ended
from forgemon.launch import own_environment
from forgemon.places import runs_directory

START_S = 120.0
"Importing torch from a cold disk takes a while."
END_S = 5.0
"How long a demo that is told to end may take before it is killed."
_POLL_S = 0.05


@contextlib.contextmanager
def started(script: Path, arguments: Sequence[str]) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The demo, once it trains, and the file its output goes to. It does not outlive the block."""
    folder = runs_directory()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Beside the runs, so that it can be renamed into the run's directory while the demo writes to it.
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=f".{script.stem}-", suffix=".log")
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror or error}. Name another folder in the environment variable FORGEMON_RUNS"
        ) from error
    log = Path(name)
    # A session of its own: it must not read keys meant for the dashboard, nor end by the Ctrl-C that leaves it.
    with open(descriptor, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(script), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=own_environment(),
            start_new_session=True,
        )
    try:
        wait_until_it_trains(process.pid, script, log)
        yield process, log
    finally:
        terminate(process)
        log.unlink(missing_ok=True)  # still there only where it has not become the run's


def wait_until_it_trains(pid: int, script: Path, log: Path) -> None:
    """Until the demo has printed its first loss."""
    deadline = time.monotonic() + START_S
    while b" loss " not in log.read_bytes():
        if has_ended(pid):
            lines = log.read_text(errors="replace").splitlines()
            raise UserError(f"the demo {script.stem} ended before it trained: {lines[-1] if lines else 'it printed nothing'}")
        if time.monotonic() > deadline:
            raise UserError(
                f"the demo {script.stem} did not begin to train within {START_S:.0f} s; try it alone: python {script}"
            )
        time.sleep(_POLL_S)


def wait_for_end(pid: int) -> None:
    while not has_ended(pid):
        time.sleep(_POLL_S)


def end(process: subprocess.Popen[bytes], run: Path) -> int | None:
    """The exit code of a demo that had ended by itself, None for one that is ended now. The sidecar gets to see which."""
    finished = has_ended(process.pid)
    if not finished:
        ask_to_end(process.pid)
    await_note(run / "machine.jsonl")
    return process.wait() if finished else None


def ask_to_end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + END_S
    while not has_ended(pid) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def terminate(process: subprocess.Popen[bytes]) -> None:
    """However we leave, the demo is gone afterwards."""
    if process.poll() is None:
        ask_to_end(process.pid)
        process.kill()
    process.wait()
