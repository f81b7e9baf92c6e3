"""Per-parameter gradient norms as the optimizer is about to use them: one `_foreach_norm` a device and dtype, no host copy here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch

from .record import MOST_TABLES

Scalars = tuple[list[int], list[torch.Tensor]]
"""Indices of the parameters that have a gradient, and a 0-dim norm for each."""


def gradient_norms(parameters: Sequence[torch.Tensor]) -> Scalars:
    """2-norms of `p.grad`, in float32 at least, for the parameters that have one. Sharded tensors give their local shard's norm."""
    gradients = [parameter.grad for parameter in parameters]
    alike = _alike(gradients)
    if alike:
        return list(range(len(alike))), _norms(alike, alike[0].dtype)
    return _norms_by_kind(gradients)


def _alike(gradients: Sequence[torch.Tensor | None]) -> list[torch.Tensor]:
    """All of them, where they are plain tensors of one device and dtype, as they mostly are; else none."""
    found: list[torch.Tensor] = []
    kinds = set()
    for gradient in gradients:
        if type(gradient) is not torch.Tensor or gradient.is_sparse or gradient.requires_grad:
            return []
        kinds.add((gradient.device, gradient.dtype))
        found.append(gradient)
    return found if len(kinds) == 1 else []


def _norms_by_kind(gradients: Sequence[torch.Tensor | None]) -> Scalars:
    groups: dict[tuple[torch.device, torch.dtype], tuple[list[int], list[torch.Tensor]]] = {}
    for index, gradient in enumerate(gradients):
        if gradient is None:
            continue
        gradient = _local_values(gradient)
        indices, tensors = groups.setdefault((gradient.device, gradient.dtype), ([], []))
        indices.append(index)
        tensors.append(gradient)
    found: list[int] = []
    norms: list[torch.Tensor] = []
    for (_, dtype), (indices, tensors) in groups.items():
        found += indices
        norms += _norms(tensors, dtype)
    return found, norms


def _norms(tensors: list[torch.Tensor], dtype: torch.dtype) -> list[torch.Tensor]:
    # A half-precision norm would overflow at 65504 and round to three digits.
    if dtype in (torch.float16, torch.bfloat16):
        return list(torch._foreach_norm(tensors, 2, dtype=torch.float32))
    if dtype in (torch.float32, torch.float64):
        return list(torch._foreach_norm(tensors, 2))
    return [torch.linalg.vector_norm(t if t.is_complex() else t.float()) for t in tensors]


def _local_values(gradient: torch.Tensor) -> torch.Tensor:
    local: Any = getattr(gradient, "_local_tensor", None)  # DTensor
    if local is not None:
        gradient = local
    if gradient.is_sparse:
        gradient = gradient._values() if gradient.is_coalesced() else _summed(gradient.detach())
    return gradient.detach()


def _summed(gradient: torch.Tensor) -> torch.Tensor:
    """Values of a sparse gradient with those of one index added up, in rows of which the others are zero. coalesce() would leave
    those out, but has to wait for the device to tell how many there are."""
    indices, values = gradient._indices(), gradient._values()
    place = indices[0]
    for dimension in range(1, indices.shape[0]):
        place = place * gradient.shape[dimension] + indices[dimension]
    order = torch.argsort(place)
    place = place[order]
    return torch.zeros_like(values).index_add_(0, torch.searchsorted(place, place), values[order])


class ParameterTables:
    """Which column of which gradients-T.npy a parameter has; a new table when an optimizer brings parameters not yet in it."""

    def __init__(self) -> None:
        self.table = -1
        self.count = 0
        self._columns: dict[int, tuple[int, ...]] = {}
        self._known: list[tuple[int, tuple[int, ...]]] = []

    def columns_of(self, optimizer: int, key: tuple[int, ...], alive: Collection[int]) -> tuple[tuple[int, ...], bool]:
        """Columns of the parameters with these identities, and whether a new table had to be begun for them; it has no place for
        optimizers not `alive`.

        No columns where there are too many tables already."""
        for known_optimizer, known_key in self._known:
            if known_optimizer == optimizer and known_key == key:
                return self._columns[optimizer], False
        if self.table + 1 >= MOST_TABLES:
            return (), False
        known = sorted([*(entry for entry in self._known if entry[0] != optimizer and entry[0] in alive), (optimizer, key)])
        columns: dict[int, tuple[int, ...]] = {}
        start = 0
        for known_optimizer, known_key in known:
            columns[known_optimizer] = tuple(range(start, start + len(known_key)))
            start += len(known_key)
        # At once: a table half begun would fail at every step from now on.
        self.table, self.count, self._columns, self._known = self.table + 1, start, columns, known
        return self._columns[optimizer], True

    @property
    def columns(self) -> dict[int, tuple[int, ...]]:
        """Columns of each optimizer that has a place in the table in use."""
        return dict(self._columns)
