"""Reads parameters-T.json: which parameters the columns of one gradient table stand for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from forgemon.chunk import ParameterTable
from forgemon.journal import text, whole
from forgemon.tables import MAX_VECTOR, open_regular, read_fully

MAX_BYTES = 64 << 20
MAX_NAME = 300
MAX_DIMENSIONS = 32


def read_parameters(path: Path, table: int) -> ParameterTable:
    """The table's parameters in column order. OSError as the disk does, ValueError for anything that is no such list."""
    with open_regular(path) as file:
        data = read_fully(file, MAX_BYTES)
    try:
        described = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("it is no JSON") from None
    parameters = described.get("parameters") if isinstance(described, dict) else None
    if not isinstance(parameters, list) or not 0 < len(parameters) <= MAX_VECTOR:
        raise ValueError("it lists no parameters, or too many")
    rows = [p if isinstance(p, Mapping) else {} for p in parameters]
    return ParameterTable(
        table=table,
        first_step=whole(described, "first_step") or 0,
        names=tuple(text(p, "name")[:MAX_NAME] or f"parameter {i}" for i, p in enumerate(rows)),
        shapes=tuple(_shape(p.get("shape")) for p in rows),
        dtypes=tuple(text(p, "dtype")[:MAX_NAME] for p in rows),
        optimizers=tuple(whole(p, "optimizer") or 0 for p in rows),
    )


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > MAX_DIMENSIONS:
        return ()
    return tuple(size if isinstance(size, int) and 0 <= size < 2**53 else 0 for size in value)
