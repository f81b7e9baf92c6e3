"""Builds chunks from plain lists, and splits them: what the tests of detectors are fed with."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from forgemon.chunk import Chunk, Event, Gradients, ParameterTable, Rows, Updates
from forgemon.detectors.candidate import Candidate, Detector
from probes.record import (
    METRIC_COLUMNS,
    STEP_COLUMNS,
    gradient_columns,
    machine_columns,
    memory_columns,
    update_columns,
)

STEP_ROW = np.dtype([(c[0], "<" + c[1]) for c in STEP_COLUMNS])
METRIC_ROW = np.dtype([(c[0], "<" + c[1]) for c in METRIC_COLUMNS])
MEMORY_ROW = np.dtype([(c[0], "<" + c[1]) for c in memory_columns([0])])
MACHINE_ROW = np.dtype([(c[0], "<" + c[1]) for c in machine_columns(0)])
START = 1_700_000_000.0
Values = Sequence[float] | npt.NDArray[Any]


def step_rows(loss: Values, steps: Sequence[int] | None = None, **columns: Any) -> Rows:
    """Rows of steps.npy with one backward call and learning rate 0.1 each, one second apart; every other column is NaN
    unless it is named."""
    rows = np.zeros(len(loss), STEP_ROW)
    for name in STEP_ROW.names or ():
        rows[name] = 0 if STEP_ROW[name].kind == "i" else np.nan
    rows["step"] = np.arange(1, len(loss) + 1) if steps is None else np.asarray(steps)
    rows["time"] = START + rows["step"]
    rows["learning_rate"] = 0.1
    rows["micro_batches"] = 1
    rows["training"] = 1
    rows["loss"] = loss
    for name, values in columns.items():
        rows[name] = values
    if "losses" not in columns:
        rows["losses"] = rows["micro_batches"]
    if "gradient_norm" in columns and "gradients" not in columns:
        rows["gradients"] = 1
    return rows


def gradient_rows(steps: Sequence[int], norms: Sequence[Sequence[float]], names: Sequence[str], table: int = 0) -> Gradients:
    """Rows of one gradient table; a name that ends in `bias` is a vector, every other parameter a 4 x 4 matrix."""
    dtype = np.dtype([(c[0], "<" + c[1], *c[2:]) for c in gradient_columns(len(names))])
    rows = np.zeros(len(steps), dtype)
    rows["step"], rows["norm"] = steps, norms
    return Gradients(parameter_table(names, table), rows)


def parameter_table(names: Sequence[str], table: int = 0) -> ParameterTable:
    shapes = tuple((4,) if name.endswith("bias") else (4, 4) for name in names)
    return ParameterTable(table, 0, tuple(names), shapes, ("float32",) * len(names), (0,) * len(names))


def update_rows(
    steps: Sequence[int],
    weight_norms: Sequence[Sequence[float]],
    update_norms: Sequence[Sequence[float]],
    names: Sequence[str],
    table: int = 0,
) -> Updates:
    """Rows of the table of weight and update norms; names as in `gradient_rows`."""
    dtype = np.dtype([(c[0], "<" + c[1], *c[2:]) for c in update_columns(len(names))])
    rows = np.zeros(len(steps), dtype)
    rows["step"], rows["weight_norm"], rows["update_norm"] = steps, weight_norms, update_norms
    return Updates(parameter_table(names, table), rows)


def metric_rows(steps: Sequence[int], values: Values) -> Rows:
    rows = np.zeros(len(steps), METRIC_ROW)
    rows["step"], rows["time"], rows["value"] = steps, START + np.asarray(steps), values
    return rows


def event(kind: str, step: int, **fields: Any) -> Event:
    return {"time": START + step + 0.5, "step": step, "kind": kind, **fields}


def machine_event(kind: str, time: float, **fields: Any) -> Event:
    return {"time": time, "kind": kind, **fields}


def machine_rows(times: Sequence[float], **columns: Any) -> Rows:
    rows = np.full(len(times), np.nan, MACHINE_ROW)
    rows["time"] = times
    for name, values in columns.items():
        rows[name] = values
    return rows


def memory_rows(times: Sequence[float], allocated: Values) -> Rows:
    """What torch's allocator holds on cuda:0; one step a second."""
    rows = np.zeros(len(times), MEMORY_ROW)
    rows["time"], rows["step"] = times, np.asarray(times) - START
    for name in ("allocated", "reserved", "peak"):
        rows[f"cuda0_{name}_bytes"] = allocated
    return rows


def evaluations(values: Values, train: Values | None = None, every: int = 100, **fields: Any) -> list[Event]:
    """One validation pass every `every` steps, run as it should be."""
    common = {"metric": "cross_entropy", "training": False, "grad_enabled": False, **fields}
    return [
        event("evaluation", every * (i + 1), value=float(v), train_loss=None if train is None else float(train[i]), **common)
        for i, v in enumerate(values)
    ]


def chunk(
    rows: Rows | None = None,
    events: Sequence[Event] = (),
    gradients: Sequence[Gradients] = (),
    machine_events: Sequence[Event] = (),
    machine: Rows | None = None,
    updates: Sequence[Updates] = (),
    memory: Rows | None = None,
    metrics: Mapping[str, Rows] | None = None,
) -> Chunk:
    steps = np.empty(0, STEP_ROW) if rows is None else rows
    return Chunk(steps, tuple(gradients), metrics or {}, tuple(events), machine, tuple(machine_events), tuple(updates), memory)


def split(whole: Chunk, seed: int, pieces: int) -> list[Chunk]:
    """The same run in pieces, each stream cut at places of its own, as a reader that lags behind on one file hands it on."""
    chance = random.Random(seed)

    def cuts(length: int) -> list[int]:
        return [0, *sorted(chance.randint(0, length) for _ in range(pieces - 1)), length]

    def parts(values: Any) -> list[Any]:
        places = cuts(len(values))
        return [values[a:b] for a, b in itertools.pairwise(places)]

    steps, events, machine_events = parts(whole.steps), parts(whole.events), parts(whole.machine_events)
    tables: Mapping[int, list[Any]] = {g.table.table: parts(g.rows) for g in whole.gradients}
    changes: Mapping[int, list[Any]] = {u.table.table: parts(u.rows) for u in whole.updates}
    metrics: Mapping[str, list[Any]] = {name: parts(rows) for name, rows in whole.metrics.items()}
    machine = [None] * pieces if whole.machine is None else parts(whole.machine)
    memory = [None] * pieces if whole.memory is None else parts(whole.memory)
    return [
        Chunk(
            steps[i],
            tuple(Gradients(g.table, tables[g.table.table][i]) for g in whole.gradients if len(tables[g.table.table][i])),
            {name: rows[i] for name, rows in metrics.items() if len(rows[i])},
            tuple(events[i]),
            machine[i],
            tuple(machine_events[i]),
            tuple(Updates(u.table, changes[u.table.table][i]) for u in whole.updates if len(changes[u.table.table][i])),
            memory[i],
        )
        for i in range(pieces)
    ]


def candidates_of_any_split(
    detector: Callable[[], Detector], whole: Chunk, pieces: int = 15, seeds: int = 5
) -> list[Candidate]:
    """What the run shows as a whole, which is what it shows in pieces, looked at after each of them or at the end alone."""
    one = detector()
    one.feed(whole)
    expected = one.candidates()
    for seed in range(seeds):
        other = detector()
        for piece in split(whole, seed, pieces):
            other.feed(piece)
            if seed % 2:
                other.candidates()
        assert other.candidates() == expected
    return expected
