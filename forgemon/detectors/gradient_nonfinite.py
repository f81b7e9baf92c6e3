"""gradient-nonfinite: a gradient is nan or inf while the loss is still finite; which parameter was the first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from forgemon.chunk import Chunk, Gradients, Rows
from forgemon.detectors.candidate import Candidate
from forgemon.detectors.first_nonfinite import RATE, UNKNOWN, FirstNonfinite, Origin
from forgemon.detectors.in_a_row import InARow
from forgemon.detectors.loss_nonfinite import SKIPPED_IN_A_ROW
from forgemon.detectors.overshoot import BeforeBlowUp, overshoot_text, sudden_text
from forgemon.detectors.skipped_steps import SkippedSteps
from forgemon.detectors.update_history import UpdateHistory


@dataclass(frozen=True)
class _Parameters:
    """The first row of the gradient tables with a non-finite norm, read from the loss back towards the input."""

    step: int
    count: int
    of: int
    first: str
    last_finite: str | None
    value: float


class GradientNonfinite:
    """Exact. Steps that a GradScaler skips are left out until many come in a row."""

    symptoms: ClassVar[tuple[str, ...]] = ("gradient-nonfinite",)

    def __init__(self) -> None:
        self._norms: dict[int, _Norms] = {}
        self._tables: dict[int, _Table] = {}
        self._first = FirstNonfinite()
        self._updates = UpdateHistory()
        self._skipped = SkippedSteps()

    def feed(self, chunk: Chunk) -> None:
        for updates in chunk.updates:
            self._updates.feed(updates)
        self._first.feed(chunk)
        self._skipped.feed(chunk)
        rows = chunk.steps
        for optimizer in np.unique(rows["optimizer"]).tolist():
            if optimizer in self._norms or len(self._norms) < 64:
                self._norms.setdefault(optimizer, _Norms()).feed(rows[rows["optimizer"] == optimizer])
        for gradients in chunk.gradients:
            if gradients.table.table in self._tables or len(self._tables) < 64:
                self._tables.setdefault(gradients.table.table, _Table()).feed(gradients)

    def candidates(self) -> list[Candidate]:
        found = [(norms.first_step, norms) for norms in self._norms.values() if norms.first_step is not None]
        if not found:
            skipped = self._skipped.candidate()
            return [] if skipped is None else [skipped]
        step, norms = min(found, key=lambda f: f[0])
        tables = [t.at(step) for t in self._tables.values()]
        parameters = next((t for t in tables if t is not None), None)
        return [norms.candidate(step, parameters, self._first.at(step), self._updates)]


class _Norms:
    """The total gradient norm of one optimizer, over rows whose loss is finite."""

    def __init__(self) -> None:
        self._before = BeforeBlowUp()
        self._in_a_row = InARow()
        self.first_step: int | None = None
        self._last_step = 0
        self._count = 0

    def feed(self, rows: Rows) -> None:
        norm = rows["gradient_norm"]
        # A missing norm is NaN too: it counts where gradients were measured.
        bad = np.isinf(norm) | (np.isnan(norm) & (rows["gradients"] >= 1))
        judged = (bad | np.isfinite(norm)) & np.isfinite(rows["loss"])
        rows, bad = rows[judged], bad[judged]
        lengths, begins = self._in_a_row.feed(rows["step"], bad)
        needed = np.where(np.isfinite(rows["loss_scale"]), SKIPPED_IN_A_ROW, 0)
        start = 0
        if self.first_step is None:
            hits = np.flatnonzero(lengths > needed)
            start = int(hits[0]) if len(hits) else len(rows)
            self._before.feed(rows[:start][~bad[:start]])
            if not len(hits):
                return
            self.first_step = int(begins[start])
            self._count = int(lengths[start]) - 1
        self._count += int(bad[start:].sum())
        if bad[start:].any():
            self._last_step = int(rows["step"][start + np.flatnonzero(bad[start:])[-1]])

    def candidate(self, step: int, parameters: _Parameters | None, origin: Origin | None, updates: UpdateHistory) -> Candidate:
        climbed = overshoot_text(self._before, updates)
        evidence: dict[str, float | int | str] = {"nonfinite_rows": self._count}
        text = f"At step {step} the gradient was not finite while the loss still was."
        if parameters is not None:
            evidence |= {"parameter": parameters.first, "parameters_nonfinite": parameters.count, "parameters": parameters.of}
            text = f"At step {step} {_who(parameters)}, while the loss was still finite."
            if parameters.last_finite is not None:
                evidence["last_finite_parameter"] = parameters.last_finite
        if origin is not None:
            evidence |= {"first_nonfinite": f"{origin.stage} {origin.name}{origin.place}"}
            text += origin.sentence if origin.stage != "gradient" or parameters is None else ""
        if origin is None or origin.stage != "input":
            text += climbed or sudden_text(self._before)
        stands = self._in_a_row.length > 0
        if not stands:
            text += f" It stood until step {self._last_step}."
        return Candidate(
            symptom="gradient-nonfinite",
            cause=origin.cause(bool(climbed)) if origin is not None else RATE if climbed else UNKNOWN,
            level="alarm" if stands else "watch",
            first_step=step,
            last_step=self._last_step,
            summary=text,
            evidence=evidence,
            refute="A finite gradient when that batch is run again on the weights from before that step.",
            stands=stands,
        )


def _who(parameters: _Parameters) -> str:
    if parameters.count == parameters.of:
        return f"the gradients of all {parameters.of} parameters were not finite"
    value = "nan" if math.isnan(parameters.value) else "inf"
    text = f"the gradient of {parameters.first} was {value}, the first one going back from the loss"
    if parameters.last_finite is not None:
        text += f" ({parameters.last_finite}, just before it, was finite)"
    return f"{text}; {parameters.count} of {parameters.of} parameters"


class _Table:
    """The rows of one gradient table with a parameter that is inf, or NaN after it was finite. A few of them are kept."""

    KEPT = 64

    def __init__(self) -> None:
        self._alive: np.ndarray[tuple[int], np.dtype[np.bool_]] | None = None
        self._found: dict[int, _Parameters] = {}

    def feed(self, gradients: Gradients) -> None:
        norm = gradients.rows["norm"].astype(np.float64)
        if not len(norm) or not norm.shape[1]:
            return
        alive = np.zeros(norm.shape[1], np.bool_) if self._alive is None else self._alive
        known = np.logical_or.accumulate(np.vstack([alive, np.isfinite(norm)]), axis=0)
        self._alive = known[-1]
        bad = np.isinf(norm) | (np.isnan(norm) & known[:-1])
        for row in np.flatnonzero(bad.any(axis=1)).tolist():
            if len(self._found) >= self.KEPT:
                return
            self._found[int(gradients.rows["step"][row])] = self._read(gradients, row, norm[row], bad[row])

    @staticmethod
    def _read(gradients: Gradients, row: int, norm: object, bad: object) -> _Parameters:
        values, wrong = np.asarray(norm), np.asarray(bad)
        names = gradients.table.names
        first = int(np.flatnonzero(wrong)[-1])  # backward() reaches the last parameters first
        behind = np.flatnonzero(np.isfinite(values[first + 1 :]))
        last_finite = names[first + 1 + int(behind[0])] if len(behind) else None
        step = int(gradients.rows["step"][row])
        return _Parameters(
            step, int(wrong.sum()), int((~np.isnan(values) | wrong).sum()), names[first], last_finite, values[first]
        )

    def at(self, step: int) -> _Parameters | None:
        return self._found.get(step)
