"""Series made ready to draw, computed on the feed's thread: the smoothed loss and each gradient against its own past."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np
import numpy.typing as npt

from forgemon.chunk import ParameterTable, Rows
from forgemon.growing import GrowingRows
from forgemon.telemetry import Snapshot
from forgemon.tui.frame import Curves, GradientTrend, Mark

if TYPE_CHECKING:
    from forgemon.diagnosis import Report

HISTORY_BINS = 256
MEDIAN_ROWS = 256
"""Medians are taken over at most so many rows, evenly spread over the past."""
MOST_MARKS = 2000
UPDATE_ROWS = 16


class LossHistory:
    """Steps and times of every row of a recording, and the losses of those that have one.

    Side by side in memory: a row's other columns would cost a chart its speed.
    """

    def __init__(self) -> None:
        self._step = GrowingRows(np.int64)
        self._time = GrowingRows(np.float64)
        self._loss_step = GrowingRows(np.int64)
        self._loss = GrowingRows(np.float64)
        self.first_nonfinite: int | None = None
        "Step of the first loss that was not finite."

    def extend(self, rows: Rows) -> None:
        if not len(rows):
            return
        before = float(self._time.view()[-1]) if len(self._time) else -np.inf
        self._step.extend(rows["step"])
        self._time.extend(np.maximum(np.maximum.accumulate(rows["time"]), before))
        known = rows[~self._missing(rows)]
        self._loss_step.extend(known["step"])
        self._loss.extend(known["loss"])
        if self.first_nonfinite is None and not np.isfinite(known["loss"]).all():
            self.first_nonfinite = int(known["step"][np.argmin(np.isfinite(known["loss"]))])

    def _missing(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Rows without a loss: NaN stands for that too, but then no value stands behind it."""
        missing: npt.NDArray[np.bool_] = np.isnan(rows["loss"]) & ~(rows["losses"] >= 1)
        return missing

    @property
    def steps(self) -> npt.NDArray[np.int64]:
        return self._step.view()

    @property
    def times(self) -> npt.NDArray[np.float64]:
        """Never falling."""
        return self._time.view()

    def curves(self, count: int) -> Curves:
        """Of the first `count` rows; smoothed over about a twentieth of them, a power of two so that it seldom changes."""
        last = self._step.view()[count - 1] if count else -1
        known = int(np.searchsorted(self._loss_step.view(), last, side="right"))
        step, loss = self._loss_step.view()[:known], self._loss.view()[:known]
        window = 1 << max((len(loss) // 24).bit_length() - 1, 0)
        at, smoothed = trailing_mean(loss, window)
        return Curves(step, loss, step[at], smoothed, window)


MEAN_BLOCKS = 16


def trailing_mean(values: npt.NDArray[np.float64], window: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Mean of the finite ones of the last `window` values, at the ends of blocks of a sixteenth of the window, and where.

    NaN for a block that holds a value that is not finite. Blocks instead of differences of running sums, because after one
    huge loss those would be nothing but rounding errors.
    """
    block = max(window // MEAN_BLOCKS, 1)
    if not len(values):
        return np.empty(0, dtype=np.intp), values
    starts = np.arange(0, len(values), block)
    ends = np.append(starts[1:], len(values)) - 1
    finite = np.isfinite(values)
    broken = ~np.logical_and.reduceat(finite, starts)
    with np.errstate(over="ignore"):
        sums = np.add.reduceat(np.where(finite, values, 0.0), starts)
    counts = np.add.reduceat(finite, starts, dtype=np.float64)
    total, number = sums.copy(), counts.copy()
    for back in range(1, min(window // block, len(starts))):
        total[back:] += sums[:-back]
        number[back:] += counts[:-back]
    with np.errstate(invalid="ignore", divide="ignore"):
        return ends, np.where(broken, np.nan, total / number)


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
        **_newest_updates(snapshot, table),
    )


class _NewestUpdates(TypedDict):
    updates_at: int
    update_ratio: npt.NDArray[np.float64]


def _newest_updates(snapshot: Snapshot, table: ParameterTable) -> _NewestUpdates:
    """Each parameter's newest ratio in the last rows: where there are several optimizers, a row has those of one alone."""
    ratios = snapshot.update_ratios[-UPDATE_ROWS:]
    found = np.full(len(table.names), np.nan)
    if snapshot.update_table is None or snapshot.update_table.table != table.table or ratios.shape[1:] != found.shape:
        return {"updates_at": -1, "update_ratio": found}
    for row in ratios:
        found = np.where(np.isnan(row), found, row)
    return {"updates_at": int(snapshot.update_steps[-1]), "update_ratio": found}


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


def marks(snapshot: Snapshot, report: Report, first_nonfinite: int | None) -> tuple[Mark, ...]:
    """What the timeline and the chart point at, by step; the newest MOST_MARKS of each kind."""
    found = [Mark(f.first_step, "finding", f.level, f.symptom) for f in report.findings]
    found += [Mark(e.step, "evaluation", text=e.metric) for e in snapshot.evaluations[-MOST_MARKS:]]
    found += [Mark(c.step, "checkpoint", text=c.path) for c in snapshot.checkpoints[-MOST_MARKS:]]
    if first_nonfinite is not None:
        found.append(Mark(first_nonfinite, "nonfinite", "alarm"))
    return tuple(sorted(found, key=lambda m: m.step))
