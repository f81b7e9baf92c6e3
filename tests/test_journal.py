"""Growing .jsonl files and the fields of events, whatever stands in them."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forgemon.findings import Where
from forgemon.journal import JournalFile, flag, number, parse_event, tail_events, text, texts, where_of, whole
from probes.record import event_line
from tests.recorded import START, append

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def read_all(journal: JournalFile, max_events: int = 1000) -> list[Any]:
    found = []
    while events := journal.read(max_events):
        found += events
    return found


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 900), st.integers(1, 5))
def test_any_truncation_reads_as_the_lines_before_it(
    tmp_path_factory: pytest.TempPathFactory, cut: int, max_events: int
) -> None:
    path = tmp_path_factory.mktemp("journal") / "events.jsonl"
    events = [{"time": START + i, "step": i, "kind": "epoch", "epoch": i, "name": "ü" * i} for i in range(12)]
    content = b"".join(map(event_line, events))
    path.write_bytes(content[:cut])

    journal = JournalFile(path, steps=True)

    assert read_all(journal, max_events) == events[: content[:cut].count(b"\n")]
    assert journal.problems == []


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 60), max_size=30))
def test_lines_written_in_pieces_are_read_once(tmp_path_factory: pytest.TempPathFactory, writes: list[int]) -> None:
    path = tmp_path_factory.mktemp("journal") / "events.jsonl"
    events = [{"time": START + i, "step": i, "kind": "epoch"} for i in range(20)]
    content, position, found = b"".join(map(event_line, events)), 0, []
    journal = JournalFile(path, steps=True)
    with open(path, "ab", buffering=0) as file:
        for size in [*writes, len(content)]:
            file.write(content[position : position + size])
            position += size
            found += read_all(journal)

    assert found == events


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=80) | JSON.map(lambda value: json.dumps(value).encode()), max_size=8))
def test_garbage_between_lines_is_counted_and_the_rest_is_read(
    tmp_path_factory: pytest.TempPathFactory, garbage: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "events.jsonl"
    good = [{"time": START, "step": i, "kind": "good"} for i in range(len(garbage) + 1)]
    lines = [event_line(good[0])]
    for piece, event in zip(garbage, good[1:], strict=True):
        lines += [piece + b"\n", event_line(event)]
    path.write_bytes(b"".join(lines))

    journal = JournalFile(path, steps=True)
    found = [event for event in read_all(journal) if event["kind"] == "good"]

    assert found == good
    assert [event for event in tail_events(path) if event["kind"] == "good"] == good


@pytest.mark.parametrize("line", ["[" * 100_000, "9" * 10_000, '{"time": 1, "kind": 3}', '{"kind": "x"}', "null", "\x00" * 50])
def test_a_broken_line_is_no_event(line: str) -> None:
    assert parse_event(line.encode()) is None


def test_broken_lines_are_reported(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes(b'{"time": 1, \n\n{"time": 5, "step": 1, "kind": "epoch"}\n\xff\xfe\n')
    journal = JournalFile(tmp_path / "events.jsonl", steps=True)

    assert len(read_all(journal)) == 1
    assert journal.problems == ["events.jsonl: left out broken lines: 2"]


@pytest.mark.parametrize("length", [(1 << 20) + 10, 5 << 20, 13 << 20])
def test_a_line_without_end_is_passed_over(tmp_path: Path, length: int) -> None:
    path = tmp_path / "events.jsonl"
    append(path, {"time": START, "step": 1, "kind": "epoch"})
    with open(path, "ab") as file:
        file.write(b"x" * length + b"\n")
    append(path, {"time": START, "step": 2, "kind": "epoch"})
    journal, found = JournalFile(path, steps=True), []

    found += journal.read(100)
    while not journal.caught_up:
        found += journal.read(100)

    assert [event["step"] for event in found] == [1, 2]
    assert journal.problems == ["events.jsonl: left out broken lines: 1"]


def test_an_event_without_a_step_has_that_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for step in (None, 7, -1, "x", 10**400, 8):
        append(path, {"time": START, "step": step, "kind": "dropped"})

    assert [event["step"] for event in read_all(JournalFile(path, steps=True))] == [0, 7, 7, 7, 7, 8]


def test_a_journal_that_is_replaced_hands_on_only_what_is_newer(tmp_path: Path) -> None:
    path = tmp_path / "machine.jsonl"
    for i in range(5):
        append(path, {"time": START + i, "kind": "resumed"})
    journal = JournalFile(path, steps=False)
    assert len(read_all(journal)) == 5
    for i in range(4, 7):
        append(tmp_path / "new", {"time": START + i, "kind": "resumed"})
    os.replace(tmp_path / "new", path)

    assert [event["time"] for event in read_all(journal)] == [START + 5, START + 6]
    assert journal.problems == ["machine.jsonl: was replaced or cut short while it was read"]


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["where", "file", "line", "function", "source", "source_first_line"]), JSON))
def test_fields_of_any_type_are_taken_safely(event: dict[str, Any]) -> None:
    for inner in (event, {"where": event}):
        where = where_of(inner)
        assert where is None or (isinstance(where.file, str) and isinstance(where.text, str) and where.line >= 0)
        for field in inner:
            assert isinstance(text(inner, field), str)
            assert isinstance(number(inner, field), float)
            assert isinstance(whole(inner, field), (int, type(None)))
            assert isinstance(flag(inner, field), (bool, type(None)))
            assert all(isinstance(item, str) for item in texts(inner, field))


def test_where_is_the_line_with_its_source() -> None:
    described = {
        "file": "/a.py",
        "line": 7,
        "function": "train",
        "source": ["x = 1", "  loss.backward()"],
        "source_first_line": 6,
    }

    where = where_of({"where": described})

    assert where == Where("/a.py", 7, "train", ("x = 1", "  loss.backward()"), 6)
    assert where.text == "loss.backward()"
    assert where_of({"where": {"file": "/a.py"}}) is None


@pytest.mark.parametrize(("written", "read"), [("inf", math.inf), ("-inf", -math.inf), (3, 3.0), (10**400, math.nan)])
def test_numbers_are_those_that_were_encoded(written: object, read: float) -> None:
    assert number({"value": written}, "value") == read or math.isnan(read)
    assert math.isnan(number({"value": None}, "value"))
