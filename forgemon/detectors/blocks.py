"""Medians of blocks of rows with their robust spread: what trend rules look at instead of the raw curve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from forgemon.chunk import Rows

ROWS = 25
"""Rows of a block: the shortest stretch whose median can be told from ordinary mini-batch noise."""

MEDIAN_ERROR = 1.4826 * 1.2533
"""Standard error of a median is this times MAD / sqrt(n), for noise near normal."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Block:
    """One block of rows with a finite loss."""

    first_step: int
    last_step: int
    loss: float
    "Median."
    error: float
    "Standard error of the median."
    log_spread: float
    "Robust standard deviation of ln(loss); NaN where a loss is not positive."
    turns: float
    "Share of the rows at which the curve changes direction: 2/3 for pure noise, about 0 for a smooth climb."
    gradient_norm: float
    "Median of the finite ones; NaN where none was seen."
    learning_rate: float
    "Median."
    lowest_loss: float
    lowest_gradient_norm: float
    "Of the finite ones."


class Blocks:
    """Cuts the rows of one optimizer that have a finite loss into blocks of `ROWS`, the same ones however the rows come in."""

    def __init__(self) -> None:
        self._pending: Rows | None = None

    def feed(self, rows: Rows) -> list[Block]:
        """The blocks that these rows complete."""
        rows = rows[np.isfinite(rows["loss"])]
        if self._pending is not None and len(self._pending):
            rows = np.concatenate([self._pending, rows])
        count = len(rows) // ROWS
        self._pending = rows[count * ROWS :].copy()
        return _blocks(rows[: count * ROWS], count) if count else []


def _blocks(rows: Rows, count: int) -> list[Block]:
    loss = rows["loss"].astype(np.float64).reshape(count, ROWS)
    steps = rows["step"].reshape(count, ROWS)
    with np.errstate(all="ignore"):
        middle = np.median(loss, axis=1)
        error = MEDIAN_ERROR * np.median(np.abs(loss - middle[:, None]), axis=1) / np.sqrt(ROWS)
        logs = np.log(np.where(loss > 0, loss, np.nan))
        log_middle = np.median(logs, axis=1, keepdims=True)
        log_spread = 1.4826 * np.median(np.abs(logs - log_middle), axis=1)
        moves = np.sign(np.diff(loss, axis=1))
        turns = np.mean(moves[:, 1:] * moves[:, :-1] < 0, axis=1)
        rate = np.median(rows["learning_rate"].astype(np.float64).reshape(count, ROWS), axis=1)
    raw_norms = rows["gradient_norm"].astype(np.float64).reshape(count, ROWS)
    norms = finite_median(raw_norms)
    first, last = steps[:, 0].tolist(), steps[:, -1].tolist()
    lowest = np.min(loss, axis=1)
    columns = (middle, error, log_spread, turns, norms, rate, lowest, finite_minimum(raw_norms))
    return [Block(*each) for each in zip(first, last, *(c.tolist() for c in columns), strict=True)]


def finite_minimum(values: Floats) -> Floats:
    """Minimum of each row over its finite values, NaN where it has none."""
    lowest = np.min(np.where(np.isfinite(values), values, np.inf), axis=1)
    return np.where(np.isfinite(lowest), lowest, np.nan)


def finite_median(values: Floats) -> Floats:
    """Median of each row over its finite values, NaN where it has none."""
    values = np.sort(np.where(np.isfinite(values), values, np.nan), axis=1)  # NaN sorts last
    seen = np.isfinite(values).sum(axis=1)
    low, high = np.maximum(seen - 1, 0) // 2, seen // 2
    index = np.arange(len(values))
    with np.errstate(over="ignore"):
        middle = values[index, low] / 2 + values[index, np.minimum(high, values.shape[1] - 1)] / 2
    return np.where(seen > 0, middle, np.nan)


def slope(values: Floats, most: int = 60) -> float:
    """Theil-Sen: the median of the slopes between all pairs of (evenly chosen) points."""
    chosen = np.unique(np.linspace(0, len(values) - 1, min(len(values), most)).astype(int))
    if len(chosen) < 2:
        return 0.0
    x, y = chosen.astype(np.float64), values[chosen]
    i, j = np.triu_indices(len(chosen), 1)
    return float(np.median((y[j] - y[i]) / (x[j] - x[i])))
