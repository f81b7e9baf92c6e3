"""Telemetry and diagnosis as of one step of a recording: fed forward when time goes forward, from the start otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from forgemon.chunk import Chunk
from forgemon.diagnosis import Diagnosis
from forgemon.telemetry import Snapshot, Telemetry

if TYPE_CHECKING:
    from forgemon.diagnosis import Report
    from forgemon.recording import Recording


class Position:
    """The state at a step. `stale` says that rows of its past have arrived since it was built."""

    def __init__(self) -> None:
        self.step: int | None = None
        self._time = float("-inf")
        self._telemetry = Telemetry()
        self._diagnosis = Diagnosis()

    def feed(self, chunk: Chunk) -> None:
        self._telemetry.feed(chunk)
        self._diagnosis.feed(chunk)

    def move(self, recording: Recording, step: int) -> None:
        """Stand at `step`."""
        if self.step is not None and step < self.step:
            self.reset()
        if step != self.step:
            self.feed(recording.between(self.step, step))
            self.step = step

    def reset(self) -> None:
        self.step = None
        self._telemetry = Telemetry()
        self._diagnosis = Diagnosis()

    def missed(self, chunk: Chunk, time: float) -> None:
        """Start anew if `chunk` brings something of the past of this position, whose newest time is `time`."""
        if self.step is not None and reaches_back(chunk, self.step, time):
            self.reset()

    def snapshot(self, info: Mapping[str, Any], problems: tuple[str, ...]) -> Snapshot:
        return self._telemetry.snapshot(info, problems)

    def report(self) -> Report:
        return self._diagnosis.report()


def reaches_back(chunk: Chunk, step: int, time: float) -> bool:
    """Whether any row or event of the chunk belongs at or before `step`, or for the machine's own, before `time`."""
    rows = [chunk.steps, *(g.rows for g in chunk.gradients), *chunk.metrics.values()]
    return (
        any(len(r) and int(r["step"][0]) <= step for r in rows)
        or any(e["step"] <= step for e in chunk.events)
        or any(e["time"] <= time for e in chunk.machine_events)
        or (chunk.machine is not None and len(chunk.machine) > 0 and float(chunk.machine["time"][0]) <= time)
    )
