"""Did loss or gradient norm climb before a blow-up? The rows just before it, against the level the run had reached."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from forgemon.chunk import Rows
from forgemon.detectors.blocks import Blocks, Floats
from forgemon.detectors.candidate import figure
from forgemon.detectors.rates import rose
from forgemon.detectors.update_history import UpdateHistory

RECENT = 50
"""Rows kept before the blow-up."""
LAST = 3
"""Rows that a spike fills when it is a climb and no single bad batch."""
SUSTAINED = 10
"""Rows whose median stands for the latest level."""


ENOUGH = 8
"""Rows before a jump that show what was ordinary."""
ONE_STEP = 100.0
"""Times its ordinary level that a loss reaches in one step when a single batch made it; steps that overshoot take several, or
come after a rate that rose."""
ORDINARY = 5.0
JUST = 50
"""Steps before it in which small updates clear the rate of blame, whatever noise did to the loss. Not fewer: weights that have
exploded already make their updates look small."""
NEAR = 200
"""Steps before the blow-up in which an update that was too large has to do with it."""


@dataclass(frozen=True)
class Climb:
    """How one series stood before the blow-up."""

    before: float
    "Its level before it climbed."
    last: float
    climbed: bool


@dataclass(frozen=True)
class Past:
    """The finite rows before the blow-up."""

    rows: int = 0
    first_loss: float = math.nan
    last_step: int = -1
    best_loss: float = math.inf
    "Best block median; inf before the first block."
    best_gradient_norm: float = math.nan
    "Median gradient norm of that block."
    learning_rate: float = math.nan


class BeforeBlowUp:
    """Follows the rows with a finite loss up to the first non-finite one. Bounded: a few blocks' worth of rows."""

    def __init__(self) -> None:
        self._blocks = Blocks()
        self._recent: Rows | None = None
        self.past = Past()

    def feed(self, rows: Rows) -> None:
        rows = rows[np.isfinite(rows["loss"])]
        if not len(rows):
            return
        kept = rows if self._recent is None else np.concatenate([self._recent, rows])
        self._recent = kept[-RECENT:].copy()
        past = self.past
        for block in self._blocks.feed(rows):
            if block.loss < past.best_loss:
                past = replace(past, best_loss=block.loss, best_gradient_norm=block.gradient_norm)
        self.past = replace(
            past,
            rows=past.rows + len(rows),
            first_loss=past.first_loss if past.rows else float(rows["loss"][0]),
            last_step=int(rows["step"][-1]),
            learning_rate=float(rows["learning_rate"][-1]),
        )

    @property
    def sudden(self) -> bool:
        """Whether only the very last row is out of range, at a rate that did not rise: the update before it was an ordinary one."""
        if self._recent is None or len(self._recent) <= ENOUGH:
            return False
        loss, norm, rate = (self._recent[name].astype(np.float64) for name in ("loss", "gradient_norm", "learning_rate"))
        middle, norms = float(np.median(loss[:-1])), norm[:-1][np.isfinite(norm[:-1])]
        if not (loss.min() >= 0 and loss[-1] > ONE_STEP * middle and loss[-ENOUGH:-1].max() <= ORDINARY * middle):
            return False
        calm = len(norms) == 0 or float(norms[-ENOUGH:].max()) <= ORDINARY * float(np.median(norms))
        return calm and not rose(rate, LAST)

    @property
    def long_gone(self) -> bool:
        """Whether all the last rows are far above the very first one: weights that exploded before them take small steps since."""
        return self._recent is not None and 0 < ONE_STEP * self.past.first_loss < float(self._recent["loss"].min())

    @property
    def climb_began(self) -> int | None:
        """Step of the first of the last rows that are all out of range; None for fewer than a climb takes."""
        best = self.past.best_loss
        if self._recent is None or not math.isfinite(best):
            return None
        ordinary = np.flatnonzero(self._recent["loss"] <= ORDINARY * best)
        first = int(ordinary[-1]) + 1 if len(ordinary) else 0
        return int(self._recent["step"][first]) if len(self._recent) - first >= LAST else None

    def loss(self) -> Climb:
        return self._climb("loss", self.past.best_loss if math.isfinite(self.past.best_loss) else math.nan, 5.0)

    def gradient_norm(self) -> Climb:
        return self._climb("gradient_norm", self.past.best_gradient_norm, 10.0)

    def _climb(self, column: str, level: float, factor: float) -> Climb:
        if self._recent is None:
            return Climb(math.nan, math.nan, False)
        values: Floats = self._recent[column].astype(np.float64)
        values = values[~np.isnan(values)]
        if len(values) < 2 or values.min() < 0:
            return Climb(math.nan, float(values[-1]) if len(values) else math.nan, False)
        return _climb(values, level, factor)


