"""Everything read of a run, kept in memory, to be handed out again from any step to any other: what replay feeds from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from forgemon.chunk import Chunk, Event, Gradients, ParameterTable, Rows, Updates
from forgemon.growing import GrowingRows, ThinnedRows
from probes.record import STEP_COLUMNS

GRADIENT_BYTES = 256 << 20
"""Gradient rows kept of the newest table; beyond, every second is let go, evenly over the run. Each older table keeps half as
much as the next, so that all together stay within twice this bound."""
UPDATE_BYTES = 64 << 20
"""The same for rows of weight and update norms, of which there are fewer."""

STEP_ROW = np.dtype([(c[0], "<" + c[1]) for c in STEP_COLUMNS])


class _Series:
    """Rows with a clock that never runs backwards: the step or time reached when each row was written."""

    def __init__(self, rows: Rows, key: str) -> None:
        self._rows = GrowingRows(rows.dtype)
        self._clock = GrowingRows(rows.dtype[key])
        self._key = key

    def extend(self, rows: Rows) -> None:
        if not len(rows):
            return
        clock = np.maximum.accumulate(rows[self._key])
        if len(self._clock):
            clock = np.maximum(clock, self.clock[-1])
        self._rows.extend(rows)
        self._clock.extend(clock)

    @property
    def clock(self) -> npt.NDArray[np.generic]:
        return self._clock.view()

    @property
    def rows(self) -> Rows:
        return self._rows.view()

    def between(self, after: float | None, to: float | None) -> Rows:
        return self.rows[_slice(self.clock, after, to)]


class _Events:
    """Events in the order they were written, found by their step or time."""

    def __init__(self, key: str) -> None:
        self._events: list[Event] = []
        self._keys = GrowingRows(np.float64)
        self._key = key

    def extend(self, events: Sequence[Event]) -> None:
        self._events.extend(events)
        self._keys.extend(np.array([float(e[self._key]) for e in events], np.float64))

    def between(self, after: float | None, to: float | None) -> tuple[Event, ...]:
        keys = self._keys.view()
        inside = np.ones(len(keys), np.bool_)
        if after is not None:
            inside &= keys > after
        if to is not None:
            inside &= keys <= to
        return tuple(self._events[i] for i in np.flatnonzero(inside))


class _Tables:
    """Rows of the tables of parameters, by their numbers, in bounded memory."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._tables: dict[int, tuple[ParameterTable, ThinnedRows]] = {}

    def extend(self, table: ParameterTable, rows: Rows) -> None:
        if table.table not in self._tables:
            for _, older in self._tables.values():
                older.lower_limit(older.limit // 2)
            self._tables[table.table] = (table, ThinnedRows(rows.dtype, self._most_bytes // rows.dtype.itemsize))
        self._tables[table.table][1].extend(rows)

    def between(self, after: int | None, to: int | None) -> list[tuple[ParameterTable, Rows]]:
        found = [(table, kept.view()) for table, kept in self._tables.values()]
        cut = [(table, rows[_slice(rows["step"], after, to)]) for table, rows in found]
        return [(table, rows) for table, rows in cut if len(rows)]


class Recording:
    """Feed it every chunk of a run; ask it for any stretch of steps.

    Consecutive stretches share nothing and leave out nothing: feeding `between(None, a)`, `between(a, b)`, `between(b, None)`
    feeds the whole run. Machine rows and events belong to the stretch in which their time falls.
    """

    def __init__(self) -> None:
        self._steps = _Series(np.empty(0, STEP_ROW), "step")
        self._times = GrowingRows(np.float64)
        self._gradients = _Tables(GRADIENT_BYTES)
        self._updates = _Tables(UPDATE_BYTES)
        self._metrics: dict[str, _Series] = {}
        self._events = _Events("step")
        self._machine: _Series | None = None
        self._memory: _Series | None = None
        self._machine_events = _Events("time")

    @property
    def first_step(self) -> int | None:
        """None while there is no step."""
        return int(self.step_numbers[0]) if len(self.step_numbers) else None

    @property
    def last_step(self) -> int | None:
        return int(self.step_numbers[-1]) if len(self.step_numbers) else None

    @property
    def step_numbers(self) -> npt.NDArray[np.int64]:
        """Step of each row, never falling; a view that later chunks do not change."""
        return np.asarray(self._steps.clock, np.int64)

    def extend(self, chunk: Chunk) -> None:
        self._extend_steps(chunk.steps)
        for gradients in chunk.gradients:
            self._gradients.extend(gradients.table, gradients.rows)
        for updates in chunk.updates:
            self._updates.extend(updates.table, updates.rows)
        for name, rows in chunk.metrics.items():
            self._metrics.setdefault(name, _Series(rows, "step")).extend(rows)
        self._events.extend(chunk.events)
        if chunk.machine is not None and len(chunk.machine):
            self._machine = self._machine or _Series(chunk.machine, "time")
            self._machine.extend(chunk.machine)
        if chunk.memory is not None and len(chunk.memory):
            self._memory = self._memory or _Series(chunk.memory, "step")
            self._memory.extend(chunk.memory)
        self._machine_events.extend(chunk.machine_events)

    def _extend_steps(self, rows: Rows) -> None:
        if not len(rows):
            return
        self._steps.extend(rows)
        times = np.maximum.accumulate(rows["time"])
        self._times.extend(np.maximum(times, self._times.view()[-1]) if len(self._times) else times)

    def between(self, after_step: int | None, to_step: int | None) -> Chunk:
        """What belongs to after_step < step <= to_step; None leaves that end open: to the first or the newest of everything.

        Arrays are views that later chunks do not change.
        """
        after, to = self._time_of(after_step), self._time_of(to_step)
        metrics = {name: series.between(after_step, to_step) for name, series in self._metrics.items()}
        return Chunk(
            steps=self._steps.between(after_step, to_step),
            gradients=tuple(Gradients(table, rows) for table, rows in self._gradients.between(after_step, to_step)),
            metrics={name: rows for name, rows in metrics.items() if len(rows)},
            events=self._events.between(after_step, to_step),
            machine=None if self._machine is None else self._machine.between(after, to),
            machine_events=self._machine_events.between(after, to),
            memory=None if self._memory is None else self._memory.between(after_step, to_step),
            updates=tuple(Updates(table, rows) for table, rows in self._updates.between(after_step, to_step)),
        )

    def _time_of(self, step: int | None) -> float | None:
        """End of the last row up to `step`; before all times when there is none."""
        if step is None:
            return None
        count = int(np.searchsorted(self.step_numbers, step, side="right"))
        return float(self._times.view()[count - 1]) if count else -np.inf


def _slice(clock: npt.NDArray[np.generic], after: float | None, to: float | None) -> slice:
    first = 0 if after is None else int(np.searchsorted(clock, after, side="right"))
    last = len(clock) if to is None else int(np.searchsorted(clock, to, side="right"))
    return slice(first, max(first, last))
