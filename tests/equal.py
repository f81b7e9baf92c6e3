"""Equality of chunks and snapshots: field by field, arrays row by row, NaN equal to NaN."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from forgemon.chunk import Chunk


def assert_equal(left: Any, right: Any, where: str = "") -> None:
    assert type(left) is type(right), where
    if is_dataclass(left) and not isinstance(left, type):
        for field in fields(left):
            assert_equal(getattr(left, field.name), getattr(right, field.name), f"{where}.{field.name}")
    elif isinstance(left, np.ndarray):
        assert left.dtype == right.dtype and left.shape == right.shape, (where, left.shape, right.shape)
        assert left.tobytes() == right.tobytes(), where
    elif isinstance(left, Mapping):
        assert list(left) == list(right), where
        for key in left:
            assert_equal(left[key], right[key], f"{where}[{key!r}]")
    elif isinstance(left, (tuple, list)):
        assert len(left) == len(right), (where, len(left), len(right))
        for i, (a, b) in enumerate(zip(left, right, strict=True)):
            assert_equal(a, b, f"{where}[{i}]")
    elif isinstance(left, float) and math.isnan(left):
        assert math.isnan(right), where
    else:
        assert left == right, where


def joined(chunks: list[Chunk]) -> Chunk:
    """All chunks as one, with gradient rows gathered by table."""
    from forgemon.chunk import Gradients, Updates

    tables: dict[int, list[Gradients]] = {}
    updates: dict[int, list[Updates]] = {}
    metrics: dict[str, list[Any]] = {}
    for chunk in chunks:
        for gradients in chunk.gradients:
            tables.setdefault(gradients.table.table, []).append(gradients)
        for sampled in chunk.updates:
            updates.setdefault(sampled.table.table, []).append(sampled)
        for name, rows in chunk.metrics.items():
            metrics.setdefault(name, []).append(rows)
    memory = [chunk.memory for chunk in chunks if chunk.memory is not None and len(chunk.memory)]
    machine = [chunk.machine for chunk in chunks if chunk.machine is not None and len(chunk.machine)]
    return Chunk(
        steps=np.concatenate([chunk.steps for chunk in chunks]),
        gradients=tuple(Gradients(t[0].table, np.concatenate([g.rows for g in t])) for _, t in sorted(tables.items())),
        metrics={name: np.concatenate(rows) for name, rows in sorted(metrics.items())},
        events=tuple(event for chunk in chunks for event in chunk.events),
        machine=np.concatenate(machine) if machine else None,
        memory=np.concatenate(memory) if memory else None,
        machine_events=tuple(event for chunk in chunks for event in chunk.machine_events),
        updates=tuple(Updates(t[0].table, np.concatenate([u.rows for u in t])) for _, t in sorted(updates.items())),
    )
