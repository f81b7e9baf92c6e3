"""Did loss or gradient norm climb before a blow-up? The rows just before it, against the level the run had reached."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from forgemon.chunk import Rows
from forgemon.detectors.blocks import Blocks, Floats
from forgemon.detectors.candidate import figure

RECENT = 50
"""Rows kept before the blow-up."""
LAST = 3
"""Rows that a spike fills when it is a climb and no single bad batch."""
SUSTAINED = 10
"""Rows whose median stands for the latest level."""


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
            last_step=int(rows["step"][-1]),
            learning_rate=float(rows["learning_rate"][-1]),
        )

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


def climb_text(loss: Climb, norm: Climb) -> str:
    """What climbed, with its numbers."""
    parts = []
    if loss.climbed:
        parts.append(f"the loss had risen from {figure(loss.before)} to {figure(loss.last)}")
    if norm.climbed:
        parts.append(f"the gradient norm had grown from {figure(norm.before)} to {figure(norm.last)}")
    return " and ".join(parts)
