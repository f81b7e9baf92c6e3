"""One DataLoader that is watched: what it is, what its batches were used for, and hashes of some of its rows."""

from __future__ import annotations

import weakref
from typing import Any

from .loader_description import attributes, describe_loader, gives_each_once, rows_a_pass, rows_dropped
from .loader_roles import TRAINING
from .same_samples import Reading
from .sample_overlap import TrainingRows, ValidationRows
from .where import Line

MOST_WAITING = 1024
FIRST_BATCHES = 64
"""Of a loader: rows of all of them are hashed, later those of one in eight."""
MANY_BATCHES, VERY_MANY_BATCHES = 1024, 4096
"""After which it is one in 16, and one in 64."""
NOTHING_NEW = 24
"""Batches in a row whose hashed rows were all known, after which it is one in 64 too: the whole set has been read, several times over
mostly. As before once there is a new one."""


class WatchedLoader:
    """One loader, from its first batch on."""

    def __init__(self, index: int, iterator: Any, sampler: weakref.ref[Any], where: Line | None) -> None:
        self.index = self.number = index
        self.sampler = sampler
        self.where = where
        "Where it was built, or where its batches are fetched."
        self.described = describe_loader(iterator)
        self.batch_size: int = self.described["batch_size"] or 0
        self.rows_a_pass = rows_a_pass(iterator)
        self.dropped = rows_dropped(self.described, self.rows_a_pass)
        self.reading = Reading(iterator)
        self.roles: set[str] = set()
        self.validation = ValidationRows()
        self.rows_seen = 0
        "In this pass."
        self.free: tuple[int, int] | None = None
        "Shared memory when it began."
        self.began = False
        self._gives_each_once = gives_each_once(iterator)
        self._in_first_pass = True
        self._iterator: weakref.ref[Any] | None = None
        self._yielded = 0
        "Batches of that iterator, when one was fetched last."
        self._batches = 0
        self._rows_trained = 0
        self._waiting: list[tuple[int, int]] = []
        self._rows_waiting = 0
        self._known_in_a_row = 0
        "Hashed batches that brought nothing new."

    @property
    def alike(self) -> tuple[Any, ...]:
        """Equal for loaders that the same line builds again and again."""
        return (self.where, *self.described.values())

    @property
    def share_trained(self) -> float:
        """Share of its rows among which those hashed for training were chosen; 1 where their number is not known."""
        return min(1.0, self._rows_trained / self.rows_a_pass) if self.rows_a_pass else 1.0

    def fetched(self, iterator: Any) -> None:
        """A batch came of `iterator`; some before it may not have been seen."""
        yielded = attributes(iterator).get("_num_yielded") or 0
        if yielded == 1:
            self.rows_seen = 0
        if self._iterator is None or self._iterator() is not iterator:
            self._in_first_pass = self._iterator is None
            self._iterator = weakref.ref(iterator)
        elif yielded <= self._yielded:
            self._in_first_pass = False
        self._yielded = yielded

    def chooses_batch(self) -> bool:
        """Whether rows of the next batch are to be hashed; scattered, so that another pass brings others."""
        self._batches += 1
        if self._batches <= FIRST_BATCHES:
            return True
        scattered = self._batches * 0x9E3779B1 >> 16
        if self._batches > VERY_MANY_BATCHES or self._known_in_a_row >= NOTHING_NEW:
            return scattered & 63 == 0
        return scattered & (7 if self._batches <= MANY_BATCHES else 15) == 0

    def wait(self, count: int, hashes: list[tuple[int, int]]) -> None:
        """Keep the hashes of a batch until it shows what the batch is for."""
        if len(self._waiting) < MOST_WAITING:
            self._waiting += [(self.rows_seen + place, value) for place, value in hashes]
            self._rows_waiting += count

    @property
    def waits(self) -> bool:
        """Whether there are rows of which it has not shown what they are for."""
        return self._rows_waiting > 0

    def settle(self, role: str, training: TrainingRows) -> None:
        """The batches kept so far were of `role`."""
        if role == TRAINING:
            if not training.full:
                self._rows_trained += self._rows_waiting
            once = self._in_first_pass and self._gives_each_once
            new = training.add(self._waiting, self._rows_waiting, self.index if once else None)
        else:
            new = self.validation.add(self._waiting, self._rows_waiting)
        if self._waiting:
            self._known_in_a_row = 0 if new else self._known_in_a_row + 1
        self.drop()

    def drop(self) -> None:
        """What the batches kept so far were for will not show."""
        self._waiting.clear()
        self._rows_waiting = 0

    def forget_training(self) -> None:
        """Another model has not been trained on it."""
        self.roles.discard(TRAINING)
        self._rows_trained = 0
        self.drop()
