"""Telemetry and diagnosis as of one step of a recording: fed forward when time goes forward, from the start otherwise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from forgemon.chunk import Chunk
from forgemon.diagnosis import Diagnosis
from forgemon.telemetry import Snapshot, Telemetry

if TYPE_CHECKING:
    from forgemon.detectors.candidate import Candidate
    from forgemon.diagnosis import Report
    from forgemon.recording import Recording


WAYPOINT_ROWS = 5_000
"""So many rows apart a copy of the diagnosis is kept. Going back, it is what would take longest to build again."""


@dataclass(frozen=True)
class Waypoint:
    """The diagnosis as of a step."""

    step: int
    time: float
    diagnosis: Diagnosis


class Position:
    """The state at a step of a recording."""

    def __init__(self) -> None:
        self.step: int | None = None
        self._time = -math.inf
        self._telemetry = Telemetry()
        self._diagnosis = Diagnosis()
        self._waypoints: list[Waypoint] = []

    def feed(self, chunk: Chunk) -> None:
        """What is new at the end of the recording, for the position that follows it."""
        self._telemetry.feed(chunk)
        self._diagnosis.feed(chunk)

    def move(self, recording: Recording, step: int) -> None:
        """Stand at `step`."""
        if self.step is not None and step < self.step:
            self._telemetry = Telemetry()
            self._go_back(step)
            self._telemetry.feed(recording.between(None, step))
        else:
            self._telemetry.feed(recording.between(self.step, step))
        self._diagnose(recording, step)

    def _go_back(self, step: int) -> None:
        """The diagnosis as of the last waypoint at or before `step`."""
        passed = [w for w in self._waypoints if w.step <= step]
        if passed:
            self.step, self._time, self._diagnosis = passed[-1].step, passed[-1].time, deepcopy(passed[-1].diagnosis)
        else:
            self.step, self._time, self._diagnosis = None, -math.inf, Diagnosis()

    def _diagnose(self, recording: Recording, step: int) -> None:
        """Feed the diagnosis up to `step`, keeping waypoints on the way."""
        numbers = recording.step_numbers
        first = 0 if self.step is None else int(np.searchsorted(numbers, self.step, side="right"))
        last = int(np.searchsorted(numbers, step, side="right"))
        for row in range((first // WAYPOINT_ROWS + 1) * WAYPOINT_ROWS, last, WAYPOINT_ROWS):
            self._feed_to(recording, int(numbers[row]))
            if not self._waypoints or self._waypoints[-1].step < int(numbers[row]):
                self._waypoints.append(Waypoint(int(numbers[row]), self._time, deepcopy(self._diagnosis)))
        self._feed_to(recording, step)

    def _feed_to(self, recording: Recording, step: int) -> None:
        if self.step is None or step > self.step:
            chunk = recording.between(self.step, step)
            if len(chunk.steps):
                self._time = max(self._time, float(chunk.steps["time"].max()))
            self._diagnosis.feed(chunk)
            self.step = step

    def heed(self, chunk: Chunk) -> None:
        """Forget what was built without what `chunk` brings of the past: files of a run do not grow in step."""
        step, time = reach(chunk)
        self._waypoints = [w for w in self._waypoints if w.step < step and w.time < time]
        if self.step is not None and (self.step >= step or self._time >= time):
            self.step, self._time = None, -math.inf
            self._telemetry, self._diagnosis = Telemetry(), Diagnosis()

    def snapshot(self, info: Mapping[str, Any], problems: tuple[str, ...]) -> Snapshot:
        return self._telemetry.snapshot(info, problems)

    def report(self, of_ranks: Iterable[Candidate] = ()) -> Report:
        """`of_ranks`: what comparing the ranks has shown."""
        return self._diagnosis.report(of_ranks)


def reach(chunk: Chunk) -> tuple[float, float]:
    """The first step, and the first time of the machine's own rows and events, that the chunk tells of; inf for none."""
    rows = [chunk.steps, *(g.rows for g in chunk.gradients), *(u.rows for u in chunk.updates), *chunk.metrics.values()]
    steps = [float(r["step"].min()) for r in rows if len(r)] + [float(e["step"]) for e in chunk.events]
    times = [float(e["time"]) for e in chunk.machine_events]
    if chunk.machine is not None and len(chunk.machine):
        times.append(float(chunk.machine["time"].min()))
    return min(steps, default=math.inf), min(times, default=math.inf)
