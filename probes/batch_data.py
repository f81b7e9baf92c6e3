"""What a batch's tensors say of it: how many items a criterion averaged over, and whether two calls read the same data."""

from __future__ import annotations

import weakref
from typing import Any

import torch

from .losses import plain_tensor


def criterion_items(name: str, values: tuple[Any, ...], ignored: int | None = None) -> int:
    """Number of items that the criterion `name` averages over: rows of the target, for class indices every one of them but those that
    are `ignored` (padding), where they can be counted without waiting for a device."""
    if name == "ctc_loss" and len(values) > 3:
        lengths = values[3]
        return int(lengths.numel()) if isinstance(lengths, torch.Tensor) else len(lengths)
    target = values[1] if len(values) > 1 else None
    tensor = target if isinstance(target, torch.Tensor) else values[0]
    if not isinstance(tensor, torch.Tensor) or tensor.dim() == 0:
        return 1
    if tensor.is_floating_point():
        return int(tensor.shape[0])
    if ignored is not None and plain_tensor(tensor) and tensor.is_cpu:
        return int((tensor != ignored).sum())
    return int(tensor.numel())


Data = tuple["weakref.ref[torch.Tensor]", int]
"""The tensor that owns the memory a model reads, and the address: the same for all views of one batch."""


def data_of(inputs: tuple[Any, ...]) -> Data | None:
    """Of the first tensor among a model's inputs."""
    first: Any = inputs[0] if inputs else None
    if isinstance(first, (tuple, list)) and first:
        first = first[0]
    if not plain_tensor(first) or first.layout is not torch.strided:
        return None
    owner: torch.Tensor = first if first._base is None else first._base
    return weakref.ref(owner), first.data_ptr()


def same_data(one: Data | None, other: Data | None) -> bool:
    if one is None or other is None:
        return False
    return one[1] == other[1] and one[0]() is not None and one[0]() is other[0]()


def first_size(data: Any, depth: int = 0) -> float:
    """Rows of the first tensor in a batch, however it is nested; NaN when there is none."""
    if isinstance(data, torch.Tensor):
        return float(data.shape[0]) if data.dim() else 1.0
    if depth > 3:
        return float("nan")
    inside = data.values() if isinstance(data, dict) else data if isinstance(data, (list, tuple)) else ()
    for item in inside:
        size = first_size(item, depth + 1)
        if size == size:
            return size
    return float("nan")
