"""Whether the graph of a tensor still lives, without keeping it alive: a mark in a node's metadata lives as long as the node."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
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
    mark = Mark()
    if root.grad_fn is not None:
        *_, node = down_the_scalings(root.grad_fn)
        mark = node.metadata.setdefault(key, mark)
    return weakref.ref(mark)


def down_the_scalings(node: Any) -> Iterator[Any]:
    """The node, and those behind it as long as it only multiplies by a number or divides by one."""
    yield node
    for _ in range(MOST_SCALINGS):
        if type(node).__name__ not in SCALINGS:
            return
        inputs = [following for following, _ in node.next_functions if following is not None]
        if len(inputs) != 1:
            return
        node = inputs[0]
        yield node
