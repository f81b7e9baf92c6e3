"""Facts of section B of the symptom table: said when first seen, then ever more rarely, and once when they no longer hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

ENOUGH_ABSENT = 8
"""Times in a row that a fact could have shown and did not, after which it is said to be gone."""


MOST_FACTS = 2000
"""With their keys: a loop may make ever new optimizers."""


class _Fact:
    __slots__ = ("absent", "last_step", "times")

    def __init__(self) -> None:
        self.times = 0
        self.absent = 0
        self.last_step = -1


class Facts:
    """What was seen of each fact, apart for each `key` (an optimizer's index, a loader, a line)."""

    def __init__(self, emit: Callable[..., None], step_now: Callable[[], int]) -> None:
        self._emit = emit
        self._step_now = step_now
        self._facts: dict[tuple[str, object], _Fact] = {}

    def seen(self, fact: str, key: object = None, **evidence: Any) -> None:
        """`fact` held now. Queued as an event at the 1st, 2nd, 4th, 8th … time. Evidence: numbers, names, `where`, `at_step`."""
        known = self._facts.get((fact, key))
        if known is None:
            if len(self._facts) >= MOST_FACTS:
                return
            known = self._facts[fact, key] = _Fact()
        known.times += 1
        known.absent = 0
        known.last_step = evidence.get("at_step", self._step_now())
        if known.times & (known.times - 1) == 0:
            self._emit("fact", fact=fact, times=known.times, **_with_key(key), **evidence)

    def absent(self, fact: str, key: object = None) -> None:
        """`fact` could have held now and did not."""
        known = self._facts.get((fact, key))
        if known is None or not known.times:
            return
        known.absent += 1
        if known.absent == ENOUGH_ABSENT:
            self.gone(fact, key)

    def gone(self, fact: str, key: object = None) -> None:
        """`fact` holds no more, which one look is enough to know."""
        known = self._facts.get((fact, key))
        if known is not None and known.times:
            self._emit("fact_gone", fact=fact, times=known.times, last_step=known.last_step, **_with_key(key))
            known.times = 0

    def times(self, fact: str, key: object = None) -> int:
        """How often in this stretch it held."""
        known = self._facts.get((fact, key))
        return 0 if known is None else known.times


def _with_key(key: object) -> dict[str, object]:
    return {} if key is None else {"key": key if isinstance(key, (int, str)) else repr(key)[:100]}
