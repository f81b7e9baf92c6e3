"""Gradient norms and update-to-weight ratios of the newest parameter table over a whole run, in bounded memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from forgemon.chunk import ParameterTable, Rows
from forgemon.growing import LastRows, ThinnedRows

MAX_ROWS = 4096
MAX_BYTES = 64 << 20
MIN_ROWS = 64

Shown = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]
"""Steps (K,) and a number for each parameter (K, P), never changed by what is added later."""


class _History:
    """At most 4096 rows: the newest 256, and of all before them every n-th, where n doubles as the run grows."""

    def __init__(self) -> None:
        self.table: ParameterTable | None = None
        self._thinned: ThinnedRows | None = None
        self._recent: LastRows | None = None
        self._shown: Shown | None = None

    def add(self, table: ParameterTable, rows: Rows) -> None:
        """Rows of one table, in order. A newer table begins a new history; rows of older ones are past."""
        if self.table is not None and table.table < self.table.table:
            return
        if self.table is None or table.table > self.table.table:
            limit = max(MIN_ROWS, min(MAX_ROWS, MAX_BYTES // rows.dtype.itemsize))
            recent = limit // 16
            self.table = table
            self._thinned, self._recent = ThinnedRows(rows.dtype, limit - recent), LastRows(rows.dtype, recent)
        assert self._thinned is not None and self._recent is not None
        self._thinned.extend(rows)
        self._recent.extend(rows)
        self._shown = None

    def rows(self) -> Shown:
        if self._shown is None:
            self._shown = self._joined()
        return self._shown

    def _joined(self) -> Shown:
        if self._thinned is None or self._recent is None:
            return np.empty(0, np.int64), np.empty((0, 0), np.float32)
        first_recent = self._thinned.seen - len(self._recent)
        before = self._thinned.view()[: -(-first_recent // self._thinned.stride)]
        recent = self._recent.view()
        steps = np.concatenate([before["step"], recent["step"]])
        values = np.concatenate([self._values(before), self._values(recent)])
        steps.flags.writeable = values.flags.writeable = False
        return steps, values

    def _values(self, rows: Rows) -> npt.NDArray[np.float32]:
        raise NotImplementedError


class GradientHistory(_History):
    """Of gradient norms."""

    def _values(self, rows: Rows) -> npt.NDArray[np.float32]:
        norms: npt.NDArray[np.float32] = rows["norm"]
        return norms


class UpdateHistory(_History):
    """Of update-to-weight ratios: NaN where there was none, or where a weight was zero throughout."""

    def _values(self, rows: Rows) -> npt.NDArray[np.float32]:
        weights, updates = rows["weight_norm"], rows["update_norm"]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ratios: npt.NDArray[np.float32] = np.where(weights > 0, updates / weights, np.float32(np.nan))
        return ratios
