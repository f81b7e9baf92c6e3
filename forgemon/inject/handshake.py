"""What comes back from the target after the injection: the first events of its ranks, or a sign that they will not come."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forgemon.inject import procfs
from forgemon.inject.errors import AttachError, NotYetAttached, gone
from forgemon.rank_events import ranks_in

EXPLAIN_AFTER_S = 2.0
"The main thread is usually back in Python within milliseconds; after this long it is worth asking py-spy what it does."
EXPLAIN_EVERY_S = 5.0
_POLL_S = 0.01


@dataclass(frozen=True)
class Handshake:
    """How the target answered."""

    rank: int
    event: dict[str, Any]
    "The `attached` event."


def wait_for_handshake(run: Path, pid: int, timeout_s: float, tell: Callable[[str], None]) -> Handshake:
    """Wait until the probe in process `pid` says that it is attached; `tell` gets a line whenever what it waits for changes.

    AttachError when it refuses, fails or exits; NotYetAttached when it has not answered in `timeout_s` seconds.
    """
    began = time.monotonic()
    explain_at = began + EXPLAIN_AFTER_S
    waiting = said = "the main thread has not returned to Python"
    while True:
        alive = is_alive(pid)  # looked at first: what it wrote before it ended must not be missed
        for rank in ranks_in(str(run)):
            for event in events_of(run, rank):
                if event.get("kind") == "attached":
                    return Handshake(rank, event)
                if event.get("kind") == "refused":
                    raise AttachError(f"PID {pid} cannot be watched: {event.get('message') or 'it gave no reason'}")
                if event.get("kind") == "waiting":
                    waiting = "PyTorch has not finished loading" if event.get("for") == "torch" else str(event.get("message"))
        _raise_boot_error(run, pid)
        if not alive:
            raise gone(pid)
        now = time.monotonic()
        if now > began + timeout_s:
            raise _not_yet(run, pid, timeout_s, waiting)
        if now > explain_at:
            explain_at = now + EXPLAIN_EVERY_S
            said = _explain(pid, waiting, now - began, said, tell)
        time.sleep(_POLL_S)


def events_of(run: Path, rank: int) -> list[dict[str, Any]]:
    """The first whole events of a rank."""
    try:
        with open(run / f"rank-{rank}" / "events.jsonl", "rb") as file:
            lines = file.read(1 << 20).split(b"\n")[:-1]
    except OSError:
        return []
    events = []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue  # the reader counts broken lines and says so
        if isinstance(event, dict):
            events.append(event)
    return events


def cancel(run: Path, ranks: tuple[int, ...] = (0,)) -> None:
    """Ask a probe that has not come to life to leave again as soon as it does."""
    for rank in {*ranks, *ranks_in(str(run))}:
        folder = run / f"rank-{rank}"
        folder.mkdir(mode=0o755, exist_ok=True)
        request_detach(folder)


def request_detach(rank_folder: Path) -> None:
    """Create the control file of a rank. OSError."""
    os.close(os.open(rank_folder / "detach", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644))


def is_alive(pid: int) -> bool:
    try:
        return procfs.status(pid).state not in "ZX"
    except OSError:
        return False


def main_thread_is_in(pid: int) -> str:
    """What the main thread does, such as `time.sleep (train.py:12)`; empty where that cannot be seen."""
    from forgemon.stalls import stack_of

    threads, _ = stack_of(pid)
    frames = threads[0]["frames"] if threads else []
    if not frames:
        return ""
    top = frames[0]
    return f"{top['function']} ({os.path.basename(str(top['file']))}:{top['line']})"


def _raise_boot_error(run: Path, pid: int) -> None:
    try:
        text = (run / "boot-error.txt").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    lines = text.strip().splitlines()
    if lines:
        raise AttachError(f"the probe failed in PID {pid}, which goes on unwatched: {lines[-1]}. Details: {run}/boot-error.txt")


def _explain(pid: int, waiting: str, waited_s: float, said: str, tell: Callable[[str], None]) -> str:
    text = waiting
    if waiting == "the main thread has not returned to Python":
        place = main_thread_is_in(pid)
        text = f"the main thread has not returned to Python (in {place})" if place else waiting
    if text != said:
        tell(f"Waiting: {text}, {waited_s:.0f} s so far")
    return text


def _not_yet(run: Path, pid: int, timeout_s: float, waiting: str) -> NotYetAttached:
    place = main_thread_is_in(pid)
    return NotYetAttached(
        f"after {timeout_s:.0f} s {waiting} in PID {pid}{f' (in {place})' if place else ''}. "
        f"It is watched as soon as that is over, recorded in {run}; to cancel: touch {run}/rank-0/detach"
    )
