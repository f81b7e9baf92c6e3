"""Batches whose role has not shown yet: the next backward() tells which of them train, and that the others were evaluated."""

from __future__ import annotations

from typing import Any

from .evaluations import Batch
from .losses import noted_loss, plain_tensor

MOST = 10_000
MOST_NODES = 64
"""Of a graph that are looked at for the losses in a sum."""


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
        parts = _reached(root, batches)
        kind = (at_hand or batches[-1]).kind
        return [(batch, batch in parts or batch.kind == kind) for batch in batches]


def _reached(root: Any, batches: list[Batch]) -> list[Batch]:
    """Those of `batches` with a loss that is a part of `root`, a few operations behind it."""
    if isinstance(root, (tuple, list)):
        nodes = [tensor.grad_fn for tensor in root if plain_tensor(tensor)]
    else:
        nodes = [root.grad_fn] if plain_tensor(root) else []
    values = {id(loss.value): batch for batch in batches for loss in batch.losses}
    found: list[Batch] = []
    todo = [node for node in nodes if node is not None]
    for _ in range(MOST_NODES):
        if not todo:
            break
        node: Any = todo.pop(0)
        note = noted_loss(node)
        batch = values.get(id(note.root)) if note is not None else None
        if batch is not None:
            found.append(batch)
        if note is None:
            todo += [following for following, _ in node.next_functions if following is not None]
    return found
