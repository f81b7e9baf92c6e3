"""Series made ready to draw, computed on the feed's thread: the smoothed loss and each gradient against its own past."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from forgemon.chunk import Rows
from forgemon.telemetry import Snapshot
from forgemon.tui.frame import Curves, GradientTrend, Mark

if TYPE_CHECKING:
    from forgemon.diagnosis import Report

HISTORY_BINS = 256
MEDIAN_ROWS = 256
"""Medians are taken over at most so many rows, evenly spread over the past."""
MOST_MARKS = 2000


def curves(steps: Rows) -> Curves:
    """The loss with a trailing mean over about a fortieth of the run, a power of two long so that it seldom changes."""
    loss = np.ascontiguousarray(steps["loss"], dtype=np.float64)
    window = 1 << max((len(loss) // 40).bit_length() - 1, 0)
    return Curves(np.ascontiguousarray(steps["step"]), loss, trailing_mean(loss, window), window)


def trailing_mean(values: npt.NDArray[np.float64], window: int) -> npt.NDArray[np.float64]:
    """Mean of the finite ones of the last `window` values; NaN where the value itself is not finite.

    By differences of running sums taken about the median, since a sum over the whole run would drown small losses in the
    rounding of large ones.
    """
    if window <= 1 or not len(values):
        return values
    finite = np.isfinite(values)
    all_finite = bool(finite.all())
    if not all_finite and not finite.any():
        return values
    centre = float(np.median((values if all_finite else values[finite])[:: max(len(values) // 1000, 1)]))
    shifted = values - centre if all_finite else np.where(finite, values, centre) - centre
    total = _windowed(shifted, window)
    number = np.minimum(np.arange(1, len(values) + 1), window) if all_finite else _windowed(finite.astype(np.float64), window)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / number + centre
    return mean if all_finite else np.where(finite, mean, np.nan)


def _windowed(values: npt.NDArray[np.float64], window: int) -> npt.NDArray[np.float64]:
    sums = np.cumsum(values)
    result = sums.copy()
    result[window:] -= sums[:-window]
    return result


def gradient_trend(snapshot: Snapshot) -> GradientTrend | None:
    """Every parameter's norm now, its median before, and its history in at most HISTORY_BINS columns."""
    table, steps, norms = snapshot.table, snapshot.gradient_steps, snapshot.gradient_norms
    if table is None or not len(steps) or norms.shape[1] != len(table.names):
        return None
    bad = broken_norms(norms, steps, snapshot.steps)
    starts = np.unique(np.linspace(0, len(steps), min(HISTORY_BINS, len(steps)) + 1).astype(np.intp)[:-1])
    finite = np.where(np.isfinite(norms), norms, np.float32(np.nan))
    current = norms[-1].astype(np.float64)
    return GradientTrend(
        names=table.names,
        shapes=table.shapes,
        step=int(steps[-1]),
        current=current,
        broken=bad[-1],
        median=_median(finite[:-1] if len(steps) > 1 else finite),
        bins=steps[starts],
        history=np.fmax.reduceat(finite, starts, axis=0).T,
        history_broken=np.logical_or.reduceat(bad, starts, axis=0).T,
    )


def _median(finite: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    sample = finite[:: max(len(finite) // MEDIAN_ROWS, 1)]
    result = np.full(finite.shape[1], np.nan)
    seen = np.flatnonzero(np.isfinite(sample).any(axis=0))
    if len(seen):
        result[seen] = np.nanmedian(sample[:, seen], axis=0)
    return result


def broken_norms(norms: npt.NDArray[np.float32], steps: npt.NDArray[np.int64], rows: Rows) -> npt.NDArray[np.bool_]:
    """(K, P) where a norm is inf, or NaN because the gradient was: an absent gradient is NaN in the table too.

    A NaN counts as a gradient's own where the step's total norm is not finite either and the parameter has had gradients.
    """
    nan = np.isnan(norms)
    if not nan.any():
        return np.isinf(norms)
    total_finite: npt.NDArray[np.bool_] = np.isin(steps, rows["step"][np.isfinite(rows["gradient_norm"])])
    has_gradients = ~nan[total_finite].all(axis=0) if total_finite.any() else np.ones(norms.shape[1], dtype=np.bool_)
    unknown: npt.NDArray[np.bool_] = np.logical_not(total_finite)[:, None]
    own: npt.NDArray[np.bool_] = nan & unknown & np.asarray(has_gradients)[None, :]
    return own | np.isinf(norms)


def marks(snapshot: Snapshot, report: Report) -> tuple[Mark, ...]:
    """What the timeline and the chart point at, by step; the newest MOST_MARKS of each kind."""
    found = [Mark(f.first_step, "finding", f.level, f.symptom) for f in report.findings]
    found += [Mark(e.step, "evaluation", text=e.metric) for e in snapshot.evaluations[-MOST_MARKS:]]
    found += [Mark(c.step, "checkpoint", text=c.path) for c in snapshot.checkpoints[-MOST_MARKS:]]
    broken = np.flatnonzero(_nonfinite_losses(snapshot))[:1]
    found += [Mark(int(s), "nonfinite", "alarm") for s in snapshot.steps["step"][broken]]
    return tuple(sorted(found, key=lambda m: m.step))


def _nonfinite_losses(snapshot: Snapshot) -> npt.NDArray[np.bool_]:
    """Where the loss is inf, or NaN beside a gradient that was seen: NaN alone may mean that no loss was visible."""
    loss = snapshot.steps["loss"]
    broken: npt.NDArray[np.bool_] = np.isinf(loss)
    return broken | np.isnan(loss) if np.isfinite(loss).any() else broken