def _climb(values: Floats, level: float, factor: float) -> Climb:
    """A climb is a sustained level `factor` times the best one, or last rows far above everything before them."""
    last = float(values[-1])
    before = float(values[0]) if math.isnan(level) else level
    sustained = len(values) >= 2 * SUSTAINED and _above(float(np.median(values[-SUSTAINED:])), before, factor)
    if len(values) <= LAST + 1:
        return Climb(before, last, sustained or _above(last, float(values[0]), 2 * factor))
    earlier = float(values[:-LAST].max())
    steep = _above(float(np.median(values[-LAST:])), min(earlier, max(before, float(values[0]))), factor)
    return Climb(before, last, sustained or (steep and last > earlier) or _above(last, earlier, 20 * factor))


def _above(value: float, level: float, factor: float) -> bool:
    return value > factor * level


def overshoot_text(before: BeforeBlowUp, updates: UpdateHistory) -> str:
    """What says that the steps were too large, with its numbers: the curves before the blow-up and the updates themselves."""
    past, sudden = before.past, before.sudden
    if not past.rows or _cleared(before, updates):
        return ""
    climbed = "" if sudden else climb_text(before.loss(), before.gradient_norm())
    # One step that was too large proves nothing after many ordinary rows: what broke the loss may have made its gradient huge.
    risen = not sudden and before.loss().last > ONE_STEP * past.first_loss > 0
    judged = climbed or risen or past.rows <= ENOUGH
    large = updates.too_large(past.last_step - NEAR, past.last_step - sudden) if judged else None
    if large is not None and risen and not climbed:
        climbed = f"the loss had risen from {figure(past.first_loss)} to {figure(before.loss().last)}"
    text = f" By step {past.last_step} {climbed}" if climbed else ""
    if large is not None:
        changed = f"step {large.step} changed the weights by {figure(large.ratio)} of themselves (median over {updates.which})"
        text += f", and {changed}" if text else f" {changed[0].upper()}{changed[1:]}"
    return f"{text}: the updates overshoot (learning rate {figure(past.learning_rate)})." if text else ""


def _cleared(before: BeforeBlowUp, updates: UpdateHistory) -> bool:
    """Whether the updates before the blow-up are known to have been small: those of its climb among them, where it has one."""
    if before.long_gone:
        return False
    past, began = before.past, before.climb_began
    unseen = began is not None and updates.largest(began, past.last_step) is None
    return not unseen and updates.calm(past.last_step - JUST, past.last_step - before.sudden)


def sudden_text(before: BeforeBlowUp) -> str:
    """What speaks for the batch and against the rate."""
    if not before.sudden:
        return ""
    return (
        f" At step {before.past.last_step} the loss had jumped to {figure(before.loss().last)} in a single step, with ordinary "
        "losses, gradients and updates before it: look at the batch of that step."
    )


def climb_text(loss: Climb, norm: Climb) -> str:
    """What climbed, with its numbers."""
    parts = []
    if loss.climbed:
        parts.append(f"the loss had risen from {figure(loss.before)} to {figure(loss.last)}")
    if norm.climbed:
        parts.append(f"the gradient norm had grown from {figure(norm.before)} to {figure(norm.last)}")
    return " and ".join(parts)
