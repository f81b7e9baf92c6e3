"""Gradient norms of the newest parameter table over a whole run, in bounded memory: thinned out before, complete at the end."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from forgemon.chunk import Gradients, ParameterTable
from forgemon.growing import LastRows, ThinnedRows

MAX_ROWS = 4096
MAX_BYTES = 64 << 20
MIN_ROWS = 64


class GradientHistory:
    """At most 4096 rows: the newest 256, and of all before them every n-th, where n doubles as the run grows."""

    def __init__(self) -> None:
        self.table: ParameterTable | None = None
        self._thinned: ThinnedRows | None = None
        self._recent: LastRows | None = None
        self._shown: tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]] | None = None

    def add(self, gradients: Gradients) -> None:
        """Rows of one table, in order. A newer table begins a new history; rows of older ones are past."""
        if self.table is not None and gradients.table.table < self.table.table:
            return
        if self.table is None or gradients.table.table > self.table.table:
            dtype = gradients.rows.dtype
            limit = max(MIN_ROWS, min(MAX_ROWS, MAX_BYTES // dtype.itemsize))
            recent = limit // 16
            self.table, self._thinned, self._recent = (
                gradients.table,
                ThinnedRows(dtype, limit - recent),
                LastRows(dtype, recent),
            )
        assert self._thinned is not None and self._recent is not None
        self._thinned.extend(gradients.rows)
        self._recent.extend(gradients.rows)
        self._shown = None

    def rows(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Steps (K,) and norms (K, P), never changed by what is added later."""
        if self._shown is None:
            self._shown = self._joined()
        return self._shown

    def _joined(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        if self._thinned is None or self._recent is None:
            return np.empty(0, np.int64), np.empty((0, 0), np.float32)
        first_recent = self._thinned.seen - len(self._recent)
        before = self._thinned.view()[: -(-first_recent // self._thinned.stride)]
        recent = self._recent.view()
        steps = np.concatenate([before["step"], recent["step"]])
        norms = np.concatenate([before["norm"], recent["norm"]])
        steps.flags.writeable = norms.flags.writeable = False
        return steps, norms
