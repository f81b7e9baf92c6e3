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

from forgemon.soundness import SoundRows
from forgemon.tables import TableFile, last_row, parse_columns
from probes.record import METRIC_COLUMNS, STEP_COLUMNS, gradient_columns
from probes.table import Table
from tests.recorded import START, step_values
from tests.table_files import metric_rows, read_rows, table_of

NUMBERS = {
    "i8": st.integers(-(2**63), 2**63 - 1),
    "i4": st.integers(-(2**31), 2**31 - 1),
    "f8": st.floats(),
    "f4": st.floats(width=32),
}

COLUMN = st.tuples(st.sampled_from(sorted(NUMBERS)), st.none() | st.integers(1, 5))


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
