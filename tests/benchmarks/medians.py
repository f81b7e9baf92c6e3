"""The median of a sample and a 95 % interval for it that supposes nothing of how the sample is distributed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

OUTSIDE = 0.025
"""Probability that the true median lies below the interval, and that it lies above."""


@dataclass(frozen=True)
class Median:
    """A median with the interval that holds the true one in at least 95 of 100 samples of this size."""

    value: float
    low: float
    high: float
    count: int
    "Size of the sample; below 6 no such interval exists, and low and high are infinite."


def median_of(sample: Sequence[float]) -> Median:
    """Order statistics: how many of n values lie below the true median is binomial with p = 1/2. ValueError for none."""
    if not sample:
        raise ValueError("no values")
    ordered, count = sorted(sample), len(sample)
    rank = interval_rank(count)
    low, high = (ordered[rank - 1], ordered[count - rank]) if rank else (-math.inf, math.inf)
    return Median(median(ordered), low, high, count)


def interval_rank(count: int) -> int:
    """Largest k for which the k-th smallest and the k-th largest of `count` values bound the median; 0 where none do."""
    below, rank = 0.0, 0
    while True:
        below += math.comb(count, rank) / 2**count  # P(at most `rank` values lie below the true median)
        if below > OUTSIDE:
            return rank
        rank += 1
