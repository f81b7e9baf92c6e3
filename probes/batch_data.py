"""What a batch's tensors say of it: how many items a criterion averaged over, and whether two calls read the same data."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
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


def summed_items(name: str, reduction: str, values: tuple[Any, ...]) -> float:
    """Over how many class indices the criterion summed, padding too; NaN where it took another reduction, or other targets."""
    target = values[1] if reduction == "sum" and len(values) > 1 else None
    if name == "ctc_loss" or not isinstance(target, torch.Tensor) or not plain_tensor(target) or target.is_floating_point():
        return float("nan")
    return float(target.numel())


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
    """Samples of a batch: rows of its first tensor, however it is nested, unless its samples were not stacked; NaN when neither."""
    if isinstance(data, torch.Tensor):
        return float(data.shape[0]) if data.dim() else 1.0
    if depth > 3:
        return float("nan")
    inside = data.values() if isinstance(data, dict) else data if isinstance(data, (list, tuple)) else ()
    unstacked = _unstacked(list(inside)) if depth == 0 and not isinstance(data, dict) else 0
    if unstacked:
        return float(unstacked)
    for item in inside:
        size = first_size(item, depth + 1)
        if size == size:
            return size
    return float("nan")


def _unstacked(parts: list[Any]) -> int:
    """Samples side by side, as detectors take them, since their images differ in size: dictionaries with the same keys, or what
    `zip(*samples)` makes of samples, sequences of one length. In neither do all parts have as many rows. 0 for anything else."""
    if parts and all(isinstance(part, dict) for part in parts):
        alike = all(part.keys() == parts[0].keys() for part in parts)
        return len(parts) if alike and _differ(parts[0].values()) else 0
    if len(parts) < 2 or not all(isinstance(part, (list, tuple)) and len(part) == len(parts[0]) for part in parts):
        return 0
    return len(parts[0]) if _differ(inner for part in parts for inner in part) else 0


def _differ(values: Iterable[Any]) -> bool:
    """Whether they are not all of as many rows: what is no tensor has none."""
    return len({first_size(value, 1) for value in values}) > 1
