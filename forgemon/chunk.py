"""What the reader hands on: a piece of a run, as arrays and events. Telemetry and diagnosis are fed with these alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.void]
"""A one-dimensional structured array with the columns of a table of probes.record."""

Event = Mapping[str, Any]
"""One line of events.jsonl or machine.jsonl, as parsed and checked: it has `time` (float) and `kind` (str); events of a
rank have `step` (int) too."""


@dataclass(frozen=True)
class ParameterTable:
    """Which parameters the columns of one gradients-T.npy stand for."""

    table: int
    first_step: int
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]
    optimizers: tuple[int, ...]
    "Index of the optimizer that holds each parameter."


@dataclass(frozen=True)
class Gradients:
    """Rows of one gradient table."""

    table: ParameterTable
    rows: Rows
    "Fields `step` (N,) and `norm` (N, P): 2-norm of each parameter's gradient; NaN where it had none, inf or NaN as it was."


@dataclass(frozen=True)
class Updates:
    """Rows of the table of weight and update norms that belongs to a table of parameters; sampled more rarely than gradients."""

    table: ParameterTable
    rows: Rows
    "Fields `step` (N,), `weight_norm` and `update_norm` (N, P): 2-norm of each parameter's weights before the step and of what the "
    "step changed in them, estimated from a sample of the entries; NaN where it had no gradient or cannot be sampled."


@dataclass(frozen=True)
class Chunk:
    """New rows and events of one rank and of the machine, each in the order they were written.

    Rows and events of different files are not ordered against each other but by their step and time. A consumer fed any
    split of the same run, row by row or all at once, must end in the same state.
    """

    steps: Rows
    gradients: tuple[Gradients, ...] = ()
    metrics: Mapping[str, Rows] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    machine: Rows | None = None
    machine_events: tuple[Event, ...] = ()
    updates: tuple[Updates, ...] = ()
    memory: Rows | None = None
    "Columns of probes.record.memory_columns."

    @property
    def empty(self) -> bool:
        return not (
            len(self.steps)
            or self.gradients
            or self.updates
            or self.metrics
            or self.events
            or self.machine_events
            or (self.machine is not None and len(self.machine))
            or (self.memory is not None and len(self.memory))
        )
