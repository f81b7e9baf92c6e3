"""Whether tensors are finite, as their largest absolute values: NaN or inf exactly where an entry is not finite. No wait for a device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from .losses import plain_tensor

INFINITY = math.inf
DEPTH = 3
MOST_TENSORS = 16

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Of which norms can be taken as they are; float8 cannot."""


def largest(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """A 0-dim tensor for each, in their order: that of the local shard, and of the stored values of a sparse one."""
    found: list[torch.Tensor] = []
    groups: dict[tuple[torch.device, torch.dtype], list[int]] = {}
    values = [_values(tensor) for tensor in tensors]
    for position, value in enumerate(values):
        found.append(torch.zeros((), device=value.device))
        if value.numel():
            groups.setdefault((value.device, value.dtype), []).append(position)
    with torch.no_grad():
        for (_, dtype), positions in groups.items():
            for position, norm in zip(positions, _norms([values[p] for p in positions], dtype), strict=True):
                found[position] = norm
    return found


def _norms(values: list[torch.Tensor], dtype: torch.dtype) -> Sequence[torch.Tensor]:
    if dtype in _FLOATS:
        return torch._foreach_norm(values, INFINITY)
    return [torch.linalg.vector_norm(v if v.is_complex() else v.float(), INFINITY) for v in values]


def _values(tensor: torch.Tensor) -> torch.Tensor:
    local: Any = getattr(tensor, "_local_tensor", None)  # DTensor
    value = (tensor if local is None else local).detach()
    return value._values() if value.layout is torch.sparse_coo else value


def largest_of_each_row(tensor: torch.Tensor) -> torch.Tensor:
    """One number for each sample of a batch."""
    value = tensor.detach()
    with torch.no_grad():
        value = value if value.is_complex() or value.dtype in _FLOATS else value.float()
        if value.dim() < 2:
            return value.abs().reshape(-1)
        rows: torch.Tensor = torch.linalg.vector_norm(value, INFINITY, dim=tuple(range(1, value.dim())))
        return rows


def first_bad(rows: Sequence[float]) -> int | None:
    """Position of the first that is not finite."""
    return next((position for position, value in enumerate(rows) if not math.isfinite(value)), None)


def float_tensors(data: Any, depth: int = 0) -> list[torch.Tensor]:
    """The tensors in a batch that can hold a NaN, however it is nested; nothing but plain containers is entered."""
    if plain_tensor(data):
        return (
            [data] if (data.is_floating_point() or data.is_complex()) and data.layout is torch.strided and data.numel() else []
        )
    if depth >= DEPTH:
        return []
    kind = type(data)
    inside = data.values() if issubclass(kind, dict) and kind.values is dict.values else ()
    if kind in (list, tuple) or (issubclass(kind, tuple) and kind.__iter__ is tuple.__iter__):
        inside = data
    found: list[torch.Tensor] = []
    for item in inside:
        found += float_tensors(item, depth + 1)
        if len(found) >= MOST_TENSORS:
            break
    return found[:MOST_TENSORS]
