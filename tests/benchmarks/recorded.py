"""What the probes wrote while they were measured: how many steps they observed, in how many bytes, and what they say it cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from forgemon.reader import RunReader
from forgemon.telemetry import probe_cost

FLUSH_S = 5.0


@dataclass(frozen=True)
class Written:
    """Between two looks."""

    steps: int
    "Taken."
    observed: int
    "Steps observed in full."
    bytes: int
    "In tables: rows of steps, gradients, metrics."
    event_bytes: int
    own_estimate: float
    "Share of the time that went into the probes, the figure that forgemon shows."
    lost: int
    "Rows lost to a slow disk."


class Recorded:
    """The run directory of the probes in this process; `flush(seconds)` writes what is queued."""

    def __init__(self, directory: Path, flush: Callable[[float], bool]) -> None:
        self._directory = directory
        self._flush = flush
        self._reader: RunReader | None = None
        self._bytes = self._event_bytes = 0

    def since_last(self, steps_taken: int) -> Written:
        """What was written since the last call, or since the beginning, in which the loop took `steps_taken` steps."""
        if not self._flush(FLUSH_S):
            raise RuntimeError("the disk does not take what is recorded")
        if self._reader is None:
            self._reader = RunReader(self._directory)
        steps, lost = [], 0
        while not (chunk := self._reader.read(max_rows=100_000)).empty:
            steps.append(chunk.steps)
            lost += sum(int(event.get("rows", 0)) for event in chunk.events if event["kind"] == "dropped")
        rows = np.concatenate(steps) if steps else np.empty(0, [("gradients", "f4")])
        before, self._bytes = self._bytes, self._size("*.npy")
        events_before, self._event_bytes = self._event_bytes, self._size("events.jsonl")
        estimate = probe_cost(rows) if len(rows) else float("nan")
        observed = int((rows["gradients"] > 0).sum())
        return Written(steps_taken, observed, self._bytes - before, self._event_bytes - events_before, estimate, lost)

    def _size(self, pattern: str) -> int:
        return sum(path.stat().st_size for path in self._directory.rglob(pattern))
