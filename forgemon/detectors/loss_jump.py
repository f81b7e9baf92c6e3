"""Where the loss went to another level from one row to the next: weights that ordinary steps changed cannot do that, other data can."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forgemon.chunk import Rows
from forgemon.detectors.blocks import ROWS, Floats
from forgemon.detectors.rates import rose

BLOCKS = 4
"""In a row that are looked at: one before the two in which the jump may lie, and one after it."""
WORSE = 1.2
"""Times the median before: the least jump that is looked for."""
APART = 0.2
"""Share of the rows on each side that may lie beyond those of the other."""
JUST = 3
"""Rows before a jump that are as ordinary as those before them; steps that overshoot take several."""
ORDINARY = 1.5
"""Times the highest of the rows before them."""
AT_ONCE = 0.75
"""Of the distance between the two levels, that lies between the rows just before and those just after."""
FIRST = 0.5
"""Of the distance to the higher ones of the later rows, that the very first row has: a climb takes several."""
RISES = 1.1
"""Times the first half of the rows after the jump that the second one may be."""
MOST_JUMPS = 64


@dataclass(frozen=True)
class Jump:
    step: int
    "The first row at the later level."
    before: float
    "Median loss of the ROWS rows before."
    after: float
    "And of the ROWS rows from it on."

    def leaves(self, level: float) -> bool:
        """Whether the loss was at that level, or below, until it jumped."""
        return self.before < WORSE * level


class LossJumps:
    """Follows the rows of one optimizer that have a finite loss: its largest jumps upwards, the same ones however the rows come in."""

    def __init__(self) -> None:
        self.found: list[Jump] = []
        "The newest MOST_JUMPS, in order."
        self._kept: Rows | None = None
        "The whole blocks that the next window may begin with, and the rows that fill none yet."

    def feed(self, rows: Rows) -> None:
        rows = rows[np.isfinite(rows["loss"])]
        rows = rows if self._kept is None else np.concatenate([self._kept, rows])
        blocks = len(rows) // ROWS
        for block in _worse(rows[: blocks * ROWS]):
            self._look_at(rows[block * ROWS : (block + BLOCKS) * ROWS])
        self._kept = rows[max(0, blocks - BLOCKS + 1) * ROWS :].copy()

    def _look_at(self, window: Rows) -> None:
        jump = _jump_in(window)
        if jump is not None and all(jump.step != known.step for known in self.found):
            self.found = [*self.found, jump][-MOST_JUMPS:]


def _worse(rows: Rows) -> list[int]:
    """The first blocks of those windows whose two later blocks lie above it."""
    middle = np.median(rows["loss"].astype(np.float64).reshape(-1, ROWS), axis=1)
    first, later = middle[: 1 - BLOCKS], np.minimum(middle[2 : 3 - BLOCKS], middle[BLOCKS - 1 :])
    found: list[int] = np.flatnonzero((first > 0) & (later > WORSE * first)).tolist()
    return found


def _jump_in(window: Rows) -> Jump | None:
    """The largest jump upwards in the middle of BLOCKS neighbouring blocks; None where there is none."""
    loss, norm, rate = (window[name].astype(np.float64) for name in ("loss", "gradient_norm", "learning_rate"))
    sums = np.concatenate([[0.0], np.cumsum(loss)])
    place = ROWS + int(np.argmax(sums[2 * ROWS :] - 2 * sums[ROWS:-ROWS] + sums[: -2 * ROWS]))
    before, after = slice(place - ROWS, place), slice(place, place + ROWS)
    calm = _ordinary(loss[before]) and _ordinary(norm[before]) and not rose(rate[before])
    if not (calm and _is_jump(loss[before], loss[after])):
        return None
    return Jump(int(window["step"][place]), float(np.median(loss[before])), float(np.median(loss[after])))


def _is_jump(before: Floats, after: Floats) -> bool:
    """Whether two levels lie apart, the later one is reached at once, and the loss does not go on rising there."""
    lower, upper, last = np.median(before), np.median(after), np.median(before[-JUST:])
    apart = upper > WORSE * lower and np.quantile(after, APART) > np.quantile(before, 1 - APART)
    first_goes_far = after[0] - last >= FIRST * (np.quantile(after, 1 - APART) - last)
    at_once = first_goes_far and np.median(after[:JUST]) - last >= AT_ONCE * (upper - lower)
    rises = np.median(after[ROWS // 2 :]) > RISES * np.median(after[: ROWS // 2])
    return bool(apart and at_once and not rises)


def _ordinary(before: Floats) -> bool:
    """Whether the last rows are no higher than those before them were."""
    earlier, last = before[:-JUST], before[-JUST:]
    earlier, last = earlier[np.isfinite(earlier)], last[np.isfinite(last)]
    return not len(last) or (len(earlier) > 0 and bool(last.max() <= ORDINARY * earlier.max()))
