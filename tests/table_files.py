"""Small tables on disk, written by probes.record and read with the reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from forgemon.tables import TableFile
from probes.table import Table
from tests.recorded import START


def table_of(path: Path, columns: Any, rows: list[list[float]]) -> None:
    table = Table(str(path), columns)
    for row in rows:
        table.append([row])
    table.close()


def read_rows(table: TableFile, max_rows: int = 1000) -> list[Any]:
    found = []
    while (rows := table.read(max_rows)) is not None:
        found += rows.tolist()
    return found


def metric_rows(count: int) -> list[list[float]]:
    return [[step, START + step, step / 7] for step in range(1, count + 1)]
