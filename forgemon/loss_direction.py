"""Whether the loss trends down over a few steps, with the numbers, and too few steps to tell where the noise hides it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from forgemon.chunk import Rows
from forgemon.detectors.candidate import figure

Direction = Literal["down", "up", "none", "too few steps", "not visible"]

CERTAIN_Z = 2.58
"""Of the Mann-Kendall test: noise alone reaches it in one of a hundred runs, up and down together."""
MANY_STEPS = 500
"""From here on a trend that cannot be told from the noise is said to be none."""
MOST_POINTS = 300
NOISE = 1.4826 / math.sqrt(2)
"""Standard deviation of normal noise over the median absolute difference of neighbours."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LossDirection:
    """Where the loss went. Numbers are NaN where they are not visible."""

    direction: Direction
    sentence: str
    steps: int
    "Steps with a finite loss."
    first: float = math.nan
    "Median over the first third of the steps."
    last: float = math.nan
    "Median over the last third of the steps."
    noise: float = math.nan
    "Robust standard deviation from one step to the next, without the trend."


def loss_direction(rows: Rows) -> LossDirection:
    """Of the step rows of one run. Works on ranks alone, so that a single large batch loss decides nothing."""
    losses = rows["loss"].astype(np.float64)
    finite = np.isfinite(losses)
    if not finite.any():
        return LossDirection("not visible", "Whether the loss trends down is not visible: no finite loss was seen.", 0)
    optimizers = len(np.unique(rows["optimizer"]))
    if optimizers > 1:
        said = f"{optimizers} optimizers step in this loop, whose losses may work against each other: no trend is judged."
        return LossDirection("not visible", said, int(finite.sum()))
    return _judge(losses[finite], rows["step"][finite])


def _judge(losses: Floats, steps: npt.NDArray[np.int64]) -> LossDirection:
    count, third = len(losses), max(1, len(losses) // 3)
    first, last = float(np.median(losses[:third])), float(np.median(losses[-third:]))
    noise = _noise(losses)
    direction = _direction(losses, first, last)
    went = f"{figure(first)} ({_median_of(steps[:third])}) to {figure(last)} ({_median_of(steps[-third:])})"
    if count == 1:
        said = f"Too few steps to tell whether the loss trends down: it was {figure(first)} at the one step seen."
    elif losses.min() == losses.max():
        said = f"The loss does not move: {figure(first)} at each of {count} steps."
    elif direction in ("down", "up"):
        said = f"The loss trends {direction}: {went}; it varies by {figure(noise)} from step to step."
    elif direction == "none":
        said = f"The loss shows no trend over {count} steps: {went}; it varies by {figure(noise)} from step to step."
    else:
        said = (
            f"Too few steps to tell whether the loss trends down: {went}, and it varies by {figure(noise)} from step to step."
        )
    return LossDirection(direction, said, count, first, last, noise)


def _direction(losses: Floats, first: float, last: float) -> Direction:
    z = _mann_kendall(losses)
    if abs(z) >= CERTAIN_Z and (z < 0) == (last < first) and first != last:
        return "down" if z < 0 else "up"
    constant = len(losses) > 1 and losses.min() == losses.max()
    return "none" if len(losses) >= MANY_STEPS or constant else "too few steps"


def _mann_kendall(losses: Floats) -> float:
    """Standard score of the number of pairs that rise less those that fall: negative for a fall. Mann 1945, Kendall 1975."""
    if len(losses) > MOST_POINTS:
        losses = np.array([np.median(part) for part in np.array_split(losses, MOST_POINTS)])
    n = len(losses)
    i, j = np.triu_indices(n, 1)
    balance = float(np.sign(losses[j] - losses[i]).sum())
    spread = math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    return 0.0 if spread == 0 else (balance - math.copysign(min(1.0, abs(balance)), balance)) / spread


def _noise(losses: Floats) -> float:
    moves = np.diff(losses)
    return NOISE * float(np.median(np.abs(moves - np.median(moves)))) if len(moves) else math.nan


def _median_of(steps: npt.NDArray[np.int64]) -> str:
    first, last = int(steps[0]), int(steps[-1])
    return f"step {first}" if first == last else f"median of steps {first} to {last}"
