"""Batches whose role has not shown yet: the next backward() tells which of them train, and that the others were evaluated."""

from __future__ import annotations

from typing import Any

from .evaluations import Batch, reached

MOST = 10_000


class Undecided:
    """Those before the batch at hand, in the order in which they came."""

    def __init__(self) -> None:
        self._batches: list[Batch] = []

    def __bool__(self) -> bool:
        return bool(self._batches)

    def add(self, batch: Batch) -> None:
        if len(self._batches) < MOST:
            self._batches.append(batch)

    def take(self) -> list[Batch]:
        """All of them; none is left."""
        batches, self._batches = self._batches, []
        return batches

    def decided(self, root: Any, at_hand: Batch | None) -> list[tuple[Batch, bool]]:
        """All of them, each with whether it trains, now that backward() was called on `root`: those do whose loss is a part of it,
        and those of the kind of the batch at hand, or of the newest where there is none."""
        batches = self.take()
        if not batches:
            return []
        parts = reached(root, batches)
        kind = (at_hand or batches[-1]).kind
        return [(batch, batch in parts or batch.kind == kind) for batch in batches]
