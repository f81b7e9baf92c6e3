"""What the rules of other tools see of a run: the same log that the detectors are fed with, whole and as plain arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from forgemon.chunk import Chunk, Event, ParameterTable, Rows
from forgemon.evaluations import ON_TRAINING_DATA
from forgemon.reader import RunReader, read_all
from forgemon.snapshot import Evaluation
from forgemon.telemetry import Telemetry

Steps = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Gradients:
    """2-norms of the gradients of one table of parameters."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    steps: Steps
    "(K,)"
    norms: Floats
    "(K, P); NaN where a parameter had no gradient, or where its norm is NaN."


@dataclass(frozen=True)
class Updates:
    """2-norms of the weights of one table of parameters, and of what a step changed in them; sampled more rarely than gradients."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    steps: Steps
    "(U,)"
    weight_norms: Floats
    "(U, P), before the step."
    update_norms: Floats
    "(U, P)"


@dataclass(frozen=True)
class Trace:
    """One rank's run. A row of steps.npy has one place in each of the arrays (N,)."""

    steps: Steps
    times: Floats
    optimizers: npt.NDArray[np.int64]
    losses: Floats
    "NaN where `loss_known` is not."
    loss_known: npt.NDArray[np.bool_]
    "Whether the loss was measured: a NaN there is the loss's own."
    learning_rates: Floats
    gradient_norms: Floats
    "Total 2-norm before any clipping by the loop itself."
    gradient_known: npt.NDArray[np.bool_]
    gradients: tuple[Gradients, ...] = ()
    updates: tuple[Updates, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    "Held-out losses only, in their order."
    epochs: tuple[int, ...] = ()
    "Steps at which the training loader was started again."
    metrics: Mapping[str, tuple[Steps, Floats]] = field(default_factory=dict)
    "Whatever the loop logs, by its name."
    nonfinite: tuple[Event, ...] = ()
    "Events that say where a value that is not finite came from."

    def loss_series(self) -> Iterator[tuple[Steps, Floats]]:
        """Steps and losses of each optimizer's own steps, where a loss was measured."""
        for optimizer in np.unique(self.optimizers):
            own = (self.optimizers == optimizer) & self.loss_known
            if own.any():
                yield self.steps[own], self.losses[own]

    def gradient_norm_series(self) -> Iterator[tuple[Steps, Floats]]:
        """The same of the total gradient norm."""
        for optimizer in np.unique(self.optimizers):
            own = (self.optimizers == optimizer) & self.gradient_known
            if own.any():
                yield self.steps[own], self.gradient_norms[own]

    def evaluation_series(self) -> Iterator[list[Evaluation]]:
        """The evaluations of each metric."""
        for metric in dict.fromkeys(evaluation.metric for evaluation in self.evaluations):
            yield [evaluation for evaluation in self.evaluations if evaluation.metric == metric]


def trace_of(run_dir: Path, rank: int = 0) -> Trace:
    """Everything that stands in a run directory. UserError where it is none."""
    chunks: list[Chunk] = []
    reader = RunReader(run_dir, rank)
    read_all(reader, chunks.append)
    return trace_of_chunks(chunks, reader.info)


def trace_of_chunks(chunks: Iterable[Chunk], info: Mapping[str, Any] | None = None) -> Trace:
    """The same of chunks, in the order they were read."""
    telemetry, chunks = Telemetry(), list(chunks)
    for chunk in chunks:
        telemetry.feed(chunk)
    shown = telemetry.snapshot(info or {})
    rows = shown.steps
    before_clip = rows["gradient_norm_before_clip"]
    clipped = np.isfinite(before_clip)
    return Trace(
        steps=rows["step"].astype(np.int64),
        times=rows["time"].astype(np.float64),
        optimizers=rows["optimizer"].astype(np.int64),
        losses=rows["loss"].astype(np.float64),
        loss_known=np.isfinite(rows["loss"]) | (rows["losses"] > 0),
        learning_rates=rows["learning_rate"].astype(np.float64),
        gradient_norms=np.where(clipped, before_clip, rows["gradient_norm"]),
        gradient_known=clipped | np.isfinite(rows["gradient_norm"]) | (rows["gradients"] > 0),
        gradients=tuple(_gradients(chunks)),
        updates=tuple(_updates(chunks)),
        evaluations=tuple(e for e in shown.evaluations if not e.metric.endswith(ON_TRAINING_DATA)),
        epochs=tuple(event["step"] for chunk in chunks for event in chunk.events if event["kind"] == "epoch"),
        metrics={name: (found["step"].astype(np.int64), found["value"]) for name, found in shown.metrics.items()},
        nonfinite=tuple(event for chunk in chunks for event in chunk.events if event["kind"] == "nonfinite"),
    )


def _gradients(chunks: Iterable[Chunk]) -> Iterator[Gradients]:
    for table, rows in _by_table((piece.table, piece.rows) for chunk in chunks for piece in chunk.gradients):
        yield Gradients(table.names, table.shapes, rows["step"].astype(np.int64), rows["norm"].astype(np.float64))


def _updates(chunks: Iterable[Chunk]) -> Iterator[Updates]:
    for table, rows in _by_table((piece.table, piece.rows) for chunk in chunks for piece in chunk.updates):
        weights, updates = rows["weight_norm"].astype(np.float64), rows["update_norm"].astype(np.float64)
        yield Updates(table.names, table.shapes, rows["step"].astype(np.int64), weights, updates)


def _by_table(pieces: Iterable[tuple[ParameterTable, Rows]]) -> list[tuple[ParameterTable, Rows]]:
    tables: dict[int, tuple[ParameterTable, list[Rows]]] = {}
    for table, rows in pieces:
        tables.setdefault(table.table, (table, []))[1].append(rows)
    return [(table, np.concatenate(rows)) for _, (table, rows) in sorted(tables.items())]
