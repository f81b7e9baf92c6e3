"""What it takes to look at a step, told from the steps beside it that are slept through.

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
"""Steps slept through, before a burst and after it, that it is held against."""
FAR = 60
"""Steps from it that they are at most."""
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

    @property
    def is_slept_through(self) -> bool:
        return not self.spent_s


@dataclass(frozen=True)
class Bursts:
    """Of one stretch without pauses."""

    extra_s: Median
    "That a burst takes longer than as many of its neighbours."
    nothing_s: Median
    "The same of steps slept through, in their place."
    factor: Median
    "Seconds that the loop takes longer for each second of our clock."
    ratio: Median
    "Step time over that of the steps slept through, with what their own hooks are thought to take."


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
        before = _asleep(steps, range(place.start - 1, max(0, place.start - FAR), -1))
        after = _asleep(steps, range(whole.stop, min(len(steps), whole.stop + FAR)))
        if min(len(before), len(after)) <= len(whole):
            continue
        extra.append(_extra_s(steps, whole, [*before, *after]))
        nothing.append(_extra_s(steps, before[: len(whole)], [*before[len(whole) :], *after]))
        factors.append(extra[-1] / sum(steps[i].spent_s for i in place))
    if not factors:
        return None
    factor = median_of(factors)
    spent_s = sum(step.spent_s for step in steps)
    share = spent_s / (sum(step.took_s for step in steps) - spent_s)
    value, low, high = (1 + asleep_share + share * bound for bound in (factor.value, factor.low, factor.high))
    return Bursts(median_of(extra), median_of(nothing), factor, Median(value, low, high, factor.count))


def _places(steps: Sequence[Step]) -> list[range]:
    """Stretches of steps in which our clock ran, some of them observed. None in which an epoch begins, which takes time by itself."""
    found, start = [], 0
    while start < len(steps):
        end = start
        while end < len(steps) and not steps[end].is_slept_through:
            end += 1
        stretch = steps[start:end]
        if any(step.is_observed for step in stretch) and not any(step.begins_epoch for step in stretch):
            found.append(range(start, end))
        start = end + 1
    return found


def _extra_s(steps: Sequence[Step], these: Sequence[int], beside: Sequence[int]) -> float:
    """What `these` take above as many of those `beside` them."""
    return sum(steps[i].took_s for i in these) - len(these) * median(steps[i].took_s for i in beside)


def _asleep(steps: Sequence[Step], places: range) -> list[int]:
    """The first of `places` that were slept through, and not right after one that was looked at."""
    quiet = (i for i in places if steps[i].is_slept_through and i and steps[i - 1].is_slept_through)
    return [place for place, _ in zip(quiet, range(NEAR), strict=False)]
