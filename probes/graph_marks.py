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
