"""memory-growing: the memory of the processes, or of the tensors on a GPU, rises over the whole run and does not level off.

Judged is the lowest reading of each tenth of the run after its start: what comes and goes with every step or epoch is not in it.
A loader that keeps what it has read rises for its first epoch and then levels off; so nothing is said before the training data
were gone through twice, where epochs show.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from forgemon.chunk import Chunk, Rows
from forgemon.detectors.blocks import Floats, slope
from forgemon.detectors.candidate import Candidate, figure
from forgemon.detectors.facts import Facts
from forgemon.findings import Level
from forgemon.symptom import UNKNOWN

GB = 1e9
LEAST_BYTES = 0.5 * GB
"""Growth of less fills no host within a day."""
LEAST_SHARE = 0.25
"""Of the memory at the start of what is judged."""
LEAST_S = 60.0
PARTS = 10
RISING = 8
"""Of the nine moves from part to part that must go up."""
WARM_UP = 0.2
"""Share of the time in which a program builds what it needs."""
STEADY = 0.6
"""The later half must grow by this share of what the earlier half did: a cache that fills up slows down."""
EPOCHS = 2
"""Passes over the training data after which what is kept of them cannot grow any more."""
NEARLY_FULL = 0.9
OUR_PART = 0.2
"""Share of the host's memory that this growth must have taken for a host that fills up to be its doing."""
MOST_KEPT = 600


@dataclass(frozen=True)
class _Growth:
    what: str
    began: float
    ended: float
    before: float
    now: float
    per_hour: float

    @property
    def bytes(self) -> float:
        return self.now - self.before


class _Readings:
    """Of one number, thinned evenly to the lowest of each stretch."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.values: list[float] = []
        self._every = 1
        self._waiting: list[tuple[float, float]] = []

    def feed(self, times: Floats, values: Floats) -> None:
        known = np.isfinite(values)
        for time, value in zip(times[known].tolist(), values[known].tolist(), strict=True):
            self._waiting.append((value, time))
            if len(self._waiting) >= self._every:
                low, at = min(self._waiting)
                self.values.append(low)
                self.times.append(at)
                self._waiting = []
                if len(self.times) >= MOST_KEPT:
                    self._thin()

    def _thin(self) -> None:
        values, times = np.array(self.values).reshape(-1, 2), np.array(self.times).reshape(-1, 2)
        lowest = np.argmin(values, axis=1)
        pick = np.arange(len(values))
        self.values, self.times = values[pick, lowest].tolist(), times[pick, lowest].tolist()
        self._every *= 2


class _StepTimes:
    """When steps ended, thinned evenly: a finding names steps, and the machine's rows have none."""

    def __init__(self) -> None:
        self._times, self._steps = np.zeros(0), np.zeros(0, np.int64)
        self._every = 1
        self._count = 0

    def feed(self, rows: Rows) -> None:
        first = -self._count % self._every
        self._times = np.concatenate([self._times, rows["time"][first :: self._every]])
        self._steps = np.concatenate([self._steps, rows["step"][first :: self._every]])
        self._count += len(rows)
        while len(self._times) >= MOST_KEPT:
            self._times, self._steps, self._every = self._times[::2].copy(), self._steps[::2].copy(), self._every * 2

    def at(self, time: float) -> int:
        if not len(self._times):
            return 0
        return int(self._steps[max(0, int(np.searchsorted(self._times, time, side="right")) - 1)])


