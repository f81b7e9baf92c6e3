"""Growing .npy files: what probes.record writes, numpy and the reader read alike, whole or torn."""

from __future__ import annotations

import io
import os
import resource
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forgemon.soundness import SoundRows, UnreadableTable
from forgemon.tables import TableFile, last_row, parse_columns
from probes.record import METRIC_COLUMNS, STEP_COLUMNS, Table, gradient_columns
from tests.recorded import START, step_values

NUMBERS = {
    "i8": st.integers(-(2**63), 2**63 - 1),
    "i4": st.integers(-(2**31), 2**31 - 1),
    "f8": st.floats(),
    "f4": st.floats(width=32),
}
COLUMN = st.tuples(st.sampled_from(sorted(NUMBERS)), st.none() | st.integers(1, 5))


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


@settings(max_examples=50, deadline=None)
@given(st.lists(COLUMN, min_size=1, max_size=6), st.data())
def test_numpy_reads_every_table_that_record_writes(
    tmp_path_factory: pytest.TempPathFactory, kinds: list[tuple[str, int | None]], data: st.DataObject
) -> None:
    columns: Any = [(f"c{i}", code) if n is None else (f"c{i}", code, n) for i, (code, n) in enumerate(kinds)]
    flat = [NUMBERS[code] for code, n in kinds for _ in range(n or 1)]
    rows = data.draw(st.lists(st.tuples(*flat).map(list), max_size=5))
    path = tmp_path_factory.mktemp("table") / "t.npy"
    table_of(path, columns, rows)

    loaded = np.load(path, allow_pickle=False)

    assert loaded.shape == (len(rows),)
    header = path.read_bytes()[10:].split(b"\n")[0].decode() + "\n"
    assert parse_columns(header) == loaded.dtype
    for loaded_row, row in zip(loaded, rows, strict=True):
        numbers = np.concatenate([np.atleast_1d(loaded_row[name]).astype(np.float64) for name in loaded.dtype.names])
        assert np.array_equal(numbers, np.array([float(n) for n in row]), equal_nan=True)


@pytest.mark.parametrize("columns", [STEP_COLUMNS, METRIC_COLUMNS, gradient_columns(1), gradient_columns(1000)])
def test_reader_and_numpy_see_the_same_rows(tmp_path: Path, columns: Any) -> None:
    width = sum(c[2] if len(c) == 3 else 1 for c in columns)
    rows = [[step, *[float(step)] * (width - 1)] for step in range(1, 50)]
    if columns is STEP_COLUMNS:
        rows = [step_values(step, START + step, loss=step) for step in range(1, 50)]
    table_of(tmp_path / "t.npy", columns, rows)

    found = TableFile(tmp_path / "t.npy", SoundRows("step")).read(1000)

    assert found is not None
    assert found.tobytes() == np.load(tmp_path / "t.npy").tobytes()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 400), st.integers(1, 9))
def test_any_truncation_reads_as_the_rows_before_it(tmp_path_factory: pytest.TempPathFactory, cut: int, max_rows: int) -> None:
    path = tmp_path_factory.mktemp("table") / "t.npy"
    rows = metric_rows(12)
    table_of(path, METRIC_COLUMNS, rows)
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])

    table = TableFile(path, SoundRows("step"))
    found = read_rows(table, max_rows)

    header = len(whole) - 12 * 24
    assert found == [tuple(row) for row in rows[: max(0, cut - header) // 24]]
    assert table.caught_up and table.problems == []
    assert last_row(path)[0] == len(found)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 200), max_size=30))
def test_a_file_that_grows_by_torn_writes_is_read_once_and_whole(
    tmp_path_factory: pytest.TempPathFactory, writes: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("table")
    table_of(folder / "whole.npy", METRIC_COLUMNS, metric_rows(40))
    whole = (folder / "whole.npy").read_bytes()
    table, found, position = TableFile(folder / "t.npy", SoundRows("step")), [], 0
    with open(folder / "t.npy", "ab", buffering=0) as file:
        for size in [*writes, len(whole)]:
            file.write(whole[position : position + size])
            position += size
            found += read_rows(table)

    assert found == [tuple(row) for row in metric_rows(40)]


def test_the_size_of_the_file_counts_and_not_the_header(tmp_path: Path) -> None:
    table_of(tmp_path / "t.npy", METRIC_COLUMNS, metric_rows(5))
    whole = (tmp_path / "t.npy").read_bytes()
    for count in (b"(0,)", b"(9,)"):
        (tmp_path / "t.npy").write_bytes(whole.replace(b"(5,)", count))
        assert len(read_rows(TableFile(tmp_path / "t.npy", SoundRows("step")))) == 5


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


def test_what_numpy_saves_is_understood(tmp_path: Path) -> None:
    rows: npt.NDArray[Any] = np.zeros(3, [("step", "<i8"), ("norm", "<f4", (60,))])
    rows["step"] = [1, 2, 3]
    np.save(tmp_path / "t.npy", rows)

    found = TableFile(tmp_path / "t.npy", SoundRows("step", ("norm",), vector=60)).read(10)

    assert found is not None and found.tobytes() == rows.tobytes()


def test_bytes_in_memory_are_bounded_by_the_block(tmp_path: Path) -> None:
    table_of(tmp_path / "t.npy", gradient_columns(200_000), [[step, *[1.0] * 200_000] for step in range(1, 60)])
    table = TableFile(tmp_path / "t.npy", SoundRows("step"))

    sizes = []
    while (rows := table.read(20_000)) is not None:
        sizes.append(len(rows) * rows.dtype.itemsize)

    assert len(sizes) == 2 and max(sizes) <= 32 << 20


def test_header_without_end_is_waited_for(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(1, [("step", "<i8")]))
    (tmp_path / "t.npy").write_bytes(buffer.getvalue()[:40])
    table = TableFile(tmp_path / "t.npy", SoundRows("step"))

    assert table.read(10) is None and table.problems == []


def test_a_table_whose_header_cannot_be_written_leaves_nothing_open(tmp_path: Path) -> None:
    def open_tables() -> list[str]:
        links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        return [os.readlink(link) for link in links if os.path.exists(link) and os.readlink(link).endswith("t.npy")]

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(OSError):
            Table(str(tmp_path / "t.npy"), METRIC_COLUMNS)
        assert open_tables() == []
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
