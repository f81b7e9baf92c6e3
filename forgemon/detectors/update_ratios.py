"""How much of the weights each sampled step changed: the median over the weights of its update divided by the weight."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from forgemon.chunk import Updates
from forgemon.detectors.blocks import finite_median

LEAST_WEIGHT = 1e-8
"""A weight that was filled with zeros has no ratio yet."""
MOST_KEPT = 512


class UpdateRatios:
    """Of the newest table; a new one begins anew. The highest are kept where they grow many."""

    def __init__(self) -> None:
        self._begin(-1, np.zeros(0, np.int64))

    def _begin(self, table: int, weights: npt.NDArray[np.int64]) -> None:
        self._table, self._weights = table, weights
        self._kept: list[tuple[int, float]] = []
        self._waiting: list[tuple[int, float]] = []
        self._every = 1

    def feed(self, updates: Updates) -> None:
        table, rows = updates.table, updates.rows
        if table.table < self._table or not len(rows):
            return
        if table.table > self._table:
            self._begin(table.table, np.array([i for i, shape in enumerate(table.shapes) if len(shape) > 1], np.int64))
        if not len(self._weights):
            return
        weight = rows["weight_norm"][:, self._weights].astype(np.float64)
        update = rows["update_norm"][:, self._weights].astype(np.float64)
        with np.errstate(all="ignore"):
            ratios = finite_median(np.where(weight > LEAST_WEIGHT, update / weight, np.nan))
        for step, ratio in zip(rows["step"].tolist(), ratios.tolist(), strict=True):
            if math.isfinite(ratio):
                self._add(step, ratio)

    def _add(self, step: int, ratio: float) -> None:
        self._waiting.append((step, ratio))
        if len(self._waiting) < self._every:
            return
        self._kept.append(max(self._waiting, key=lambda pair: pair[1]))
        self._waiting = []
        if len(self._kept) >= MOST_KEPT:
            pairs = zip(self._kept[::2], self._kept[1::2], strict=True)
            self._kept = [max(pair, key=lambda p: p[1]) for pair in pairs]
            self._every *= 2

    def highest_since(self, step: int) -> float:
        """NaN where nothing was sampled."""
        return max((ratio for at, ratio in (*self._kept, *self._waiting) if at >= step), default=math.nan)

    def highest_before(self, step: int, within: int = 50) -> float:
        """In the steps just before `step`; NaN where nothing was sampled."""
        found = [ratio for at, ratio in (*self._kept, *self._waiting) if step - within <= at < step]
        return max(found, default=math.nan)
