"""The first steps of a run: did a single one throw away what the weights were?

Gradients that explode in a recurrent or unnormalised model may do so once, at the second step: the update replaces the weights by
something far from any solution, and the run begins anew from there. No block shows that, and no curve a minute later.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forgemon.chunk import Rows
from forgemon.detectors.norms import norms_of
from forgemon.detectors.update_history import UpdateHistory

EARLY = 50
"""Rows that are looked at."""
NORM_JUMPED = 100.0
"""Times the highest gradient norm before. Together with LOSS_JUMPED and REPLACED: 0 of 1,344 healthy runs (measured)."""
LOSS_JUMPED = 10.0
"""Times the highest loss before."""
REPLACED = 1.0
"""Update-to-weight ratio from which on a step replaces the weights instead of changing them."""


@dataclass(frozen=True)
class Jump:
    step: int
    step_before: int
    norm: float
    norm_before: float
    loss: float
    loss_before: float


@dataclass(frozen=True)
class ThrownAway:
    """A jump, and the update that followed from it or led to it."""

    jump: Jump
    ratio: float
    at_step: int


class FirstSteps:
    """Feed it rows with a gradient norm; it keeps the first ones."""

    def __init__(self) -> None:
        self._rows: Rows | None = None

    def feed(self, rows: Rows) -> None:
        kept = 0 if self._rows is None else len(self._rows)
        if kept < EARLY:
            self._rows = rows[:EARLY].copy() if self._rows is None else np.concatenate([self._rows, rows[: EARLY - kept]])

    def thrown_away(self, updates: UpdateHistory) -> ThrownAway | None:
        jump = self._jump()
        if jump is None:
            return None
        largest = updates.largest(jump.step_before, jump.step)
        return ThrownAway(jump, largest.ratio, largest.step) if largest is not None and largest.ratio > REPLACED else None

    def _jump(self) -> Jump | None:
        rows = self._rows
        if rows is None or len(rows) < 2:
            return None
        norm, loss = norms_of(rows), rows["loss"].astype(np.float64)
        before = np.maximum.accumulate(norm)[:-1], np.maximum.accumulate(loss)[:-1]
        with np.errstate(invalid="ignore", over="ignore"):
            jumped = (norm[1:] > NORM_JUMPED * before[0]) & (loss[1:] > LOSS_JUMPED * before[1]) & (before[1] > 0)
        jumped &= np.isfinite(norm[1:]) & np.isfinite(loss[1:])
        if not jumped.any():
            return None
        at = int(np.argmax(jumped))
        numbers = float(norm[at + 1]), float(before[0][at]), float(loss[at + 1]), float(before[1][at])
        return Jump(int(rows["step"][at + 1]), int(rows["step"][at]), *numbers)
