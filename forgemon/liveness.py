"""Whether the process of a run still lives, and how a run ended that nobody saw end."""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from forgemon.chunk import Event
from forgemon.journal import number, text, whole

SILENCE_S = 10.0
"""A vanished process whose files stand still for this long leaves no more news, not even from its sidecar."""
FOREIGN_SILENCE_S = 600.0
"""The same for a run of another host, whose processes cannot be looked at."""
START_TOLERANCE_S = 3.0


def process_lives(pid: int, started: float) -> bool | None:
    """Whether process `pid` is still the one that began at `started` (NaN: any). None where it cannot be told."""
    if pid <= 0:
        return None
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return math.isnan(started) or abs(process.create_time() - started) < START_TOLERANCE_S
    except (psutil.NoSuchProcess, ProcessLookupError, OverflowError):
        return False
    except (psutil.Error, OSError):
        return None


def newest_write(run: Path, rank: int = 0) -> float:
    """Unix time of the last write to the files every live run writes to; 0 when there are none."""
    names = ("run.json", "machine.npy", "machine.jsonl", f"rank-{rank}/steps.npy", f"rank-{rank}/events.jsonl")
    newest = 0.0
    for name in names:
        try:
            newest = max(newest, os.stat(run / name).st_mtime)
        except OSError:
            continue
    return newest


def run_lives(info: Mapping[str, Any], run: Path, rank: int = 0) -> bool:
    """Whether a run without news of its end still goes on: its process lives here, or its files still change."""
    silent_s = time.time() - newest_write(run, rank)
    if text(info, "host") == socket.gethostname():
        lives = process_lives(whole(info, "pid") or 0, number(info, "process_started"))
        if lives is not None:
            # A process id of another container means nothing here, but files that change are written by someone.
            return lives or silent_s < SILENCE_S
    return silent_s < FOREIGN_SILENCE_S


def gone_event(info: Mapping[str, Any], run: Path, rank: int, newest: float) -> Event | None:
    """The `ended` event a run lacks whose process vanished without a word, host and all; None while it may still go on.

    `newest`: time of the newest row or event, which the clock of the file system need not agree with.

    Its field `seen_by` is `reader`: news of the process itself or of its sidecar outrank it.
    """
    written = newest_write(run, rank)
    if not info or not written or run_lives(info, run, rank):
        return None
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(written))
    if text(info, "host") == socket.gethostname():
        message = f"process {whole(info, 'pid')} is gone and left no word; last write {when}"
    else:
        message = f"nothing was written since {when} on {text(info, 'host') or 'its host'}"
    ended = {
        "kind": "ended",
        "time": max(written, newest),
        "how": "gone",
        "exit_code": None,
        "signal": None,
        "message": message,
    }
    return {**ended, "seen_by": "reader"}
