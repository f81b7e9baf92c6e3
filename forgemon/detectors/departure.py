"""A loss that leaves its best level: blocks against the best one, and the second lines of evidence that make it a fault.

One statistical line, the climb itself, is what a harder task or other data look like too. A fault needs one of these beside it:

- worse than untrained: the loss is well above where it began before it learned, the gradients have grown with it, and it goes
  on rising: after a change of data a loss jumps at once and then falls, with steps that overshoot it keeps climbing;
- runaway: loss and gradient norm grow together from block to block, by more than an order of magnitude;
- worse from the start: every row of eight blocks lies far above the very first one, and so do the gradients. The first row may
  have been low by luck, so this is something to watch until more evidence comes;
- dead: the loss is back where it began and gradients that were alive are exactly zero (judged by the detector, which sees them).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from forgemon.detectors.blocks import Block, Floats, slope
from forgemon.detectors.rates import ROSE

Line = Literal["worse than untrained", "runaway", "worse from the start"]

LEARNED = 2.0
"""The loss must have fallen to 1/LEARNED of its first level before that counts as the untrained one."""
WORSE = 1.3
GROWN = 3.0
RISE = 1.5
RUNAWAY = 10.0
OUTLIER = 3.5
CONFIRMED_BLOCKS = 2
CLIMB_BLOCKS = 3
MOST_SINCE = 40
MOST_ENDED = 64
START_BLOCKS = 8
START_RISE = 3.0
ZIG_ZAG = 0.4
"""Share of turning points above which a curve jumps to and fro: a smooth climb has none, pure noise 2/3."""
RETURNED_BLOCKS = 4


@dataclass(frozen=True)
class First:
    """The very first row with a finite loss."""

    step: int
    loss: float
    gradient_norm: float


@dataclass
class Departure:
    """Blocks in a row above the best level."""

    first_step: int
    best: Block
    "The level it left."
    peak: float
    since: list[Block] = field(default_factory=list)
    "The newest MOST_SINCE blocks, but for the first, in which a change of data would lie."
    blocks: int = 0
    last_step: int = 0
    swings: int = 0
    "Blocks whose own spread is far above that of the best one, zig-zagging and not climbing smoothly."
    line: Line | None = None
    thrown: bool = False
    "Whether the update that drove it away must be one before it."


def far_above(block: Block, level: Block, initial: float, blocks: int) -> bool:
    """Above the best of `blocks` noisy ones by more than chance, and by a fifth of what had been achieved.

    The lowest of n equal levels lies about sqrt(2 ln n) standard errors below their mean. Where every row of the block lies that
    far above, its spread, which grows with an oscillation, does not matter.
    """
    if block.lowest_loss > max(1.1 * level.loss, level.loss + 0.2 * max(initial - level.loss, 0.0)):
        return True
    errors = 3 + math.sqrt(2 * math.log(max(blocks, 2)))
    return (
        block.loss > level.loss + errors * math.hypot(block.error, level.error)
        and block.loss > level.loss + 0.2 * max(initial - level.loss, 0.0)
        and block.loss > 1.1 * level.loss
    )


class Departures:
    """Follows the blocks of one run; remembers the departure that goes on and the first one that was confirmed."""

    def __init__(self) -> None:
        self.count = 0
        self.initial: Block | None = None
        self.any_negative = False
        self.now: Departure | None = None
        "From the best level of all."
        self.fair: Departure | None = None
        "From the best level that the present learning rate has reached."
        self.ended: list[Departure] = []
        "The first MOST_ENDED from the best level of all that have come back."
        self.confirmed: Departure | None = None
        self._since_start: Departure | None = None
        self._first_is_lowest = False
        self._quiet_blocks = 0
        self._best_by_rate: dict[int, Block] = {}
        self._previous: list[Block] = []
        self._grown_blocks = 0

    def feed(self, block: Block, first: First) -> None:
        self.count += 1
        block = self._with_gradients(block)
        self.any_negative = self.any_negative or block.loss < 0
        if self.initial is None:
            self.initial = block
        rate = _rate_bin(block.learning_rate)
        best = min(self._best_by_rate.values(), key=lambda b: b.loss, default=block)
        fair = min((b for r, b in self._best_by_rate.items() if r >= rate - 1), key=lambda b: b.loss, default=block)
        before = self.now
        self.now = self._follow(self.now, block, best)
        if self.now is None and before is not None and len(self.ended) < MOST_ENDED:
            self.ended.append(before)
        self.fair = self._follow(self.fair, block, fair)
        self._confirm(block, max(self.initial.loss, first.loss))
        self._judge_start(block, first)
        known = self._best_by_rate.get(rate)
        if (known is None or block.loss < known.loss) and (known is not None or len(self._best_by_rate) < 500):
            self._best_by_rate[rate] = block
        self._previous = [*self._previous, block][-3:]

    def _with_gradients(self, block: Block) -> Block:
        """Most rows may have the loss alone: a block without gradients is taken to have those of the block before it."""
        if not math.isnan(block.gradient_norm) or not self._previous:
            return block
        before = self._previous[-1]
        return replace(block, gradient_norm=before.gradient_norm, lowest_gradient_norm=before.lowest_gradient_norm)

    def _follow(self, departure: Departure | None, block: Block, best: Block) -> Departure | None:
        assert self.initial is not None
        level = best if departure is None else departure.best
        if not far_above(block, level, self.initial.loss, self.count):
            return None
        if departure is None:
            departure = Departure(block.first_step, best, block.loss)
        else:
            departure.since = [*departure.since, block][-MOST_SINCE:]
        departure.blocks += 1
        departure.last_step = block.last_step
        departure.peak = max(departure.peak, block.loss)
        departure.swings += _swings(block, best)
        return departure

    def _confirm(self, block: Block, untrained: float) -> None:
        """Looks for a second line of evidence; once there is one, follows until when it stands."""
        now = self.now
        if self.confirmed is not None:
            self._follow_confirmed(self.confirmed, block)
            if self.confirmed.line != "worse from the start":
                return
        if now is None:
            return
        learned = untrained >= LEARNED * now.best.loss
        grown = block.gradient_norm >= GROWN * now.best.gradient_norm
        worse = learned and grown and block.loss > WORSE * untrained
        self._grown_blocks = self._grown_blocks + 1 if worse else 0
        far = block.loss > RUNAWAY * untrained and block.gradient_norm > RUNAWAY * now.best.gradient_norm
        rising = _goes_on_rising(now.since) or (far and not _heals(now.since))
        if self._grown_blocks >= CONFIRMED_BLOCKS and rising:
            self._confirmed(now, "worse than untrained")
        elif now.blocks >= 3 and self.fair is not None and self._runs_away(block, self.fair.best):
            self._confirmed(now, "runaway")

    def _confirmed(self, departure: Departure, line: Line) -> None:
        self.confirmed = replace(departure, line=line)

    def _follow_confirmed(self, found: Departure, block: Block) -> None:
        assert self.initial is not None
        if found.line == "worse from the start":
            above = block.loss > START_RISE * found.best.loss
        else:
            above = far_above(block, found.best, self.initial.loss, self.count)
        self._quiet_blocks = 0 if above else self._quiet_blocks + 1
        if above:
            found.blocks += 1
            found.last_step = block.last_step
            found.peak = max(found.peak, block.loss)
            found.swings += _swings(block, found.best)

    @property
    def stands(self) -> bool:
        """Whether what was confirmed has not returned to its best level since. A swing back for a block or two is no return."""
        return self._quiet_blocks < RETURNED_BLOCKS

    def _runs_away(self, block: Block, best: Block) -> bool:
        blocks = [*self._previous[-2:], block]
        rising = all(
            later.loss > RISE * earlier.loss and later.gradient_norm > RISE * earlier.gradient_norm
            for earlier, later in itertools.pairwise(blocks)
        )
        far = block.loss > RUNAWAY * best.loss and block.gradient_norm > RUNAWAY * best.gradient_norm
        return len(blocks) == 3 and rising and far

    def _judge_start(self, block: Block, first: First) -> None:
        """Is every row since the first one far above it?"""
        if self.count == 1:  # this block holds the first row itself
            self._first_is_lowest = block.lowest_loss >= first.loss
            return
        if self.confirmed is not None or not self._first_is_lowest or (self.count > 2 and self._since_start is None):
            return
        if not _above_first(block, first):
            self._since_start = None
            return
        start = self._since_start = self._since_start or Departure(block.first_step, _level_of(first), block.loss)
        start.blocks += 1
        start.last_step = block.last_step
        start.peak = max(start.peak, block.loss)
        start.swings += block.turns > ZIG_ZAG
        if start.blocks >= START_BLOCKS:
            self._confirmed(start, "worse from the start")


def _above_first(block: Block, first: First) -> bool:
    """Every row of the block. The first row may be low by luck, and for small batches very low: its rank is what counts."""
    if not (block.loss > 0 and first.loss > 0 and first.gradient_norm > 0):
        return False
    clear = block.lowest_loss > START_RISE * first.loss and block.lowest_gradient_norm > 2 * first.gradient_norm
    return clear and math.log(block.loss / first.loss) > OUTLIER * block.log_spread


def _level_of(first: First) -> Block:
    nan = math.nan
    return Block(first.step, first.step, first.loss, 0.0, nan, 0.0, first.gradient_norm, nan, first.loss, first.gradient_norm)


def _goes_on_rising(since: list[Block]) -> bool:
    """Whether the loss rose again after it had left, by more than noise, and does not fall on the whole."""
    if len(since) < CLIMB_BLOCKS:
        return False
    lowest = since[0]
    for block in since[1:]:
        if block.loss > RISE * lowest.loss and block.loss > lowest.loss + 4 * math.hypot(block.error, lowest.error):
            return slope(_logs(since)) >= 0
        lowest = min(lowest, block, key=lambda b: b.loss)
    return False


def _heals(since: list[Block]) -> bool:
    """Whether the loss is on its way back, as after a change of data; True too while there are too few blocks to say."""
    return len(since) < CLIMB_BLOCKS or slope(_logs(since)) < -0.02 or since[-1].loss < 0.7 * max(b.loss for b in since)


def _logs(blocks: list[Block]) -> Floats:
    return np.log([max(b.loss, 1e-300) for b in blocks])


def _swings(block: Block, best: Block) -> bool:
    return block.turns > ZIG_ZAG and block.error > 3 * best.error


def _rate_bin(rate: float) -> int:
    return math.floor(math.log(rate) / math.log(ROSE)) if rate > 0 and math.isfinite(rate) else -10_000
