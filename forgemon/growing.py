"""Arrays of rows that only ever grow: amortised appends, views that later appends never change, bounded histories."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from forgemon.chunk import Rows


def conform(rows: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """`rows` in the columns of `dtype`: columns it lacks are NaN (0 for whole numbers), columns it has beyond are left out."""
    if rows.dtype == dtype:
        return rows
    result = np.zeros(len(rows), dtype)
    with np.errstate(invalid="ignore", over="ignore"):  # a foreign file's numbers need not fit
        for name in dtype.names or ():
            if name in (rows.dtype.names or ()) and rows.dtype[name].shape == dtype[name].shape:
                result[name] = rows[name]
            elif dtype[name].base.kind == "f":
                result[name] = np.nan
    return result


class GrowingRows:
    """Append-only array of any dtype. `view()` stays as it was whatever is appended later."""

    def __init__(self, dtype: np.dtype[Any] | type, capacity: int = 1024) -> None:
        self._rows: npt.NDArray[Any] = np.empty(capacity, dtype)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._rows.dtype

    def extend(self, rows: npt.NDArray[Any]) -> None:
        count = self._count + len(rows)
        if count > len(self._rows):
            # A new array, never resize in place: views of the old one must keep what they show.
            grown = np.empty(max(count, 2 * len(self._rows)), self._rows.dtype)
            grown[: self._count] = self._rows[: self._count]
            self._rows = grown
        self._rows[self._count : count] = rows if rows.dtype.names is None else conform(rows, self._rows.dtype)
        self._count = count

    def view(self) -> npt.NDArray[Any]:
        view = self._rows[: self._count]
        view.flags.writeable = False
        return view


class ThinnedRows:
    """At most `limit` of all rows ever appended, spread evenly: every `stride`-th, and the stride doubles when it must.

    What is kept depends on how many rows came, never on how they were split into appends.
    """

    def __init__(self, dtype: np.dtype[Any], limit: int) -> None:
        self.limit = max(2, limit)
        self._kept = GrowingRows(dtype, min(64, self.limit))
        self.stride = 1
        self.seen = 0

    def extend(self, rows: Rows) -> None:
        total = self.seen + len(rows)
        self._make_room(total)
        self._kept.extend(rows[-self.seen % self.stride :: self.stride])
        self.seen = total

    def lower_limit(self, limit: int) -> None:
        self.limit = max(2, limit)
        self._make_room(self.seen)

    def _make_room(self, total: int) -> None:
        while -(-total // self.stride) > self.limit:
            self._halve()

    def _halve(self) -> None:
        halved = GrowingRows(self._kept.dtype, 1 + len(self._kept) // 2)
        halved.extend(self._kept.view()[::2])
        self._kept = halved
        self.stride *= 2

    def __len__(self) -> int:
        return len(self._kept)

    def view(self) -> Rows:
        return self._kept.view()


class LastRows:
    """The newest `limit` rows, all of them."""

    def __init__(self, dtype: np.dtype[Any], limit: int) -> None:
        self._rows: npt.NDArray[Any] = np.empty(0, dtype)
        self._limit = limit

    def extend(self, rows: Rows) -> None:
        rows = conform(rows, self._rows.dtype)[-self._limit :]
        kept = self._rows[max(0, len(self._rows) + len(rows) - self._limit) :]
        self._rows = np.concatenate([kept, rows])

    def __len__(self) -> int:
        return len(self._rows)

    def view(self) -> Rows:
        return self._rows
