"""Parameters whose gradient was alive and is exactly zero for many rows in a row: units that died."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from forgemon.chunk import Gradients
from forgemon.detectors.in_a_row import InARow

DEAD = 1e-7
"""Root mean square of a gradient below this is dead."""
SHARE = 1 / 3
"""Share of the weights (not biases) that must be dead."""
ROWS = 20


class DeadGradients:
    """Follows the newest gradient table; a new one begins anew."""

    def __init__(self) -> None:
        self.since_step: int | None = None
        "First step of the rows in a row in which enough weights were dead; None while they are not."
        self.all_at_zero = False
        "Whether the gradient of every weight is zero to the last bit, for ROWS rows in a row."
        self._table = -1
        self._begin(np.zeros(0, np.int64), np.zeros(0))

    def _begin(self, weights: npt.NDArray[np.int64], roots: npt.NDArray[np.float64]) -> None:
        self._weights, self._roots = weights, roots
        self._was_alive = np.zeros(len(weights), np.bool_)
        self._in_a_row = InARow()
        self._at_zero = InARow()
        self._dead = 0
        self.since_step = None
        self.all_at_zero = False

    def feed(self, gradients: Gradients) -> None:
        table = gradients.table
        if table.table < self._table or not len(gradients.rows):
            return
        if table.table > self._table:
            self._table = table.table
            weights = np.array([i for i, shape in enumerate(table.shapes) if len(shape) > 1], np.int64)
            sizes = np.array([np.prod(table.shapes[i], dtype=np.float64) for i in weights.tolist()], np.float64)
            self._begin(weights, np.sqrt(np.maximum(sizes, 1)))
        if not len(self._weights):
            return
        size = gradients.rows["norm"][:, self._weights].astype(np.float64) / self._roots
        with np.errstate(invalid="ignore"):
            alive = size >= DEAD
            dead = size < DEAD
        known = np.logical_or.accumulate(np.vstack([self._was_alive, alive]), axis=0)
        self._was_alive = known[-1]
        died = (dead & known[1:]).sum(axis=1)
        lengths, begins = self._in_a_row.feed(gradients.rows["step"], died >= max(1.0, SHARE * len(self._weights)))
        self._dead = int(died[-1])
        self.since_step = int(begins[-1]) if lengths[-1] >= ROWS else None
        lengths, _ = self._at_zero.feed(gradients.rows["step"], (size == 0).all(axis=1))
        self.all_at_zero = bool(lengths[-1] >= ROWS)

    @property
    def share_text(self) -> str:
        return f"the gradients of {self._dead} of {len(self._weights)} weights have been zero"
