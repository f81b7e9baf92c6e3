"""How gradients shrink from the last layers to the first ones: the profile of a model whose gradients vanish."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from forgemon.chunk import Gradients
from forgemon.detectors.blocks import Floats, finite_median
from forgemon.detectors.dead_gradients import DEAD
from forgemon.detectors.in_a_row import InARow

LEAST_MATRICES = 4
ROWS = 20
FEW = 3
"""Rows with the profile that do where the first layers stay dead for ROWS: what the last layer can do alone it may learn in a moment."""
FIRST_TO_LAST = 5e-4
"""Root mean square of the first third's gradients over that of the largest one. Healthy runs of eight families have at least
1e-2; an embedding of which a batch touches a thousandth would have 3e-2; twelve sigmoid layers have 1e-9, twelve of ReLU as they are
initialised by default 2e-4 (measured)."""
FALL = 0.1
"""The middle third must lie this far below the last, and the first no higher: a single layer at rest is no vanishing gradient.
The first two may both be at the smallest numbers that the type holds."""


class GradientDepth:
    """Follows the newest gradient table; a new one begins anew. Layers are taken to stand in the order of the table."""

    def __init__(self) -> None:
        self.since_step: int | None = None
        "First step with that profile, in ROWS rows in a row and more that have it or whose first layers are dead; None without."
        self.last_step = -1
        self.first = self.last = float("nan")
        "Root mean square of the newest row's gradients: of the first third (median) and of the largest matrix."
        self.names: tuple[str, ...] = ()
        "Of the first third of the matrices."
        self.count = 0
        self._table = -1
        self._matrices: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._roots: Floats = np.zeros(0)
        self._in_a_row = InARow()
        self._held = InARow()
        self._profile = -1
        "Step at which the profile began in the run of rows that is going on; -1 before it is certain there."

    def feed(self, gradients: Gradients) -> None:
        table = gradients.table
        if table.table < self._table or not len(gradients.rows):
            return
        if table.table > self._table:
            self._table = table.table
            self._begin(gradients)
        if self.count < LEAST_MATRICES:
            return
        size = gradients.rows["norm"][:, self._matrices].astype(np.float64) / self._roots
        first, middle, last = np.array_split(size, 3, axis=1)
        with np.errstate(invalid="ignore"):
            low, between, high = finite_median(first), finite_median(middle), np.nanmax(np.nan_to_num(last), axis=1)
            flags = (low < FIRST_TO_LAST * high) & (low <= between) & (between <= FALL * high)
        measured = np.isfinite(low) & np.isfinite(between) & (high > 0)
        if not measured.any():
            return
        steps = gradients.rows["step"][measured]
        lengths, begins = self._in_a_row.feed(steps, flags[measured])
        certain = np.flatnonzero((lengths >= ROWS) | ((lengths >= FEW) & (low[measured] < DEAD)))
        # Once the last layers have learned what they can alone, their gradients fade too, and the profile with them.
        held, since = self._held.feed(steps, (flags | (low < DEAD))[measured])
        if self._profile < since[-1]:
            inside = certain[steps[certain] >= since[-1]]
            self._profile = int(begins[inside[0]]) if len(inside) else -1
        self.since_step = self._profile if held[-1] >= ROWS and self._profile >= 0 else None
        self.first, self.last, self.last_step = float(low[measured][-1]), float(high[measured][-1]), int(steps[-1])

    def _begin(self, gradients: Gradients) -> None:
        table = gradients.table
        self._matrices = np.array([i for i, shape in enumerate(table.shapes) if len(shape) > 1], np.int64)
        sizes = np.array([np.prod(table.shapes[i], dtype=np.float64) for i in self._matrices.tolist()], np.float64)
        self._roots = np.sqrt(np.maximum(sizes, 1))
        self.count = len(sizes)
        third = np.array_split(self._matrices, 3)[0]
        self.names = tuple(table.names[i] for i in third.tolist())
        self._in_a_row, self._held, self._profile = InARow(), InARow(), -1
        self.since_step = None
