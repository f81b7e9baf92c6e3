"""input-bound: most of a step is spent waiting for the loader."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from forgemon.chunk import Chunk, Event, Rows
from forgemon.detectors.candidate import Candidate, figure
from forgemon.journal import flag, text, whole
from forgemon.symptom import UNKNOWN

ROWS = 25
RECENT = 8
"""Blocks looked at."""
MOSTLY = 6
"""Of them that must have waited for more than SHARE of their time."""
SHARE = 0.5
LEAST_WAIT_S = 0.002
"""Of a step: below this the loader's own bookkeeping is what shows, and the model is a toy."""
LEAST_LOST_S = 20.0
"""Waited for in all: less is no time worth an evening of a person's work."""
BUSY_PERCENT = 90.0
MOST_LOADERS = 64


@dataclass(frozen=True)
class _Block:
    first_step: int
    last_step: int
    data_s: float
    "Mean of a step."
    step_s: float

    @property
    def waits(self) -> bool:
        return self.data_s > SHARE * self.step_s and self.data_s > LEAST_WAIT_S


class InputBound:
    """Statistical: watch. The first block is left out, in which workers start."""

    symptoms: ClassVar[tuple[str, ...]] = ("input-bound",)

    def __init__(self) -> None:
        self._pending: Rows | None = None
        self._blocks: list[_Block] = []
        self._seen_any = False
        self._since_step: int | None = None
        self._lost_s = 0.0
        self._last_step: int | None = None
        self._found: tuple[int, int, float, float, float] | None = None
        "First and last step, waiting and length of a step, and seconds lost."
        self._loaders: dict[int, Event] = {}
        self._host_busy: list[float] = []
        self._every = 1
        self._machine_rows = 0

    def feed(self, chunk: Chunk) -> None:
        for event in chunk.events:
            if event["kind"] == "loader" and len(self._loaders) < MOST_LOADERS:
                self._loaders[whole(event, "index") or 0] = event
        if chunk.machine is not None:
            self._feed_machine(chunk.machine)
        steps = chunk.steps
        rows = steps[np.isfinite(steps["data_s"]) & np.isfinite(steps["step_s"]) & (steps["step_s"] > 0)]
        rows = rows if self._pending is None else np.concatenate([self._pending, rows])
        count = len(rows) // ROWS
        self._pending = rows[count * ROWS :].copy()
        for block in _blocks(rows[: count * ROWS], count):
            self._add(block)

    def _feed_machine(self, rows: Rows) -> None:
        for busy in rows["host_cpu_percent"].tolist():
            if self._machine_rows % self._every == 0 and math.isfinite(busy):
                self._host_busy.append(busy)
                if len(self._host_busy) >= 512:
                    self._host_busy, self._every = self._host_busy[::2], self._every * 2
            self._machine_rows += 1

    def _add(self, block: _Block) -> None:
        if not self._seen_any:
            self._seen_any = True
            self._last_step = block.last_step
            return
        # A block stands for the steps without a row before it, too.
        steps = block.last_step - (self._last_step if self._last_step is not None else block.first_step - 1)
        self._last_step = block.last_step
        self._blocks = [*self._blocks, block][-RECENT:]
        if not block.waits and sum(b.waits for b in self._blocks) < MOSTLY:
            self._lost_s = 0.0
        if block.waits:
            self._lost_s += steps * block.data_s
        if len(self._blocks) == RECENT and sum(b.waits for b in self._blocks) >= MOSTLY and self._lost_s >= LEAST_LOST_S:
            waits = [b for b in self._blocks if b.waits]
            first = self._found[0] if self._found is not None else waits[0].first_step
            wait, length = (float(np.median([getattr(b, name) for b in waits])) for name in ("data_s", "step_s"))
            self._found = (first, waits[-1].last_step, wait, length, self._lost_s)

    def candidates(self) -> list[Candidate]:
        if self._found is None:
            return []
        first, last, wait, length, lost = self._found
        stands = sum(block.waits for block in self._blocks) >= MOSTLY
        until = "" if stands else f" It stood until step {last}."
        return [
            Candidate(
                symptom="input-bound",
                cause=UNKNOWN,
                level="watch" if stands else "info",
                first_step=first,
                last_step=last,
                summary=f"Of a step of {figure(1000 * length)} ms, {figure(1000 * wait)} ms are spent waiting for the loader, in "
                f"{MOSTLY} of the newest {RECENT} blocks of {ROWS} steps and more: {figure(lost)} s so far. {self._advice()}{until}",
                refute="The same loop with one batch used again and again: if it is no faster, the loader is not what it waits for.",
                evidence={
                    "data_s": wait,
                    "step_s": length,
                    "share": wait / length,
                    "lost_s": lost,
                    **self._evidence(),
                },
                stands=stands,
            )
        ]

    def _training_loader(self) -> Event | None:
        training = [event for event in self._loaders.values() if text(event, "role") == "training"]
        return training[-1] if training else None

    def _evidence(self) -> dict[str, float | int | str]:
        loader = self._training_loader()
        found: dict[str, float | int | str] = {}
        workers = None if loader is None else whole(loader, "workers")
        if workers is not None:
            found["workers"] = workers
        if self._host_busy:
            found["host_cpu_percent"] = float(np.median(self._host_busy))
        return found

    def _advice(self) -> str:
        loader = self._training_loader()
        workers = None if loader is None else whole(loader, "workers")
        if self._host_busy and float(np.median(self._host_busy)) > BUSY_PERCENT:
            return "The host's processors are busy already, so make the transforms cheaper or prepare the data beforehand."
        if loader is None or workers is None:
            return "Load the next batch while this one is trained."
        if workers == 0:
            return "The loader has no workers: num_workers=2 or more loads the next batches meanwhile."
        if flag(loader, "persistent_workers") is False:
            return f"Its {workers} workers do not keep up: use more, cheaper transforms, and persistent_workers=True if epochs are short."
        return f"Its {workers} workers do not keep up: use more of them, or cheaper transforms."


def _blocks(rows: Rows, count: int) -> list[_Block]:
    if not count:
        return []
    steps = rows["step"].reshape(count, ROWS)
    data, length = (rows[name].astype(np.float64).reshape(count, ROWS).mean(axis=1) for name in ("data_s", "step_s"))
    columns = (steps[:, 0], steps[:, -1], data, length)
    return [_Block(*values) for values in zip(*(c.tolist() for c in columns), strict=True)]
