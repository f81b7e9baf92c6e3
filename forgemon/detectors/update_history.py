"""How large the steps were: the update-to-weight ratio of each sampled step, as the median over the model's weight matrices."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from forgemon.chunk import ParameterTable, Updates
from forgemon.detectors.blocks import Floats, finite_median

MOST_SAMPLES = 1024
ZERO = 1e-8
"""Norm of a matrix that was initialised to zero (the second one of a low-rank adapter): its first ratios say nothing."""
LARGE = 0.3
"""A step that changes a matrix by this share of itself. Healthy runs have at most 0.15 and reach 0.5 only at the edge of
stability with the whole data set as one batch; of 78 runs with a rate that was too high 77 passed 0.5 (research, finding 5)."""
CALM = 0.05
"""Runs that diverge have at least 0.2 in the steps just before (measured)."""
JUMP = 10.0
"""Times the usual ratio, and at least a tenth of the weights: a step out of line with its own past."""
JUST_BEFORE = 50
"""Steps."""

Steps = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sample:
    step: int
    ratio: float
    "Median over the matrices."


class UpdateHistory:
    """Follows the newest table of parameters; a new one begins anew. Vectors (biases, norms) are left out: they start at zero."""

    def __init__(self) -> None:
        self._table = -1
        self._begin(None)

    def _begin(self, table: ParameterTable | None) -> None:
        shapes = () if table is None else table.shapes
        self._matrices = np.array([i for i, shape in enumerate(shapes) if len(shape) > 1], np.int64)
        self.names: tuple[str, ...] = () if table is None else tuple(table.names[i] for i in self._matrices.tolist())
        self._seen = np.zeros(len(self._matrices), np.bool_)
        self._zero = np.zeros(len(self._matrices), np.bool_)
        self.steps: Steps = np.zeros(0, np.int64)
        "Of the samples kept."
        self.ratios: Floats = np.zeros(0)
        "Over the matrices that were finite."

    def feed(self, updates: Updates) -> None:
        if updates.table.table < self._table or not len(updates.rows):
            return
        if updates.table.table > self._table:
            self._table = updates.table.table
            self._begin(updates.table)
        if len(self._matrices):
            self._add(updates.rows["step"].astype(np.int64), self._ratios(updates))

    def _ratios(self, updates: Updates) -> Floats:
        weight = updates.rows["weight_norm"][:, self._matrices].astype(np.float64)
        update = updates.rows["update_norm"][:, self._matrices].astype(np.float64)
        finite = np.isfinite(weight)
        first = weight[np.argmax(finite, axis=0), np.arange(weight.shape[1])]
        newly = ~self._seen & finite.any(axis=0)
        self._zero[newly] = first[newly] < ZERO
        self._seen |= newly
        with np.errstate(all="ignore"):
            ratios = np.where(weight > ZERO, update / weight, np.nan)
        ratios[:, self._zero] = np.nan
        return finite_median(ratios)

    def _add(self, steps: Steps, ratios: Floats) -> None:
        known = ~np.isnan(ratios)
        steps, ratios = steps[known], ratios[known]
        while len(steps):
            taken = MOST_SAMPLES - len(self.steps)
            self.steps = np.concatenate([self.steps, steps[:taken]])
            self.ratios = np.concatenate([self.ratios, ratios[:taken]])
            steps, ratios = steps[taken:], ratios[taken:]
            if len(self.steps) == MOST_SAMPLES:
                self._thin()

    def _thin(self) -> None:
        """Of each two neighbours the larger is kept, so that no jump is lost."""
        second = self.ratios[1::2] > self.ratios[::2]
        self.steps = np.where(second, self.steps[1::2], self.steps[::2])
        self.ratios = np.where(second, self.ratios[1::2], self.ratios[::2])

    def largest(self, first_step: int, last_step: int) -> Sample | None:
        """Between two steps, both of them included."""
        inside = np.flatnonzero((self.steps >= first_step) & (self.steps <= last_step))
        if not len(inside):
            return None
        at = int(inside[np.argmax(self.ratios[inside])])
        return Sample(int(self.steps[at]), float(self.ratios[at]))

    def highest(self, first_step: int, last_step: float = math.inf) -> float:
        """The largest ratio between the two; NaN where nothing was sampled."""
        inside = (self.steps >= first_step) & (self.steps <= last_step)
        return float(self.ratios[inside].max()) if inside.any() else math.nan

    def highest_before(self, step: int) -> float:
        """In the steps just before `step`; NaN where nothing was sampled."""
        return self.highest(step - JUST_BEFORE, step - 1)

    def too_large(self, first_step: int, last_step: int) -> Sample | None:
        """The largest step between the two, where it was too large: by itself, or beside the ones before."""
        largest = self.largest(first_step, last_step)
        if largest is None:
            return None
        before = self.ratios[self.steps < first_step]
        usual = float(np.median(before)) if len(before) >= 5 else np.inf
        out_of_line = largest.ratio > LARGE / 3 and largest.ratio > JUMP * usual
        return largest if largest.ratio > LARGE or out_of_line else None

    def calm(self, first_step: int, last_step: int) -> bool:
        """Whether the steps between the two were sampled and all of them small."""
        largest = self.largest(first_step, last_step)
        return largest is not None and largest.ratio < CALM

    @property
    def which(self) -> str:
        """The matrices that the median is over, as a sentence names them."""
        shown = ", ".join(self.names[:3])
        return f"{len(self.names)} matrices ({shown}, …)" if len(self.names) > 3 else shown
