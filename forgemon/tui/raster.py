"""Curves as braille dots: the lowest and highest value of each pixel column, a gap where a value is not finite. Numpy only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], dtype=np.uint16)
"""Bit of each of the 4 x 2 dots of a braille character, U+2800 + bits."""


@dataclass(frozen=True, eq=False)
class Columns:
    """A series cut into pixel columns; NaN where a column has no finite value."""

    low: Floats
    high: Floats
    first: Floats
    "First finite value of the column, where a line from the left arrives."
    last: Floats
    broken: Bools
    "The column holds a value that is not finite: no line may cross it."


def cut(x: npt.NDArray[np.generic], x_min: float, x_max: float, columns: int) -> npt.NDArray[np.intp]:
    """(columns + 1,) bounds of each pixel column in the sorted `x`; x_min falls in the first column, x_max in the last."""
    width = (x_max - x_min) / max(columns - 1, 1) or 1.0
    edges = x_min + (np.arange(columns + 1) - 0.5) * width
    return np.searchsorted(x, edges, side="left")


def columns_of(x: npt.NDArray[np.generic], y: Floats, x_min: float, x_max: float, columns: int) -> Columns:
    """Reduce a series with rising `x` to `columns` pixel columns over [x_min, x_max]."""
    empty = np.full(columns, np.nan)
    result = Columns(empty, empty.copy(), empty.copy(), empty.copy(), np.zeros(columns, dtype=np.bool_))
    bounds = cut(x, x_min, x_max, columns)
    filled = np.flatnonzero(bounds[1:] > bounds[:-1])
    if not len(filled):
        return result
    begin, end = int(bounds[filled[0]]), int(bounds[filled[-1] + 1])
    part = y[begin:end]
    finite = np.isfinite(part)
    starts = bounds[filled] - begin
    if not finite.all():
        result.broken[filled] = ~np.logical_and.reduceat(finite, starts)
        part = np.where(finite, part, np.nan)
    result.low[filled] = np.fmin.reduceat(part, starts)
    result.high[filled] = np.fmax.reduceat(part, starts)
    result.first[filled] = part[starts]
    result.last[filled] = part[bounds[filled + 1] - begin - 1]
    return result


EXTREME = 1e250
"""Beyond this, and below its inverse, is drawn at the edge: a scale needs room to compute in."""


@dataclass(frozen=True)
class Scale:
    """Where a value stands between the bottom (0) and the top (1) of a chart."""

    low: float
    high: float
    log: bool = False

    def fraction(self, values: Floats) -> Floats:
        """Clipped to 0..1; NaN stays NaN. On a log scale what is not positive lies at the bottom."""
        if self.log:
            with np.errstate(divide="ignore", invalid="ignore"):
                values = np.where(values > 0, np.log10(np.maximum(values, 1e-300)), np.where(np.isnan(values), np.nan, -np.inf))
            low, high = math.log10(self.low), math.log10(self.high)
        else:
            low, high = self.low, self.high
        return np.clip((values - low) / (high - low), 0.0, 1.0)

    def ticks(self, wanted: int) -> list[float]:
        """About `wanted` round values within the scale."""
        wanted = max(wanted, 2)
        if self.log and self.high / self.low >= 8:
            return _log_ticks(self.low, self.high, wanted)
        return _linear_ticks(self.low, self.high, wanted)


def _linear_ticks(low: float, high: float, wanted: int) -> list[float]:
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10, 20) if m * power >= raw)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float, wanted: int) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = last - first
    mantissas = (1, 2, 5) if decades * 2 <= wanted else (1, 3) if decades <= wanted else (1,)
    every = max(1, -(-decades // wanted))
    values = [m * 10.0**e for e in range(first, last + 1) if e % every == 0 for m in mantissas]
    return [v for v in values if low <= v * (1 + 1e-9) and v <= high * (1 + 1e-9)]


def scale_of(series: list[Columns], log: bool | None = None, from_zero: bool = False) -> Scale:
    """A scale that holds every finite value. `log=None` chooses it when all are positive and span more than a decade."""
    every = [values for c in series for values in (c.low, c.high)]
    values = np.concatenate(every) if every else np.empty(0)
    values = np.clip(values[np.isfinite(values)], -EXTREME, EXTREME)
    positive = values[values > 1 / EXTREME]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if log is None:
        log = low > 0 and high > 10 * low
    if log and len(positive):
        low, high = float(positive.min()), float(positive.max())
        margin = max((high / low) ** 0.03, 1.02)
        return Scale(low / margin, high * margin, True)
    if from_zero:
        return Scale(0.0, high * 1.05 if high > 0 else 1.0)
    margin = (high - low) * 0.04
    if margin < max(abs(low), abs(high)) * 1e-9 or margin < 1 / EXTREME:  # all but constant
        margin = abs(high) * 0.1 if abs(high) > 1 / EXTREME else 0.5
    return Scale(low - margin, high + margin)


def draw(dots: Bools, columns: Columns, scale: Scale) -> None:
    """Set the dots of a series in a (rows, pixel columns) raster: each column's range, joined by lines where unbroken."""
    rows = dots.shape[0]
    low, high = _interpolated(columns, scale)
    seen = np.flatnonzero(np.isfinite(low))
    if not len(seen):
        return
    top = ((1 - high[seen]) * (rows - 1)).round().astype(np.intp)
    bottom = ((1 - low[seen]) * (rows - 1)).round().astype(np.intp)
    joined = (np.diff(seen) == 1) & ~columns.broken[seen[1:]] & ~columns.broken[seen[:-1]]
    start, stop = top.copy(), bottom.copy()
    start[1:] = np.where(joined, np.minimum(top[1:], bottom[:-1] + 1), top[1:])
    stop[1:] = np.where(joined, np.maximum(bottom[1:], top[:-1] - 1), bottom[1:])
    row = np.arange(rows)[:, None]
    dots[:, seen] |= (row >= start) & (row <= stop)


def _interpolated(columns: Columns, scale: Scale) -> tuple[Floats, Floats]:
    """Fractions of low and high, with straight lines over empty columns that no broken column interrupts."""
    low, high = scale.fraction(columns.low), scale.fraction(columns.high)
    seen = np.flatnonzero(np.isfinite(low) | columns.broken)
    for left, right in zip(seen[:-1].tolist(), seen[1:].tolist(), strict=True):
        if right - left > 1 and not (columns.broken[left] or columns.broken[right]):
            ends = scale.fraction(np.array([columns.last[left], columns.first[right]]))
            line = np.linspace(ends[0], ends[1], right - left + 1)[1:-1]
            low[left + 1 : right] = line
            high[left + 1 : right] = line
    return low, high


def cells(dots: Bools) -> npt.NDArray[np.uint16]:
    """Pack a (4 h, 2 w) raster into (h, w) braille bits."""
    height, width = dots.shape[0] // 4, dots.shape[1] // 2
    bits: npt.NDArray[np.uint16] = np.einsum("hrwc,rc->hw", dots.reshape(height, 4, width, 2), DOTS, dtype=np.uint16)
    return bits
