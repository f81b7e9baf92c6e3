"""loss-nonfinite: the training loss is nan or inf; since when, and what led up to it."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from forgemon.chunk import Chunk, Rows
from forgemon.detectors.candidate import Candidate, figure
from forgemon.detectors.first_nonfinite import INPUT, RATE, UNKNOWN, FirstNonfinite, Origin
from forgemon.detectors.in_a_row import InARow
from forgemon.detectors.overshoot import BeforeBlowUp, overshoot_text, sudden_text
from forgemon.detectors.update_history import UpdateHistory

SKIPPED_IN_A_ROW = 20
"""Under a loss scale, non-finite steps are skipped, and normal until more than this many come in a row."""
ENOUGH_ROWS = 5
"""Rows that must have been seen before one can say that nothing climbed."""
MOST_OPTIMIZERS = 64
AGAIN_AND_AGAIN = 3
"""Rows that are no single bad batch any more: they stay an alarm when the loss is finite again for a while."""

REFUTE_CLIMB = (
    "The same blow-up with a tenth of the learning rate, from the weights before it climbed: then it is the batch or the model."
)
REFUTE_SUDDEN = "A finite loss when that batch is run again on the weights from before that step."


def without_missing(rows: Rows) -> Rows:
    """Rows that say something about the loss: a missing one is NaN as well, but then no value stands behind it."""
    says: npt.NDArray[np.bool_] = ~np.isnan(rows["loss"]) | (rows["losses"] >= 1)
    kept: Rows = rows[says]
    return kept


class LossNonfinite:
    """Exact. The cause is the learning rate where loss, gradient norm or updates were out of range before; otherwise it is what the
    probe saw to be the first that was not finite, or it is not named."""

    symptoms: ClassVar[tuple[str, ...]] = ("loss-nonfinite",)

    def __init__(self) -> None:
        self._series: dict[int, _Series] = {}
        self._signal_seen = False
        self._first = FirstNonfinite()
        self._updates = UpdateHistory()

    def feed(self, chunk: Chunk) -> None:
        for updates in chunk.updates:
            self._updates.feed(updates)
        rows = without_missing(chunk.steps)
        for optimizer in np.unique(rows["optimizer"]).tolist():
            if optimizer in self._series or len(self._series) < MOST_OPTIMIZERS:
                self._series.setdefault(optimizer, _Series()).feed(rows[rows["optimizer"] == optimizer])
        self._first.feed(chunk)
        for event in chunk.events:
            signals = event.get("signals")
            if isinstance(signals, dict) and signals.get("loss") == "seen":
                self._signal_seen = True

    def candidates(self) -> list[Candidate]:
        """That of the optimizer where it began. Without one finite loss or the probe's word, NaN may mean that none is visible."""
        seen = [s for s in self._series.values() if s.any_seen or self._signal_seen]
        alone = len(self._series) == 1
        found = [c for c in (series.candidate(self._first, self._updates, alone) for series in seen) if c is not None]
        return sorted(found, key=lambda c: c.first_step)[:1]


class _Series:
    """The rows of one optimizer."""

    def __init__(self) -> None:
        self.any_seen = False
        "Whether any loss was a number or inf."
        self._before = BeforeBlowUp()
        self._in_a_row = InARow()
        self._first_step: int | None = None
        self._first_value = math.nan
        self._last_step = 0
        self._count = 0
        self._scaled = False
        self._finite_again: int | None = None

    def feed(self, rows: Rows) -> None:
        bad: npt.NDArray[np.bool_] = ~np.isfinite(rows["loss"])
        self.any_seen = self.any_seen or bool((~np.isnan(rows["loss"])).any())
        if self._first_step is None:
            hits = np.flatnonzero(bad)
            start = int(hits[0]) if len(hits) else len(rows)
            self._before.feed(rows[:start])
            if not len(hits):
                return
            self._first_step, self._first_value = int(rows["step"][start]), float(rows["loss"][start])
            self._scaled = bool(np.isfinite(rows["loss_scale"][start]))
            rows, bad = rows[start:], bad[start:]
        self._in_a_row.feed(rows["step"], bad)
        self._count += int(bad.sum())
        if bad.any():
            self._last_step = int(rows["step"][np.flatnonzero(bad)[-1]])
        if self._finite_again is None and not bad.all():
            self._finite_again = int(rows["step"][np.flatnonzero(~bad)[0]])

    def candidate(self, first: FirstNonfinite, updates: UpdateHistory, alone: bool) -> Candidate | None:
        """`alone`: no other optimizer trains another model, whose output may be the input of this one."""
        if self._first_step is None:
            return None
        origin = first.at(self._first_step)
        past, loss, norm = self._before.past, self._before.loss(), self._before.gradient_norm()
        climbed = overshoot_text(self._before, updates)
        from_input = origin is not None and origin.stage == "input" and (alone or origin.loaded or not climbed)
        evidence: dict[str, float | int | str] = {"loss": str(self._first_value), "nonfinite_rows": self._count}
        if past.rows:
            evidence |= {"last_finite_step": past.last_step, "loss_before": loss.last, "learning_rate": past.learning_rate}
            if math.isfinite(norm.last):
                evidence["gradient_norm_before"] = norm.last
        if origin is not None:
            evidence |= {"first_nonfinite": f"{origin.stage} {origin.name}{origin.place}"}
        certain = self._in_a_row.length > (SKIPPED_IN_A_ROW if self._scaled else 0)
        certain = certain or (not self._scaled and self._count >= AGAIN_AND_AGAIN)
        return Candidate(
            symptom="loss-nonfinite",
            cause=RATE if climbed and not from_input else self._cause(origin),
            level="alarm" if certain else "watch",
            first_step=self._first_step,
            last_step=self._last_step,
            summary=self._summary(climbed, loss.last, origin, from_input),
            evidence=evidence,
            refute=REFUTE_CLIMB if climbed and not from_input else REFUTE_SUDDEN,
            where=None if origin is None else origin.where,
            stands=self._in_a_row.length > 0,
        )

    def _summary(self, climbed: str, loss_before: float, origin: Origin | None, from_input: bool) -> str:
        past = self._before.past
        text = f"At step {self._first_step} the loss became {self._first_value}."
        if origin is not None:
            text += origin.sentence
        if climbed and not from_input:
            text += climbed
        elif self._before.sudden and not from_input:
            text += sudden_text(self._before)
        elif past.rows >= ENOUGH_ROWS and not from_input:
            text += f" Nothing climbed before: at step {past.last_step} it was {figure(loss_before)}."
        elif origin is None:
            text += f" Only {past.rows} finite losses were seen before it, too few to say why."
        if not self._in_a_row.length:
            text += f" It stood until step {self._last_step}; the loss was finite again at step {self._finite_again}."
        return text

    def _cause(self, origin: Origin | None) -> str:
        """Where nothing climbed, or an input of the data was the first."""
        if origin is None:
            return UNKNOWN
        # Before the first update neither rate nor loop can be at fault, and arithmetic that is too large gives inf.
        at_once = self._before.past.rows == 0 and math.isnan(self._first_value) and "weight" in origin.finite
        cause = origin.cause(climbed=False)
        return INPUT if cause == UNKNOWN and at_once and origin.last_finite_step is None else cause
