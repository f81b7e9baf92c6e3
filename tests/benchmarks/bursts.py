"""What it takes to look at a step, told from the steps beside it that are not observed.

At the default budget a step in ten or a hundred is looked at, so that whole blocks differ by less than the machine's noise. A burst
of observed steps and the steps right before and after it differ by all that a look takes, and meet the same noise. What passes in the
loop for each second of our own clock, times what that clock counts in all, is the cost of the whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from probes.guard import AWAKE
from tests.benchmarks.conditions import Probes
from tests.benchmarks.medians import Median, median_of

NEAR = 8
"""Steps not observed, before a burst and after it, that it is held against; what our clock says of their rows of the loss is taken off."""
AFTER = 1
"""Steps after a burst that still belong to it: the loop finds its data pushed out of the caches."""


@dataclass(frozen=True)
class Step:
    """One step of the loop, as the clock outside sees it and ours inside."""

    took_s: float
    spent_s: float
    "In our callbacks."
    is_observed: bool
    "In full."
    begins_epoch: bool = False


@dataclass(frozen=True)
class Bursts:
    """Of one stretch without pauses."""

    extra_s: Median
    "That a burst takes longer than as many of its neighbours."
    nothing_s: Median
    "The same of steps right before it that were not observed."
    factor: Median
    "Seconds that the loop takes longer for each second of our clock."
    ratio: Median
    "Step time of the whole over that without us, with what the hooks of steps slept through are thought to take."


def follow(condition: Probes, seconds: float, clock: Callable[[], float] = time.perf_counter) -> list[Step]:
    """Steps for about `seconds`, with the condition on."""
    guard, found = condition.session.guard, []
    ends = clock() + seconds
    began = clock()
    while began < ends:
        mode, spent_s, epochs = guard.mode, guard.spent_s, condition.loop.epochs
        condition.step()
        now = clock()
        found.append(Step(now - began, guard.spent_s - spent_s, mode == AWAKE, condition.loop.epochs != epochs))
        began = now
    return found


def bursts(steps: Sequence[Step], asleep_share: float) -> Bursts | None:
    """`asleep_share` of the time goes into the hooks of steps slept through. None where there are no bursts with steps beside them."""
    extra, nothing, factors = [], [], []
    for place in _places(steps):
        whole = range(place.start, min(place.stop + AFTER, len(steps)))
        before = _beside(steps, range(place.start - 1, -1, -1))
        after = _beside(steps, range(whole.stop, len(steps)))
        if min(len(before), len(after)) < NEAR or any(steps[i].begins_epoch for i in whole):
            continue
        beside_s = [_plain_s(steps[i]) for i in (*before, *after)]
        extra.append(sum(steps[i].took_s for i in whole) - len(whole) * median(beside_s))
        factors.append(extra[-1] / sum(steps[i].spent_s for i in whole))
        nearest_s = [_plain_s(steps[i]) for i in before[: len(whole)]]
        nothing.append(sum(nearest_s) - len(whole) * median(beside_s[len(whole) :]))
    if not factors:
        return None
    factor = median_of(factors)
    spent_s = sum(step.spent_s for step in steps)
    share = spent_s / (sum(step.took_s for step in steps) - spent_s)
    value, low, high = (1 + asleep_share + share * bound for bound in (factor.value, factor.low, factor.high))
    return Bursts(median_of(extra), median_of(nothing), factor, Median(value, low, high, factor.count))


def _places(steps: Sequence[Step]) -> list[range]:
    """Observed steps in a row."""
    found, start = [], 0
    while start < len(steps):
        end = start
        while end < len(steps) and steps[end].is_observed:
            end += 1
        if end > start:
            found.append(range(start, end))
        start = end + 1
    return found


def _beside(steps: Sequence[Step], places: range) -> list[int]:
    """The first of `places` that were not observed, and in which no epoch began: that takes time by itself."""
    others = (i for i in places if not (steps[i].is_observed or steps[i].begins_epoch))
    return [place for place, _ in zip(others, range(NEAR), strict=False)]


def _plain_s(step: Step) -> float:
    return step.took_s - step.spent_s
