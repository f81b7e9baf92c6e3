"""Whether the optimizer that paces the probes rests, or only waits for its turn among many."""

from __future__ import annotations

MOST_OTHERS = 50
"""Steps of others in a row after which it is taken to rest: all of them where few live, else those of optimizers that had stepped
already since."""
ROUNDS, MANY_OTHERS = 2, 500
"""Rounds of all that live, where many take turns (one for each parameter, or for each model of an ensemble); and steps, at most."""


class Turns:
    """Steps of other optimizers since the newest one of the main optimizer."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._steps = self._again = 0

    def stepped(self, other: int) -> None:
        """`other` is any number that tells one optimizer from another."""
        self._steps += 1
        if other in self._seen:
            self._again += 1
        else:
            self._seen.add(other)

    def main_rests(self, living: int) -> bool:
        """Of `living` optimizers the main one would have had its turn by now."""
        return self._again >= MOST_OTHERS or self._steps >= min(max(MOST_OTHERS, ROUNDS * living), MANY_OTHERS)

    def clear(self) -> None:
        """The main one stepped, or is another one now."""
        if self._steps:
            self._seen.clear()
            self._steps = self._again = 0
