"""What one picture of the screen is drawn from: built by the feed, drawn by the panels, changed by nobody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from forgemon.findings import Level
from forgemon.telemetry import Snapshot

if TYPE_CHECKING:
    from forgemon.diagnosis import Report

MarkKind = Literal["finding", "checkpoint", "evaluation", "nonfinite"]


@dataclass(frozen=True)
class Mark:
    """A place on the timeline."""

    step: int
    kind: MarkKind
    level: Level = "info"
    text: str = ""


@dataclass(frozen=True, eq=False)
class Curves:
    """The training loss, ready to draw."""

    step: npt.NDArray[np.int64]
    loss: npt.NDArray[np.float64]
    smooth_step: npt.NDArray[np.int64]
    smoothed: npt.NDArray[np.float64]
    "Mean of the last `window` finite losses at each of `smooth_step`; NaN where a loss was not finite."
    window: int


@dataclass(frozen=True, eq=False)
class GradientTrend:
    """Per-parameter gradient norms against their own past, in the order of `names`."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    step: int
    "Of the newest row."
    current: npt.NDArray[np.float64]
    "(P,) newest norm; NaN when absent or not a number, see `broken`."
    broken: npt.NDArray[np.bool_]
    "(P,) the newest norm is NaN or inf, not merely absent."
    median: npt.NDArray[np.float64]
    "(P,) median of the finite norms before the newest."
    bins: npt.NDArray[np.int64]
    "(B,) first step of each column of the history."
    history: npt.NDArray[np.float32]
    "(P, B) largest norm of each stretch of steps; NaN where there was none."
    history_broken: npt.NDArray[np.bool_]
    "(P, B) a NaN or inf fell in that stretch."
    updates_at: int
    "Step of the newest sample of updates; -1 where there is none."
    update_ratio: npt.NDArray[np.float64]
    "(P,) newest known norm of an update over that of the weights; NaN where there is none."

    @property
    def ratio(self) -> npt.NDArray[np.float64]:
        """(P,) newest norm over its median; NaN where either is missing."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.median > 0, self.current / self.median, np.nan)


@dataclass(frozen=True, eq=False)
class Frame:
    """The state of the run at the cursor, and where the cursor stands in the recording."""

    snapshot: Snapshot
    report: Report
    curves: Curves
    gradients: GradientTrend | None
    marks: tuple[Mark, ...]
    "Of the whole recording, sorted by step."
    first_step: int
    end_step: int
    "Newest step of the recording, wherever the cursor is."
    cursor: int
    live: bool
    following: bool
    "The picture is of the newest state and moves with it."
    playing: bool
    speed: float
    "Seconds of the run for each second of the screen, while playing."
    loading: bool
    "More of what is already on the disk is still to be read."
    best_exists: bool | None
    output: tuple[str, ...]
    "Last lines that the command printed."
    elapsed_s: float
    "Run time between the first step and the cursor."
    seeking: bool
    "A picture of another step is being prepared, which takes a moment in a long recording."
    silent_s: float
    "Live: seconds since anything new came."


def trend_key(frame: Frame) -> object:
    """Equal for frames with the same gradients."""
    trend = frame.gradients
    return None if trend is None else (trend.step, trend.updates_at, len(trend.bins), trend.names)
