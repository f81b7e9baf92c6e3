"""Notices that a run stands still, and asks py-spy where: rows that stop coming while the process lives."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from forgemon.ending import process_state
from probes import record
from probes.record import STEP_COLUMNS

GAP_ROWS = 1000
"Rows whose distances say what is usual."
PROBES = os.path.dirname(os.path.abspath(record.__file__))
STACK_S = 8.0
"Seconds after which py-spy is given up."


@dataclass(frozen=True)
class StallLimits:
    """When silence is a stall, in seconds."""

    shortest_s: float = 10.0
    usual_factor: float = 10.0
    "Times the usual distance between two rows."
    first_step_s: float = 60.0
    "Before the first row there is nothing usual: imports, data sets and compilation take their time."


class StallClock:
    """Says `stalled` once when the signs of life stop for too long, and `resumed` once when they come again."""

    def __init__(self, limits: StallLimits, now: float) -> None:
        self.limits = limits
        self.stalled = False
        self.alive_at = now
        "Clock reading at the last sign of life."
        self.silent_s = 0.0
        "How long the silence before the newest sign of life was."
        self.usual_s: float | None = None
        self._seen: list[int] = []

    def update(self, now: float, signs: Sequence[int], steps: Sequence[str]) -> Literal["stalled", "resumed"] | None:
        """`signs`: numbers that change with every sign of life. `steps`: the paths of steps.npy of all ranks."""
        if list(signs) != list(self._seen):
            self._seen = list(signs)
            self.silent_s = now - self.alive_at
            self.alive_at = now
            resumed, self.stalled = self.stalled, False
            return "resumed" if resumed else None
        idle = now - self.alive_at
        if self.stalled or idle < min(self.limits.shortest_s, self.limits.first_step_s) or not signs:
            return None
        self.usual_s = usual_gap_s(steps)
        limit = self.limits.first_step_s
        if self.usual_s is not None:
            limit = max(self.limits.shortest_s, self.limits.usual_factor * self.usual_s)
        self.stalled = idle >= limit
        return "stalled" if self.stalled else None


def usual_gap_s(steps: Sequence[str]) -> float | None:
    """99th percentile of the seconds between recent rows, the largest over the ranks; None before there are two rows."""
    usual = [_percentile_99(gaps) for path in steps if (gaps := recent_gaps_s(path))]
    return max(usual) if usual else None


def _percentile_99(values: Sequence[float]) -> float:
    return sorted(values)[-(len(values) // 100 + 1)]


def recent_gaps_s(path: str) -> list[float]:
    """Seconds between the newest rows of a steps.npy; empty when it cannot be read."""
    row = sum(int(column[1][1:]) for column in STEP_COLUMNS)
    time_at = sum(int(column[1][1:]) for column in STEP_COLUMNS[: [c[0] for c in STEP_COLUMNS].index("time")])
    try:
        with open(path, "rb") as file:
            head = file.read(10)
            start = 10 + struct.unpack_from("<H", head, 8)[0]
            rows = max(0, os.fstat(file.fileno()).st_size - start) // row
            first = max(0, rows - GAP_ROWS - 1)
            file.seek(start + first * row)
            data = file.read((rows - first) * row)
    except (OSError, struct.error):
        return []
    times = [struct.unpack_from("<d", data, i * row + time_at)[0] for i in range(len(data) // row)]
    gaps = (after - before for before, after in itertools.pairwise(times))
    return [gap for gap in gaps if 0 < gap < math.inf]


def py_spy_path() -> str | None:
    beside = os.path.join(os.path.dirname(sys.executable), "py-spy")
    return beside if os.access(beside, os.X_OK) else shutil.which("py-spy")


def stack_of(pid: int) -> tuple[list[dict[str, Any]], str]:
    """Every Python thread of the process, the main thread first, and a message where there is nothing to see.

    Reads the memory of the process without stopping it; needs the rights of a debugger.
    """
    import subprocess

    program = py_spy_path()
    if program is None:
        return [], "no stack: py-spy is not installed (pip install py-spy)"
    command = [program, "dump", "--nonblocking", "--json", "--full-filenames", "--pid", str(pid)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=STACK_S,
            env={**os.environ, "RUST_BACKTRACE": "0"},
            check=False,
        )
        threads = json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return [], f"no stack: {type(error).__name__} from py-spy"
    if not isinstance(threads, list):
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return [], "no stack: py-spy said " + (said[0][:200] if said else f"nothing and left with {done.returncode}")
    return _threads(threads, pid), ""


def _threads(threads: list[dict[str, Any]], pid: int) -> list[dict[str, Any]]:
    def is_main(thread: dict[str, Any]) -> bool:
        return thread.get("os_thread_id") == pid or thread.get("thread_name") == "MainThread"

    def is_probe(thread: dict[str, Any]) -> bool:
        files = [str(frame.get("filename")) for frame in thread.get("frames") or []]
        return bool(files) and all(os.path.dirname(file) == PROBES for file in files)

    ordered = sorted((thread for thread in threads if not is_probe(thread)), key=lambda thread: not is_main(thread))
    return [
        {
            "thread": thread.get("thread_name") or str(thread.get("os_thread_id") or thread.get("thread_id")),
            "frames": [
                {"function": frame.get("name"), "file": frame.get("filename"), "line": frame.get("line")}
                for frame in (thread.get("frames") or [])[:64]
            ],
        }
        for thread in ordered[:32]
    ]


def state_message(pid: int) -> str:
    """Why a process in such a state cannot go on; empty for the ordinary ones."""
    return {
        "T": f"the process is stopped; kill -CONT {pid} lets it go on",
        "t": "the process is held by a debugger",
        "Z": "the main thread has ended, other threads of the process have not",
        "D": "the process waits for a disk or a device and cannot be interrupted",
    }.get(process_state(pid), "")
