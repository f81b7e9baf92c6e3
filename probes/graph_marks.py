"""Whether the graph of a tensor still lives, without keeping it alive: a mark in a node's metadata lives as long as the node."""

from __future__ import annotations

import weakref
from typing import Any

import torch


class Mark:
    """What stands in the metadata."""

    __slots__ = ("__weakref__",)


def mark_graph(key: str, *tensors: torch.Tensor) -> weakref.ref[Mark]:
    """Mark the nodes that the tensors come from under `key`; one that is marked already stays so. The mark of the last one, which is
    dead at once where it has no graph."""
    mark = Mark()
    for tensor in tensors:
        if tensor.grad_fn is not None:
            notes: Any = tensor.grad_fn.metadata
            mark = notes.setdefault(key, mark)
    return weakref.ref(mark)


SCALINGS = frozenset({"MulBackward0", "DivBackward0"})
MOST_SCALINGS = 3
"""A loss scale, a division by the micro-batches, a weight."""


def mark_unscaled(key: str, root: torch.Tensor) -> weakref.ref[Mark]:
    """As `mark_graph`, of the node behind those that multiply `root` by a number or divide it by one: it lives as long as the loss
    does from which `root` was computed."""
    mark, node = Mark(), root.grad_fn
    for _ in range(MOST_SCALINGS):
        inputs = [following for following, _ in node.next_functions if following is not None] if node is not None else []
        if node is None or type(node).__name__ not in SCALINGS or len(inputs) != 1:
            break
        node = inputs[0]
    if node is not None:
        notes: Any = node.metadata
        mark = notes.setdefault(key, mark)
    return weakref.ref(mark)
