"""Samples that training and validation have in common by value: a sampled estimate from hashes of rows, bounded in memory."""

from __future__ import annotations

import math
from collections.abc import Collection

from .same_samples import EXAMPLES, Common

MOST_ROWS = 4096
ENOUGH_ROWS = 20
ENOUGH_SHARE = 0.05
ABOVE_CHANCE = 5


class OnePass:
    """Rows of a pass that gives each sample once: what comes twice in it are equal samples, which tell how often that is chance."""

    def __init__(self) -> None:
        self.times: dict[int, int] = {}
        self.rows = 0

    def add(self, value: int) -> None:
        self.rows += 1
        self.times[value] = self.times.get(value, 0) + 1

    def most_by_chance(self, pairs_compared: int) -> float:
        """Equal ones to allow for among so many pairs of rows, each of another sample: several times what was seen within this pass,
        and three standard deviations (Poisson) above it, so that a pass of few rows says little."""
        possible = self.rows * (self.rows - 1) / 2
        if not possible:
            return math.inf
        pairs = sum(times * (times - 1) // 2 for times in self.times.values())
        return max(ABOVE_CHANCE * pairs, pairs + 3 * math.sqrt(pairs) + 3) / possible * pairs_compared


class Rate:
    """Share of the rows of batches that were hashed. Both sides choose by content, so the one that chose less decides."""

    def __init__(self) -> None:
        self._hashed = self._rows = 0

    def add(self, hashed: int, rows: int) -> None:
        self._hashed += hashed
        self._rows += rows

    def value(self) -> float:
        return self._hashed / self._rows if self._hashed else 1.0


class TrainingRows:
    """Rows of which it is known that training read them."""

    def __init__(self) -> None:
        self.hashes: set[int] = set()
        self.rate = Rate()
        self.first_pass = OnePass()
        self._of: int | None = None
        "The loader whose pass that is."

    @property
    def full(self) -> bool:
        return len(self.hashes) >= MOST_ROWS

    def add(self, rows: Collection[tuple[int, int]], count: int, of: int | None = None) -> int:
        """`rows` were chosen among `count`; `of`: the loader, if this is its first pass and it gives each sample once. How many of them
        are new."""
        before = len(self.hashes)
        self.rate.add(len(rows), count)
        if of is not None and self._of is None:
            self._of = of
        for _, value in rows:
            if self.full:
                break
            self.hashes.add(value)
            if of is not None and of == self._of:
                self.first_pass.add(value)
        return len(self.hashes) - before


class ValidationRows:
    """Rows of one validation loader: of its first pass, where each sample comes once, so that what comes twice is a duplicate."""

    def __init__(self) -> None:
        self._places: dict[int, int] = {}
        self._first_pass = OnePass()
        self._rate = Rate()
        self._first_pass_over = False

    @property
    def full(self) -> bool:
        return len(self._places) >= MOST_ROWS

    def __len__(self) -> int:
        return len(self._places)

    def add(self, rows: Collection[tuple[int, int]], count: int) -> int:
        """`rows` as (place in the pass, hash), chosen among `count`. How many of them are new."""
        before = len(self._places)
        self._rate.add(len(rows), count)
        for place, value in rows:
            if self.full or (self._first_pass_over and value in self._places):
                continue
            self._places.setdefault(value, place)
            self._first_pass.add(value)
        return len(self._places) - before

    def pass_ended(self) -> None:
        self._first_pass_over = True

    def common(self, training: TrainingRows, training_seen: float) -> Common | None:
        """What training read too, if it is too much to be chance; `training_seen`: the share of the training rows seen so far, at most.

        Where many rows of one set equal each other (few discrete values), as many equal rows of both are no leak.
        """
        unique = [value for value, times in self._first_pass.times.items() if times == 1]
        found = [value for value in unique if value in training.hashes]
        if len(found) < ENOUGH_ROWS:
            return None
        pairs = self._first_pass.rows * len(training.hashes)
        by_chance = min(self._first_pass.most_by_chance(pairs), training.first_pass.most_by_chance(pairs))
        could_be_found = min(1.0, training.rate.value() / self._rate.value()) * max(training_seen, 1e-9)
        share = min(1.0, len(found) / len(unique) / could_be_found)
        if share <= ENOUGH_SHARE or len(found) <= by_chance:
            return None
        places = sorted(self._places[value] for value in found)
        return Common(len(found), len(unique), share, places[:EXAMPLES], "equal rows")
