"""Time short blocks of steps in turn, with something switched on and without it, inside one process.

The blocks come as plain, other, plain, other, plain …; of each two others, in random order, one has the thing switched on and one has
nothing switched on. Each is held against the mean of the plain blocks beside it, so that what the machine does meanwhile falls
on both, and the blocks in which nothing was switched on show what is left of it.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean, median

from tests.benchmarks.conditions import Condition
from tests.benchmarks.medians import Median, median_of

Clock = Callable[[], float]

LEAST_PAIRS = 6
"""The fewest for which the median has a 95 % interval."""
MOST_PAIRS = 400
SETTLE_STEPS = 2
"""Steps after each switch that are not timed: the first ones run code that the interpreter has not warmed to."""


@dataclass(frozen=True)
class Block:
    """What the steps of one block took."""

    mean_s: float
    median_s: float
    spared_s: float
    "Mean of the steps at which nothing was looked at; NaN where there were none."


@dataclass
class Alternation:
    """Blocks of two kinds, each with the mean of its two plain neighbours."""

    steps: int
    "In a block."
    on: list[tuple[Block, Block]] = field(default_factory=list)
    nothing: list[tuple[Block, Block]] = field(default_factory=list)

    @property
    def watched_steps(self) -> int:
        """Taken while on, those that were not timed included."""
        return len(self.on) * (self.steps + SETTLE_STEPS)

    def plain_s(self) -> float:
        """Of a step."""
        return median(beside.mean_s for _, beside in self.on + self.nothing)


def ratio(blocks: list[tuple[Block, Block]]) -> Median:
    """Step time over that of the plain neighbours."""
    return median_of([block.mean_s / beside.mean_s for block, beside in blocks])


def extra_s(blocks: list[tuple[Block, Block]]) -> Median:
    """Seconds a step above the plain neighbours."""
    return median_of([block.mean_s - beside.mean_s for block, beside in blocks])


def extra_of_most_s(blocks: list[tuple[Block, Block]]) -> Median:
    """The same of the middle step of each block: rare steps that take longer do not count."""
    return median_of([block.median_s - beside.median_s for block, beside in blocks])


def extra_of_spared_s(blocks: list[tuple[Block, Block]]) -> Median:
    """The same of the steps at which nothing was looked at, all of them."""
    return median_of([block.spared_s - beside.spared_s for block, beside in blocks if block.spared_s == block.spared_s])


def alternate(condition: Condition, steps: int, seconds: float, clock: Clock = time.perf_counter) -> Alternation:
    """Blocks of `steps` steps for about `seconds`. The condition is off before and after."""
    done = Alternation(steps)
    order = random.Random(0)
    ends = clock() + seconds
    before = _plain(condition, steps, clock)
    while len(done.on) < LEAST_PAIRS or (clock() < ends and len(done.on) < MOST_PAIRS):
        for is_on in order.sample((True, False), 2):
            if is_on:
                condition.on()
                block = time_block(condition.step, condition.loop.wait, steps, clock, condition.looked_at)
            condition.off()
            if not is_on:
                block = _plain(condition, steps, clock)
            after = _plain(condition, steps, clock)
            (done.on if is_on else done.nothing).append((block, _between(before, after)))
            before = after
    return done


def time_block(
    step: Callable[[], None],
    wait: Callable[[], None],
    steps: int,
    clock: Clock,
    looked_at: Callable[[], Collection[int]] = tuple,
) -> Block:
    """`looked_at()`: those of all the steps taken here, numbered from 0, that are unlike the others."""
    for _ in range(SETTLE_STEPS):
        step()
    wait()
    times = [clock()]
    for _ in range(steps):
        step()
        times.append(clock())
    wait()
    total_s = clock() - times[0]
    took, unlike = [later - earlier for earlier, later in pairwise(times)], looked_at()
    spared = [took_s for number, took_s in enumerate(took, SETTLE_STEPS) if number not in unlike]
    return Block(total_s / steps, median(took), fmean(spared) if spared else math.nan)


def steps_for(seconds: float, step_s: float, multiple_of: int = 1) -> int:
    """Steps that take about `seconds`, at least one whole round of `multiple_of`."""
    return max(1, math.ceil(seconds / step_s / multiple_of)) * multiple_of


def _plain(condition: Condition, steps: int, clock: Clock) -> Block:
    return time_block(condition.plain_step, condition.loop.wait, steps, clock)


def _between(a: Block, b: Block) -> Block:
    return Block((a.mean_s + b.mean_s) / 2, (a.median_s + b.median_s) / 2, (a.spared_s + b.spared_s) / 2)
