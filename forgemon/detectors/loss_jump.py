"""Where the loss went to another level from one row to the next: weights that ordinary steps changed cannot do that, other data can."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forgemon.detectors.blocks import ROWS, Block, Floats

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
RATE_ROSE = 1.3


@dataclass(frozen=True)
class Jump:
    step: int
    "The first row at the later level."
    before: float
    "Median loss of the ROWS rows before."
    after: float
    "And of the ROWS rows from it on."


def jump_in(blocks: list[Block]) -> Jump | None:
    """The largest jump upwards in the middle of BLOCKS neighbouring blocks; None where there is none."""
    if len(blocks) < BLOCKS or not min(b.loss for b in blocks[2:]) > WORSE * blocks[0].loss > 0:
        return None
    loss, norm, rate = (
        np.concatenate([getattr(b.rows, name) for b in blocks]) for name in ("loss", "gradient_norm", "learning_rate")
    )
    sums = np.concatenate([[0.0], np.cumsum(loss)])
    place = ROWS + int(np.argmax(sums[2 * ROWS :] - 2 * sums[ROWS:-ROWS] + sums[: -2 * ROWS]))
    before, after = slice(place - ROWS, place), slice(place, place + ROWS)
    calm = _ordinary(loss[before]) and _ordinary(norm[before]) and rate[place - 1] <= RATE_ROSE * rate[before].min()
    if not (calm and _is_jump(loss[before], loss[after])):
        return None
    step = int(np.concatenate([b.rows.step for b in blocks])[place])
    return Jump(step, float(np.median(loss[before])), float(np.median(loss[after])))


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
