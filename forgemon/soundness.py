"""Which rows of a table can be believed: no rows of zeros, no nonsense, no steps that run backwards; the rest is counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from forgemon.chunk import Rows

MAX_STEP = 2**53
MAX_TIME = 1e11


class UnreadableTable(Exception):
    """The file is no table of a run directory; the message says why."""


class SoundRows:
    """Filters the rows of one table as they are read. `key` is `step`, or `time` for a table without steps.

    Steps may stand still (several optimizers, several values at one step), never run backwards. Where a column `optimizer`
    tells several optimizers apart, each keeps its own count. Times may run backwards: clocks are set.
    """

    def __init__(self, key: str, required: tuple[str, ...] = (), vector: int | None = None) -> None:
        self.key = key
        self.zeros = 0
        self.backwards = 0
        self.broken = 0
        self._required = (key, *required)
        self._vector = vector
        self._newest: dict[int, float] = {}
        self._seen_before: dict[int, float] = {}

    @property
    def left_out(self) -> str:
        """What was dropped so far, in words; empty when nothing was."""
        kinds = ((self.zeros, "of zeros"), (self.backwards, "with a step that runs backwards"), (self.broken, "of nonsense"))
        parts = [f"{count} {kind}" for count, kind in kinds if count]
        return f"left out rows: {', '.join(parts)}" if parts else ""

    def check_columns(self, dtype: np.dtype[Any]) -> None:
        """UnreadableTable when a column is missing that the rows cannot be understood without."""
        for name in self._required:
            if name not in (dtype.names or ()):
                raise UnreadableTable(f"it has no column {name}")
            if name in ("step", "time") and (dtype[name].shape or dtype[name].kind != ("i" if name == "step" else "f")):
                raise UnreadableTable(f"its column {name} is of the wrong type")
            if self._vector is not None and name.endswith("norm") and dtype[name].shape != (self._vector,):
                raise UnreadableTable(f"its rows are not for {self._vector} parameters")

    def begin_again(self) -> None:
        """The file is read from its start once more: what was handed on already is skipped without a word."""
        for group, newest in self._newest.items():
            self._seen_before[group] = max(newest, self._seen_before.get(group, newest))
        self._newest = {}

    def keep(self, rows: Rows) -> Rows:
        sane = self._sane(rows)
        if not sane.all():
            rows = rows[sane]
        if not len(rows):
            return rows
        key: npt.NDArray[Any] = rows[self.key]
        groups = rows["optimizer"] if "optimizer" in (rows.dtype.names or ()) else None
        if groups is None or (groups == groups[0]).all():
            keep = self._keep_group(0 if groups is None else int(groups[0]), key)
        else:
            keep = np.empty(len(rows), np.bool_)
            for group in np.unique(groups):
                chosen = groups == group
                keep[chosen] = self._keep_group(int(group), key[chosen])
        return rows if keep.all() else rows[keep]

    def _sane(self, rows: Rows) -> npt.NDArray[np.bool_]:
        key = rows[self.key]
        good = (key >= 0) & (key <= (MAX_STEP if self.key == "step" else MAX_TIME))
        names = rows.dtype.names or ()
        if "time" in names:
            with np.errstate(invalid="ignore"):
                good &= (rows["time"] > 0) & (rows["time"] < MAX_TIME)
        # Only a row whose key is zero can be all zeros, and those are few.
        nothing = np.flatnonzero(key == 0)
        zeros = 0
        if len(nothing):
            blank = ~np.frombuffer(rows[nothing].tobytes(), np.uint8).reshape(len(nothing), -1).any(axis=1)
            zeros = int(blank.sum())
            good[nothing[blank]] = False
        self.zeros += zeros
        self.broken += int(len(rows) - good.sum()) - zeros
        return good

    def _keep_group(self, group: int, key: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        keep = np.ones(len(key), np.bool_)
        if self.key == "step":
            highest = np.maximum(np.maximum.accumulate(key), int(self._newest.get(group, 0)))
            keep = key >= highest
            self.backwards += int(len(key) - keep.sum())
        self._newest[group] = max(self._newest.get(group, 0), key.max().item())
        if group in self._seen_before:
            keep &= key > self._seen_before[group]
        return keep