class MemoryGrowing:
    """Statistical: watch; alarm where losses are known to be kept, or where the host is nearly full of it."""

    symptoms: ClassVar[tuple[str, ...]] = ("memory-growing",)

    def __init__(self) -> None:
        self._readings: dict[str, _Readings] = {}
        self._epochs: list[float] = []
        self._epoch_count = 0
        self._steps = _StepTimes()
        self._host_share = math.nan
        self._host_total = math.nan
        self._loaded = False
        self._facts = Facts(("loss-graph-retained",))

    def feed(self, chunk: Chunk) -> None:
        self._facts.feed(chunk)
        for event in chunk.events:
            if event["kind"] == "epoch":
                self._epoch_count += 1
                if self._epoch_count <= EPOCHS:
                    self._epochs.append(float(event["time"]))
            self._loaded = self._loaded or event["kind"] == "loader"
        if len(chunk.steps):
            self._steps.feed(chunk.steps)
        if chunk.machine is not None and len(chunk.machine):
            self._feed_machine(chunk.machine)
        if chunk.memory is not None:
            self._feed_columns(chunk.memory, "_allocated_bytes")

    def _feed_machine(self, rows: Rows) -> None:
        self._read("process", rows["time"], rows["process_rss_bytes"])
        self._feed_columns(rows, "_process_bytes")
        used, total = rows["host_used_bytes"], rows["host_total_bytes"]
        known = np.flatnonzero(np.isfinite(used) & (total > 0))
        if len(known):
            self._host_total = float(total[known[-1]])
            self._host_share = float(used[known[-1]]) / self._host_total

    def _feed_columns(self, rows: Rows, ending: str) -> None:
        for name in rows.dtype.names or ():
            if name.endswith(ending):
                self._read(name.removesuffix(ending), rows["time"], rows[name])

    def _read(self, name: str, times: Floats, values: Floats) -> None:
        self._readings.setdefault(name, _Readings()).feed(times, values.astype(np.float64))

    def candidates(self) -> list[Candidate]:
        growths = [_growth(name, seen, self._begins(name)) for name, seen in self._readings.items()]
        found = [growth for growth in growths if growth is not None]
        return [self._candidate(max(found, key=lambda growth: (growth.bytes, growth.what)))] if found else []

    def _begins(self, name: str) -> float:
        """When what is judged of a reading begins at the earliest; inf before the data were gone through often enough."""
        if len(self._epochs) >= EPOCHS:
            return self._epochs[-1]
        may_be_a_cache = self._loaded and name == "process"
        return math.inf if may_be_a_cache else -math.inf

    def _candidate(self, growth: _Growth) -> Candidate:
        kept = any(seen.stands for seen in self._facts.of("loss-graph-retained"))
        fills = growth.what == "process" and self._host_share > NEARLY_FULL and growth.bytes > OUR_PART * self._host_total
        level: Level = "alarm" if kept or fills else "watch"
        of = "of the process and its workers" if growth.what == "process" else f"in use on {growth.what}"
        minutes = (growth.ended - growth.began) / 60
        text = f"The memory {of} rose from {_size(growth.before)} to {_size(growth.now)} in {figure(minutes)} minutes and did not level "
        text += f"off: {_size(growth.per_hour)} an hour."
        text += f" The host's memory is {100 * self._host_share:.0f} % full." if fills else ""
        text += " Old losses are kept with their graphs." if kept else ""
        evidence: dict[str, float | int | str] = {
            "what": growth.what,
            "bytes_before": growth.before,
            "bytes_now": growth.now,
            "bytes_per_hour": growth.per_hour,
            "minutes": minutes,
        }
        if growth.what == "process" and math.isfinite(self._host_share):
            evidence["host_memory_used_share"] = self._host_share
        return Candidate(
            symptom="memory-growing",
            cause="loss-graph-retained" if kept else UNKNOWN,
            level=level,
            first_step=self._steps.at(growth.began),
            last_step=self._steps.at(growth.ended),
            summary=text,
            refute="The same memory after another pass over the data; a buffer or cache that is meant to fill.",
            evidence=evidence,
        )


def _growth(name: str, seen: _Readings, started: float) -> _Growth | None:
    times, values = np.array(seen.times), np.array(seen.values)
    if len(times) < 2:
        return None
    begin = max(started, times[0] + WARM_UP * (times[-1] - times[0]))
    times, values = times[times >= begin], values[times >= begin]
    if len(times) < 2 * PARTS or times[-1] - times[0] < LEAST_S:
        return None
    part = np.minimum((PARTS * (times - times[0]) / (times[-1] - times[0])).astype(np.int64), PARTS - 1)
    low = np.array([values[part == i].min() if (part == i).any() else np.nan for i in range(PARTS)])
    if not np.isfinite(low).all():
        return None
    moves, middle = np.diff(low), PARTS // 2
    grown = float(low[-1] - low[0])
    earlier, later = float(low[middle] - low[0]), float(low[-1] - low[middle])
    steady = later >= STEADY * earlier * (PARTS - 1 - middle) / middle
    if int((moves > 0).sum()) < RISING or not steady or grown < max(LEAST_BYTES, LEAST_SHARE * float(low[0])):
        return None
    hours = (times - times[0]) / 3600
    per_hour = slope(values) * (len(values) - 1) / float(hours[-1])
    return _Growth(name, float(times[0]), float(times[-1]), float(low[0]), float(low[-1]), per_hour)


def _size(count: float) -> str:
    return f"{count / GB:.2f} GB"
