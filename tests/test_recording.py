"""Recording: consecutive stretches of steps share nothing, leave out nothing, and never change."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forgemon import recording as recording_module
from forgemon.chunk import Chunk, Gradients, ParameterTable
from forgemon.growing import conform
from forgemon.reader import STEP_ROW, RunReader, gradient_row, read_all
from forgemon.recording import Recording
from tests.equal import assert_equal, joined
from tests.recorded import START, small_run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Chunk:
    run = tmp_path_factory.mktemp("runs") / "run"
    small_run(run, steps=40)
    return joined([RunReader(run).read()])


def steps_with(numbers: list[int], times: list[float] | None = None) -> npt.NDArray[Any]:
    rows = np.zeros(len(numbers), [("step", "<i8"), ("time", "<f8")])
    rows["step"] = numbers
    rows["time"] = [START + n for n in numbers] if times is None else times
    return conform(rows, STEP_ROW)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-3, 45), max_size=6).map(sorted))
def test_stretches_add_up_to_the_whole_run(whole: Chunk, cuts: list[int]) -> None:
    recording = Recording()
    recording.extend(whole)
    ends: list[int | None] = [None, *cuts, None]
    pieces = [recording.between(a, b) for a, b in pairwise(ends)]

    assert_equal(joined(pieces), whole)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_any_chunking_records_the_same(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    run = tmp_path_factory.mktemp("runs") / "run"
    small_run(run, steps=15)
    recordings = [Recording(), Recording()]
    recordings[0].extend(RunReader(run).read())
    reader = RunReader(run)
    for i in range(200):
        recordings[1].extend(reader.read(sizes[i % len(sizes)]))
    assert reader.caught_up

    for a, b in ((None, None), (3, 9), (None, 10), (10, None)):
        assert_equal(recordings[1].between(a, b), recordings[0].between(a, b))


def test_what_belongs_to_a_stretch(whole: Chunk) -> None:
    recording = Recording()
    recording.extend(whole)
    chunk = recording.between(10, 20)

    assert (recording.first_step, recording.last_step) == (1, 40)
    assert chunk.steps["step"].tolist() == list(range(11, 21))
    assert chunk.gradients[0].rows["step"].tolist() == list(range(11, 20))
    assert chunk.gradients[1].rows["step"].tolist() == [20]
    assert [u.rows["step"].tolist() for u in chunk.updates] == [[13, 17]]
    assert [(event["kind"], event["step"]) for event in chunk.events] == [("evaluation", 20), ("checkpoint", 20)]
    assert chunk.machine is not None and chunk.machine["time"].tolist() == [START + step for step in range(11, 21)]
    assert chunk.memory is not None and chunk.memory["step"].tolist() == [11, 16]
    assert chunk.metrics["accuracy/top 1"]["step"].tolist() == [20]
    assert [event["kind"] for event in recording.between(40, None).machine_events] == ["ended"]


def test_an_empty_recording_has_no_steps() -> None:
    recording = Recording()

    assert recording.first_step is None and recording.last_step is None and len(recording.step_numbers) == 0
    assert recording.between(None, None).empty and recording.between(3, 5).empty


def test_steps_that_stand_still_stay_together() -> None:
    recording = Recording()
    recording.extend(Chunk(steps=steps_with([1, 2, 2, 2, 3])))

    assert recording.between(1, 2).steps["step"].tolist() == [2, 2, 2]
    assert recording.between(2, 3).steps["step"].tolist() == [3]
    assert recording.between(5, 2).empty


def test_machine_rows_fall_where_the_clock_of_the_steps_stood() -> None:
    machine = np.array([(START + t,) for t in (0, 2, 1, 5)], [("time", "<f8")])
    recording = Recording()
    recording.extend(Chunk(steps=steps_with([1, 2, 3], [START + 1, START + 0.5, START + 4]), machine=machine))

    def times(a: int | None, b: int | None) -> list[float]:
        rows = recording.between(a, b).machine
        assert rows is not None
        return [time - START for time in rows["time"].tolist()]

    assert times(None, 1) == [0] and times(1, 2) == [] and times(2, 3) == [2, 1] and times(3, None) == [5]
    assert times(None, -5) == []


def test_a_view_handed_out_never_changes() -> None:
    recording = Recording()
    recording.extend(Chunk(steps=steps_with(list(range(1, 1000)))))
    view = recording.between(None, None).steps
    before = view.tobytes()
    for first in range(1000, 5000, 100):
        recording.extend(Chunk(steps=steps_with(list(range(first, first + 100)))))

    assert view.tobytes() == before and len(recording.step_numbers) == 4999
    with pytest.raises(ValueError, match="read-only"):
        view["step"] = 0


def test_gradients_beyond_the_bound_are_thinned_out_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording_module, "GRADIENT_BYTES", 100 * gradient_row(2).itemsize)
    table = ParameterTable(0, 1, ("a", "b"), ((), ()), ("", ""), (0, 0))
    rows = np.zeros(1000, gradient_row(2))
    rows["step"] = np.arange(1, 1001)
    kept = []
    for sizes in ((1000,), (1, 99, 7, 893), (250,) * 4):
        recording, position = Recording(), 0
        for size in sizes:
            recording.extend(Chunk(steps=steps_with([]), gradients=(Gradients(table, rows[position : position + size]),)))
            position += size
        kept.append(recording.between(None, None).gradients[0].rows["step"].tolist())

    assert kept[0] == kept[1] == kept[2] == list(range(1, 1001, 16))


def test_all_gradient_tables_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording_module, "GRADIENT_BYTES", 100 * gradient_row(1).itemsize)
    rows = np.zeros(300, gradient_row(1))
    rows["step"] = np.arange(300)
    recording = Recording()
    for number in range(40):
        table = ParameterTable(number, 1, ("a",), ((),), ("",), (0,))
        recording.extend(Chunk(steps=steps_with([]), gradients=(Gradients(table, rows),)))
    kept = [len(gradients.rows) for gradients in recording.between(None, None).gradients]

    assert len(kept) == 40 and kept[-1] == 75 and kept[-2] == 38 and sum(kept) < 300


def test_read_all_feeds_everything(tmp_path: Path) -> None:
    small_run(tmp_path / "run", steps=25)
    recording = Recording()
    read_all(RunReader(tmp_path / "run"), recording.extend, max_rows=4)

    assert recording.step_numbers.tolist() == list(range(1, 26))
    assert [event["kind"] for event in recording.between(None, None).machine_events] == ["started", "ended"]
