"""exploding-gradients: the gradient norm grows by orders of magnitude, and the loss or the updates with it; or one of the first steps
throws the weights away."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from forgemon.chunk import Chunk, Rows
from forgemon.detectors.blocks import finite_median, finite_minimum
from forgemon.detectors.candidate import Candidate, figure
from forgemon.detectors.facts import Facts
from forgemon.detectors.norms import measured, norms_of
from forgemon.detectors.rates import rose
from forgemon.detectors.thrown_away import FirstSteps, ThrownAway
from forgemon.detectors.update_history import UpdateHistory

ROWS = 10
"""Rows of a block: an explosion may be over, in NaN, within a few dozen."""
GROWN = 100.0
"""Times the level before: two orders of magnitude, where the norms of healthy runs vary by one (measured)."""
CONFIRMED_BLOCKS = 3
QUARTILE = 4
"""The lowest quarter of the blocks so far: a slow growth must not lift the level that it is compared with."""
MOST_LEVELS = 400
WORSE = 1.3
"""The loss must be this much above where it began before it has followed: a restart or a harder task does not reach that."""
NOT_AT_BEST = 1.5
"""A loss that is this close to its best level is doing well, whatever the norms do: leaving a plateau raises them too."""
LARGE_UPDATES = 0.5
"""Median ratio of update to weight: healthy runs stay below 0.1, those with too high a rate above this (measured: 77 of 78)."""
FAST_UPDATES = 0.1
"""Before the growth: so much says that the steps were too large already."""
RETURNED_BLOCKS = 6


@dataclass(frozen=True)
class Block:
    first_step: int
    last_step: int
    norm: float
    "Median."
    loss: float
    "Median of the finite ones, NaN where none was seen."
    learning_rate: float
    first_loss: float
    lowest_loss: float
    clipped: bool


@dataclass
class Growth:
    """Blocks in a row far above the level before."""

    first_step: int
    level: float
    rate_rose: bool
    "In it or soon before it."
    last_step: int = -1
    blocks: int = 0
    peak: float = 0.0
    peak_loss: float = -math.inf
    clipped: bool = False
    loss_followed: bool = False
    missed: int = 0
    "Blocks in a row that were back."


class ExplodingGradients:
    """Statistical, of one optimizer. Off for losses below zero (RL, densities)."""

    symptoms: ClassVar[tuple[str, ...]] = ("exploding-gradients",)

    def __init__(self) -> None:
        self._pending: Rows | None = None
        self._levels: list[float] = []
        self._sorted: list[float] = []
        "The same, by size."
        self._every = 1
        self._count = 0
        self._first: Block | None = None
        self._untrained = math.nan
        self._best_loss = math.inf
        self._negative = False
        self._rates: list[float] = []
        "Of the newest blocks."
        self._growth: Growth | None = None
        self._found: Growth | None = None
        self._ratios = UpdateHistory()
        self._facts = Facts(("missing-zero-grad",))
        self._first_steps = FirstSteps()

    def feed(self, chunk: Chunk) -> None:
        self._facts.feed(chunk)
        for updates in chunk.updates:
            self._ratios.feed(updates)
        rows = measured(chunk.steps)
        if not len(rows):
            return
        self._first_steps.feed(rows)
        rows = rows if self._pending is None else np.concatenate([self._pending, rows])
        count = len(rows) // ROWS
        self._pending = rows[count * ROWS :].copy()
        for block in _blocks(rows[: count * ROWS], count):
            self._add(block)

    def _add(self, block: Block) -> None:
        first = self._first = self._first or block
        self._untrained = block.first_loss if math.isnan(self._untrained) else self._untrained
        self._negative = self._negative or block.lowest_loss < 0
        level = max(first.norm, self._sorted[len(self._sorted) // QUARTILE]) if self._sorted else first.norm
        growth = self._growth
        level = level if growth is None else growth.level
        near_best = block.loss <= NOT_AT_BEST * self._best_loss
        if block.norm > GROWN * level and not near_best:
            if growth is None:
                growth = self._growth = Growth(block.first_step, level, rose(np.array([*self._rates, block.learning_rate])))
            self._follow(growth, block, first)
        elif growth is not None:
            growth.missed += 1
            if growth.missed >= RETURNED_BLOCKS or growth.blocks < CONFIRMED_BLOCKS:
                self._growth = None
        self._best_loss = min(self._best_loss, block.loss if math.isfinite(block.loss) else math.inf)
        self._rates = [*self._rates, block.learning_rate][-5:]
        if self._growth is None and self._count % self._every == 0:
            self._levels.append(block.norm)
            bisect.insort(self._sorted, block.norm)
            if len(self._levels) >= MOST_LEVELS:
                self._levels, self._every = self._levels[::2], self._every * 2
                self._sorted = sorted(self._levels)
        self._count += 1

    def _follow(self, growth: Growth, block: Block, first: Block) -> None:
        growth.blocks += 1
        growth.missed = 0
        growth.last_step = block.last_step
        growth.peak = max(growth.peak, block.norm)
        growth.clipped = growth.clipped or block.clipped
        if block.loss > WORSE * max(self._untrained, first.loss):
            growth.loss_followed = True
            growth.peak_loss = max(growth.peak_loss, block.loss)
        if growth.blocks >= CONFIRMED_BLOCKS and (self._found is None or growth.loss_followed or not self._found.loss_followed):
            self._found = growth

    def candidates(self) -> list[Candidate]:
        found = self._found
        if self._negative:
            return []
        if found is None:
            thrown = self._first_steps.thrown_away(self._ratios)
            return [] if thrown is None else [self._thrown_away(thrown)]
        large = self._ratios.highest(found.first_step)
        stands = found is self._growth
        line = found.loss_followed or large > LARGE_UPDATES
        return [self._candidate(found, large, line and stands, stands)]

    def _thrown_away(self, found: ThrownAway) -> Candidate:
        jump = found.jump
        led_to_it = self._ratios.highest_before(jump.step) > FAST_UPDATES
        text = f"At step {jump.step} the gradient norm was {figure(jump.norm)}, {figure(jump.norm / jump.norm_before)} times as much as "
        text += f"ever before, with a loss of {figure(jump.loss)} after {figure(jump.loss_before)}; step {found.at_step} changed the "
        text += f"weights by {figure(found.ratio)} of themselves (median over {self._ratios.which}), so that nothing is left of them."
        evidence: dict[str, float | int | str] = {
            "gradient_norm": jump.norm,
            "gradient_norm_before": jump.norm_before,
            "loss": jump.loss,
            "loss_before": jump.loss_before,
            "update_to_weight": found.ratio,
            "update_step": found.at_step,
        }
        return Candidate(
            symptom="exploding-gradients",
            cause="learning-rate-too-high" if led_to_it else "no-clipping",
            level="alarm",
            first_step=jump.step,
            last_step=jump.step,
            summary=text,
            refute="The same jump with gradients clipped to the norm of the step before."
            if not led_to_it
            else "The same jump with a tenth of the learning rate.",
            evidence=evidence,
            stands=False,
        )

    def _candidate(self, found: Growth, ratio: float, alarm: bool, stands: bool) -> Candidate:
        text = f"From step {found.first_step} on the gradient norm grew from {figure(found.level)} to {figure(found.peak)}, "
        text += f"{figure(found.peak / found.level)} times as much"
        text += " (before clipping)" if found.clipped else ""
        if found.loss_followed:
            text += f", and the loss followed, to {figure(found.peak_loss)} from the {figure(self._untrained)} it began with"
        elif alarm:
            text += f", and the updates with it, to {figure(ratio)} of the weights in one step"
        evidence: dict[str, float | int | str] = {
            "level_before": found.level,
            "peak_gradient_norm": found.peak,
            "blocks": found.blocks,
            "clipped": "yes" if found.clipped else "no",
        }
        if found.loss_followed:
            evidence |= {"first_loss": self._untrained, "peak_loss": found.peak_loss}
        if math.isfinite(ratio):
            evidence["update_to_weight"] = ratio
        return Candidate(
            symptom="exploding-gradients",
            cause=self._cause(found),
            level="alarm" if alarm else "watch",
            first_step=found.first_step,
            last_step=found.last_step,
            summary=text + "." + ("" if stands else f" It stood until step {found.last_step}."),
            refute="Norms that come back by themselves while the loss goes on falling.",
            evidence=evidence,
            stands=stands,
        )

    def _cause(self, found: Growth) -> str:
        if any(seen.last_step >= found.first_step or seen.stands for seen in self._facts.of("missing-zero-grad")):
            return "missing-zero-grad"
        too_fast = self._ratios.highest_before(found.first_step) > FAST_UPDATES
        if found.rate_rose or too_fast:
            return "learning-rate-too-high"
        return "unknown" if found.clipped else "no-clipping"


def _blocks(rows: Rows, count: int) -> list[Block]:
    if not count:
        return []
    norms, steps = norms_of(rows).reshape(count, ROWS), rows["step"].reshape(count, ROWS)
    loss = rows["loss"].astype(np.float64).reshape(count, ROWS)
    finite = np.isfinite(loss)
    first = loss[
        np.arange(count), np.argmax(finite, axis=1)
    ]  # NaN or inf where none is finite: it is looked for in the next block
    first = np.where(finite.any(axis=1), first, np.nan)
    rates = finite_median(rows["learning_rate"].astype(np.float64).reshape(count, ROWS))
    clipped = np.isfinite(rows["gradient_norm_before_clip"]).reshape(count, ROWS).any(axis=1)
    middle = (np.median(norms, axis=1), finite_median(loss), rates, first, finite_minimum(loss), clipped)
    columns = (steps[:, 0], steps[:, -1], *middle)
    return [Block(*values) for values in zip(*(c.tolist() for c in columns), strict=True)]
