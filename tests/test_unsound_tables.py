"""Tables of nonsense, of holes or of garbage, cut short or replaced: what is sound is read, the rest is said, nothing is raised."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forgemon.soundness import SoundRows, UnreadableTable
from forgemon.tables import TableFile, last_row, parse_columns
from probes.record import METRIC_COLUMNS, STEP_COLUMNS
from tests.recorded import START, step_values
from tests.table_files import metric_rows, read_rows, table_of


def test_rows_of_zeros_are_left_out_and_counted(tmp_path: Path) -> None:
    table_of(tmp_path / "t.npy", METRIC_COLUMNS, [*metric_rows(3), [0, 0, 0], [0, 0, 0], [4, START, 1.0]])
    table = TableFile(tmp_path / "t.npy", SoundRows("step"))

    assert [row[0] for row in read_rows(table)] == [1, 2, 3, 4]
    assert table.problems == ["t.npy: left out rows: 2 of zeros"]


def test_steps_that_run_backwards_are_left_out_across_reads(tmp_path: Path) -> None:
    rows = metric_rows(5)
    table_of(tmp_path / "t.npy", METRIC_COLUMNS, [*rows, *rows[1:3], [5, START, 0.0], [6, START, 0.0]])
    table = TableFile(tmp_path / "t.npy", SoundRows("step"))

    assert [row[0] for row in read_rows(table, max_rows=2)] == [1, 2, 3, 4, 5, 5, 6]
    assert table.problems == ["t.npy: left out rows: 2 with a step that runs backwards"]


def test_each_optimizer_keeps_its_own_count(tmp_path: Path) -> None:
    order = [(5, 0), (1, 1), (6, 0), (2, 1), (1, 1), (7, 0)]
    table_of(tmp_path / "t.npy", STEP_COLUMNS, [step_values(s, START, optimizer=o) for s, o in order])
    rows = TableFile(tmp_path / "t.npy", SoundRows("step")).read(100)

    assert rows is not None
    assert rows["step"].tolist() == [5, 1, 6, 2, 7]


@pytest.mark.parametrize(
    "row", [[-5, START, 1.0], [2**60, START, 1.0], [2, float("nan"), 1.0], [2, -1.0, 1.0], [2, 1e300, 1.0]]
)
def test_nonsense_does_not_hide_what_comes_after(tmp_path: Path, row: list[float]) -> None:
    table_of(tmp_path / "t.npy", METRIC_COLUMNS, [[1, START, 1.0], row, [3, START, 1.0]])
    table = TableFile(tmp_path / "t.npy", SoundRows("step"))

    assert [r[0] for r in read_rows(table)] == [1, 3]
    assert table.problems == ["t.npy: left out rows: 1 of nonsense"]


def test_a_file_of_holes_ends(tmp_path: Path) -> None:
    table_of(tmp_path / "t.npy", METRIC_COLUMNS, metric_rows(2))
    header = os.path.getsize(tmp_path / "t.npy") - 48
    with open(tmp_path / "t.npy", "r+b") as file:
        file.truncate(header + (1 << 30) * 24)
        file.seek(0, 2)
        file.write(np.array([(3, START, 1.0)], "<i8,<f8,<f8").tobytes())
    table = TableFile(tmp_path / "t.npy", SoundRows("step"))

    found: list[Any] = []
    while not found or not table.caught_up:
        rows = table.read(1000)
        found += [] if rows is None else rows["step"].tolist()

    assert found == [1, 2, 3]


def test_a_file_cut_short_is_noticed_and_read_on(tmp_path: Path) -> None:
    path = tmp_path / "t.npy"
    table_of(path, METRIC_COLUMNS, metric_rows(8))
    table = TableFile(path, SoundRows("step"))
    assert len(read_rows(table)) == 8
    os.truncate(path, os.path.getsize(path) - 24 * 4)

    assert read_rows(table) == []
    assert table.problems == ["t.npy: was replaced or cut short while it was read"]

    table_of(path, METRIC_COLUMNS, metric_rows(10))
    assert [row[0] for row in read_rows(table)] == [9, 10]


def test_a_file_replaced_by_one_of_other_columns_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "t.npy"
    table_of(path, METRIC_COLUMNS, metric_rows(2))
    table = TableFile(path, SoundRows("step"))
    read_rows(table)
    table_of(tmp_path / "new.npy", [("step", "i8"), ("time", "f8")], [[2, START], [3, START], [4, START]])
    os.replace(tmp_path / "new.npy", path)

    assert read_rows(table) == [(3, START), (4, START)]
    assert "replaced" in table.problems[0]


def test_a_file_that_vanishes_and_a_pipe_are_no_crash(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.npy")
    table = TableFile(tmp_path / "t.npy", SoundRows("step"))
    assert table.read(10) is None
    assert table.problems == ["t.npy: cannot be read: not a plain file"]
    os.unlink(tmp_path / "t.npy")
    assert table.read(10) is None


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_garbage_is_reported_and_never_raised(
    tmp_path_factory: pytest.TempPathFactory, garbage: bytes, with_magic: bool
) -> None:
    path = tmp_path_factory.mktemp("table") / "t.npy"
    path.write_bytes((b"\x93NUMPY\x01\x00\x20\x00" if with_magic else b"") + garbage)
    table = TableFile(path, SoundRows("step"))

    assert table.read(100) is None
    assert last_row(path) == (0, None)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_table_with_a_broken_byte_anywhere_is_never_a_crash(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("table") / "t.npy"
    table_of(path, METRIC_COLUMNS, metric_rows(6))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)

    for row in read_rows(TableFile(path, SoundRows("step", ("time", "value"))), max_rows=2):
        assert len(row) == 3


@pytest.mark.parametrize(
    "described",
    [
        "[('a', '|O')]",
        "[('a', '>f4')]",
        "[('a', '<f4', (0,))]",
        "[('a', '<f4', (200001,))]",
        "[('a', '<f4', (2, 2))]",
        "[('a', '<f4'), ('a', '<f4')]",
        "[]",
        "'<f4'",
        "[('__import__(\"os\")', '<f4')]",
        "[" + ", ".join(f"('c{i}', '<f4')" for i in range(2001)) + "]",
    ],
)
def test_only_plain_numbers_are_columns(described: str) -> None:
    with pytest.raises(UnreadableTable):
        parse_columns(f"{{'descr': {described}, 'fortran_order': False, 'shape': (3,), }}\n")
