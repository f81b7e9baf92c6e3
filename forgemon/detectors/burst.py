"""Stretches of rows above where the loss began, of a loop that had learned: they may be too short to move the medians of blocks."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from forgemon.chunk import Rows
from forgemon.detectors.blocks import ROWS, Block
from forgemon.detectors.departure import LEARNED, WORSE, Departure
from forgemon.detectors.rates import rose

SHORTEST, AFTER_A_RISE = 8, 3
"""Rows in a row: a single batch makes one, and what its update did to the weights seldom lasts longer; where the learning rate has
just risen, a batch need not be thought of."""
MOST_BURSTS = 16


class Bursts:
    """Follows the rows of one optimizer that have a finite loss; the same stretches however the rows come in."""

    def __init__(self) -> None:
        self.untrained = math.nan
        "The higher one of the first loss and the median of the first ROWS."
        self._ended: list[Departure] = []
        self._now: Departure | None = None
        self._rows = 0
        "Of the stretch that goes on."
        self._shortest = SHORTEST
        "That it must have."
        self._before: Rows | None = None
        "The newest ROWS rows outside of a stretch."

    def feed(self, rows: Rows) -> None:
        rows = rows[np.isfinite(rows["loss"])]
        if math.isnan(self.untrained):
            rows = self._begin(rows)
        if math.isnan(self.untrained) or not len(rows):
            return
        high = rows["loss"] > WORSE * self.untrained
        low, stretches = rows[~high], np.flatnonzero(np.diff(high, prepend=False, append=False)).reshape(-1, 2)
        if not high[0]:
            self._end()
        lows_before = np.cumsum(~high)
        # Of the short ones only those that may go on before or after these rows: a loop that diverges crosses the limit all the time.
        long = (stretches[:, 1] - stretches[:, 0] >= AFTER_A_RISE) | (stretches[:, 0] == 0) | (stretches[:, 1] == len(rows))
        for start, stop in stretches[long].tolist():
            self._go_on(rows[start:stop], low[: lows_before[start]])
            if stop < len(rows):
                self._end()
        self._before = self._level_rows(low)

    def _begin(self, rows: Rows) -> Rows:
        """The first ROWS rows are the level; returns those that are left."""
        first = rows if self._before is None else np.concatenate([self._before, rows])
        self._before = first[:ROWS].copy()
        if len(first) >= ROWS:
            self.untrained = max(float(first["loss"][0]), float(np.median(self._before["loss"])))
        return first[ROWS:]

    def _level_rows(self, low: Rows) -> Rows:
        """The newest ROWS of those kept and `low`."""
        assert self._before is not None
        return np.concatenate([self._before, low[-ROWS:]])[-ROWS:]

    def _go_on(self, rows: Rows, low: Rows) -> None:
        """High `rows`; `low`: those before them that are not kept yet."""
        if self._now is None:
            level = self._level_rows(low)
            self._now = Departure(int(rows["step"][0]), _level(level), -math.inf)
            rates = np.concatenate([level["learning_rate"], rows["learning_rate"][:1]])
            self._shortest = AFTER_A_RISE if rose(rates) else SHORTEST
        self._rows += len(rows)
        self._now.peak = max(self._now.peak, float(rows["loss"].max()))
        self._now.last_step = int(rows["step"][-1])

    def _end(self) -> None:
        if len(self._ended) < MOST_BURSTS:
            self._ended += self._counted()
        self._now, self._rows = None, 0

    def _counted(self) -> list[Departure]:
        """The stretch that goes on, where it is long enough and the loop knew something before."""
        now = self._now
        if now is None or self._rows < self._shortest or now.best.loss * LEARNED > self.untrained:
            return []
        # A short one must have been thrown there: large updates after its first row may be what a single batch did.
        return [now] if self._rows >= SHORTEST else [replace(now, thrown=True)]

    @property
    def found(self) -> list[Departure]:
        return [*self._ended, *self._counted()]


def _level(before: Rows) -> Block:
    """The rows before a stretch, up to the lowest of them: the updates that drove the loss away came after it."""
    lowest = before[int(np.argmin(before["loss"]))]
    loss, norm, nan = float(np.median(before["loss"])), float(lowest["gradient_norm"]), math.nan
    first, last, rate = int(before["step"][0]), int(lowest["step"]), float(lowest["learning_rate"])
    return Block(first, last, loss, nan, nan, nan, norm, rate, float(lowest["loss"]), norm)
