"""Telemetry: any split of a run ends in the same snapshot, snapshots stay as taken, and every field says what it should."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forgemon.chunk import Chunk, Gradients, ParameterTable, Updates
from forgemon.diagnosis import Report
from forgemon.reader import RunReader, gradient_row, read_all
from forgemon.report import Checked, as_text
from forgemon.telemetry import Snapshot, Telemetry
from tests.equal import assert_equal
from tests.recorded import START, RunFiles, small_run
from tests.test_recording import steps_with


def busy_run(run: Path) -> None:
    """A run in which everything happens at least once, several things at one step."""
    files = small_run(run, steps=20)
    for index, name in enumerate(("Adam", "SGD")):
        files.event("optimizer", 20, None, index=index, **{"class": name})
    for step in range(21, 60):
        files.step(step, loss=math.nan if step > 50 else 1.0, training=step % 7 != 0, step_s=0.5, probe_s=0.1)
        files.gradients(step, [float(step)], table=1)
        files.updates(step, [float(step % 3)], [0.5], table=1)
        files.metric("loss logged", step, step)
        if step % 5 == 0:
            files.event("mode", step, training=False)
            files.event("evaluation", step, metric="l2", value=100 - step, training=True, grad_enabled=False, epoch=step)
            files.event("evaluation", step, metric="cross_entropy", value=step, training=None)
            files.event("checkpoint", step, path="/best.pt", has_optimizer=True)
            files.event("checkpoint", step, path=f"/{step}.pt", has_optimizer=None)
            files.event("mode", step, training=True)
            files.event("epoch", step, epoch=step // 5)
            files.metric("accuracy", step, step / 60)
            files.machine_event("stalled", START + step + 0.6, since=START + step, usual_s=0.5, seconds=0.6, stack=[])
            files.machine_event("resumed", START + step + 0.8)
    files.event("signals", 59, signals={"clip": "seen"})
    files.event("dropped", -1, rows=12)
    files.event("probe_error", 59, where_in_probe="x", error="y")
    files.event("exception", 59, type="ValueError", message="bad\nbatch", traceback=[])


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    busy_run(run)
    return run


def snapshot_of(run: Path, max_rows: int = 20_000) -> Snapshot:
    reader, telemetry = RunReader(run), Telemetry()
    read_all(reader, telemetry.feed, max_rows)
    return telemetry.snapshot(reader.info, reader.problems)


def row_by_row(chunk: Chunk) -> list[Chunk]:
    """The same chunk, one row or event at a time, file by file in an order of its own."""
    nothing = chunk.steps[:0]
    pieces = [Chunk(steps=nothing, machine_events=(event,)) for event in chunk.machine_events]
    pieces += [Chunk(steps=nothing, events=(event,)) for event in chunk.events]
    for gradients in chunk.gradients:
        rows = gradients.rows
        pieces += [Chunk(steps=nothing, gradients=(Gradients(gradients.table, rows[i : i + 1]),)) for i in range(len(rows))]
    for updates in chunk.updates:
        rows = updates.rows
        pieces += [Chunk(steps=nothing, updates=(Updates(updates.table, rows[i : i + 1]),)) for i in range(len(rows))]
    for name, rows in chunk.metrics.items():
        pieces += [Chunk(steps=nothing, metrics={name: rows[i : i + 1]}) for i in range(len(rows))]
    memory = chunk.memory if chunk.memory is not None else nothing
    pieces += [Chunk(steps=nothing, memory=memory[i : i + 1]) for i in range(len(memory))]
    machine = chunk.machine if chunk.machine is not None else nothing
    pieces += [Chunk(steps=nothing, machine=machine[i : i + 1]) for i in range(len(machine))]
    return pieces + [Chunk(steps=chunk.steps[i : i + 1]) for i in range(len(chunk.steps))]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_split_ends_in_the_same_snapshot(busy: Path, data: st.DataObject) -> None:
    whole = RunReader(busy).read()
    expected = Telemetry()
    expected.feed(whole)
    pieces = row_by_row(whole)
    # Files may be read in any order against each other, each in its own.
    keys = [kind_of(piece) for piece in pieces]
    order = data.draw(st.permutations(sorted(set(keys))))
    turns = data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=8))
    queues = {key: [p for p, k in zip(pieces, keys, strict=True) if k == key] for key in order}
    telemetry = Telemetry()
    for i in range(10_000):
        key = order[i % len(order)]
        for piece in queues[key][: turns[i % len(turns)]]:
            telemetry.feed(piece)
            if i % 17 == 0:
                telemetry.snapshot({})
        del queues[key][: turns[i % len(turns)]]
        if not any(queues.values()):
            break

    assert_equal(telemetry.snapshot({}), expected.snapshot({}))


def kind_of(piece: Chunk) -> str:
    if piece.gradients:
        return f"gradients {piece.gradients[0].table.table}"
    if piece.updates:
        return f"updates {piece.updates[0].table.table}"
    kinds = {"events": piece.events, "machine events": piece.machine_events, "machine": piece.machine is not None}
    return next((kind for kind, there in kinds.items() if there), "".join(piece.metrics) or "steps")


def test_snapshots_stay_as_they_were_taken(busy: Path) -> None:
    import copy

    telemetry, kept = Telemetry(), []
    for i, piece in enumerate(row_by_row(RunReader(busy).read())):
        telemetry.feed(piece)
        if i % 40 == 0:
            snapshot = telemetry.snapshot({})
            kept.append((snapshot, copy.deepcopy(snapshot)))

    for snapshot, copied in kept:
        assert_equal(snapshot, copied)
    assert not snapshot.steps.flags.writeable and not snapshot.gradient_norms.flags.writeable


def test_every_field_of_a_run(busy: Path) -> None:
    snapshot = snapshot_of(busy)

    assert snapshot.step == 59 and snapshot.time == START + 59.5 and snapshot.epoch == 11
    assert [optimizer["class"] for optimizer in snapshot.optimizers] == ["Adam", "SGD"]
    assert snapshot.table is not None and snapshot.table.names == ("weight",)
    assert snapshot.gradient_steps.tolist() == list(range(10, 60))
    assert snapshot.gradient_norms[-1].tolist() == [59.0]
    assert snapshot.signals == {"loss": "seen", "clip": "seen"}
    assert snapshot.gpu_names == () and snapshot.gpu_message == "no NVIDIA GPU"
    assert snapshot.machine is not None and len(snapshot.machine) == 20
    assert list(snapshot.metrics) == ["accuracy", "accuracy/top 1", "loss logged"]
    assert snapshot.dropped_rows == 12 and snapshot.problems == ()
    assert snapshot.probe_cost == pytest.approx((19 * 0.01 + 39 * 0.1) / 58)
    assert snapshot.steps_per_second == pytest.approx(1.0)
    assert {event["kind"] for event in snapshot.events} == {"mode", "stalled", "resumed", "dropped", "probe_error", "exception"}
    assert [event["time"] for event in snapshot.events] == sorted(event["time"] for event in snapshot.events)
    assert snapshot.stack == ()


def test_nothing_fed_is_a_run_that_waits() -> None:
    snapshot = Telemetry().snapshot({})

    assert (snapshot.state, snapshot.mode, snapshot.step, snapshot.epoch) == ("waiting", "unknown", 0, None)
    assert math.isnan(snapshot.time) and math.isnan(snapshot.steps_per_second) and math.isnan(snapshot.probe_cost)
    assert snapshot.gradient_norms.shape == (0, 0) and snapshot.best is None and snapshot.machine is None


@pytest.mark.parametrize(
    ("numbers", "times", "speed"),
    [
        ([1], [0.0], math.nan),
        ([1, 2], [0.0, 0.0], math.nan),
        ([1, 2, 3], [0.0, 1.0, 2.0], 1.0),
        ([10, 110, 210], [0.0, 1.0, 2.0], 100.0),
        ([1, 2, 3], [0.0, 60.0, 120.0], 1 / 60),
        ([1, 1001, 1002, 1012], [0.0, 100.0, 105.0, 110.0], 1.1),
        ([5, 5, 6, 6], [0.0, 0.5, 1.0, 1.5], 1 / 1.5),
    ],
)
def test_steps_per_second_are_real_steps_over_real_time(numbers: list[int], times: list[float], speed: float) -> None:
    telemetry = Telemetry()
    telemetry.feed(Chunk(steps=steps_with(numbers, [START + t for t in times])))

    assert telemetry.snapshot({}).steps_per_second == pytest.approx(speed, nan_ok=True)


def test_probe_cost_counts_the_steps_a_row_stands_for() -> None:
    steps = steps_with([1, 2, 12])
    steps["step_s"] = [math.nan, 1.0, 1.0]
    steps["probe_s"] = [5.0, 0.12, 0.01]
    telemetry = Telemetry()
    telemetry.feed(Chunk(steps=steps))

    assert telemetry.snapshot({}).probe_cost == pytest.approx((0.12 + 10 * 0.01) / 11)


def test_probe_cost_does_not_take_all_steps_to_last_as_long_as_those_looked_at() -> None:
    """A validation pass, in which no step is taken, costs and lasts."""
    steps = steps_with([1, 2, 12, 13], [START, START + 1.2, START + 11.2, START + 60.0])
    steps["step_s"] = [math.nan, 1.2, 1.2, 1.2]
    steps["probe_s"] = [5.0, 0.2, 0.04, 0.7]
    telemetry = Telemetry()
    telemetry.feed(Chunk(steps=steps))

    assert telemetry.snapshot({}).probe_cost == pytest.approx((0.2 + 10 * 0.04 + 0.7) / 60.0)


def test_probe_cost_of_a_new_count_does_not_stand_for_the_steps_before_it() -> None:
    steps = steps_with([1, 1, 2, 102, 103, 104])
    steps["optimizer_s"] = 0.1
    steps["optimizer"] = [0, 1, 0, 0, 0, 1]  # of two in turn, of which the second is counted with the first
    steps["step_s"] = 1.0
    steps["probe_s"] = [math.nan, 0.9, 0.1, math.nan, 0.1, 0.9]  # at 102 the count began anew
    telemetry = Telemetry()
    telemetry.feed(Chunk(steps=steps))

    assert telemetry.snapshot({}).probe_cost == pytest.approx(0.1)


def test_probe_cost_of_optimizers_one_after_another_is_that_of_all() -> None:
    steps = steps_with([1, 2, 102, 103, 203, 204])
    steps["optimizer"] = [0, 0, 1, 1, 2, 2]
    steps["optimizer_s"] = 0.1
    steps["step_s"] = 1.0
    steps["probe_s"] = [math.nan, 0.5, 0.01, 0.5, 0.01, 0.5]
    telemetry = Telemetry()
    telemetry.feed(Chunk(steps=steps))

    assert telemetry.snapshot({}).probe_cost == pytest.approx((3 * 0.5 + 2 * 1.0) / 203)


def test_the_order_of_calls_and_skipped_steps_of_the_newest_row() -> None:
    steps = steps_with([1, 2, 3, 4])
    steps["ribbon"] = [0, 1, 1, math.nan]
    steps["skipped_steps"] = [0, 2, math.nan, 1]
    told = [{"kind": "ribbon", "step": i, "time": START, "index": i, "calls": ["forward", f"call {i}"]} for i in range(2)]
    telemetry = Telemetry()
    telemetry.feed(Chunk(steps=steps, events=tuple(told)))
    snapshot = telemetry.snapshot({})

    assert snapshot.calls == ("forward", "call 1") and snapshot.skipped_steps == 3
    text = as_text(Checked("run", 1, snapshot, Report((), (), "")), colour=False)
    assert "a step           forward, call 1" in text and "skipped steps    3, by a GradScaler" in text


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30_000), st.lists(st.integers(1, 3000), min_size=1, max_size=5))
def test_gradient_history_is_bounded_even_and_complete_at_its_end(count: int, sizes: list[int]) -> None:
    table = ParameterTable(0, 1, ("a",), ((),), ("",), (0,))
    rows = np.zeros(count, gradient_row(1))
    rows["step"] = np.arange(count)
    rows["norm"][:, 0] = rows["step"]
    shown = []
    for split in (sizes, [count]):
        telemetry, position = Telemetry(), 0
        while position < count:
            size = split[position % len(split)]
            telemetry.feed(Chunk(steps=steps_with([]), gradients=(Gradients(table, rows[position : position + size]),)))
            position += size
        shown.append(telemetry.snapshot({}))
    steps = shown[0].gradient_steps

    assert_equal(shown[0], shown[1])
    assert len(steps) <= 4096 and steps[0] == 0
    assert steps[-256:].tolist() == list(range(max(0, count - 256), count))
    assert len(np.unique(np.diff(steps[:-256]))) <= 1 and (np.diff(steps) > 0).all()
    assert shown[0].gradient_norms[:, 0].tolist() == steps.tolist()


def test_a_newer_parameter_table_begins_a_new_history(tmp_path: Path) -> None:
    files = RunFiles(tmp_path / "run")
    files.parameters(["a", "b"])
    files.parameters(["c"], table=1, first_step=3)
    files.gradients(1, [1.0, 2.0])
    files.gradients(3, [3.0], table=1)
    snapshot = snapshot_of(tmp_path / "run")

    assert snapshot.table is not None and snapshot.table.names == ("c",)
    assert snapshot.gradient_norms.tolist() == [[3.0]]


def test_update_ratios_of_the_newest_table(tmp_path: Path) -> None:
    files = RunFiles(tmp_path / "run")
    files.parameters(["a", "b"])
    files.parameters(["c", "d", "e"], table=1, first_step=3)
    files.updates(1, [1.0, 2.0], [0.5, 0.5])
    files.updates(3, [2.0, 0.0, math.nan], [0.5, 1.0, math.nan], table=1)
    files.updates(4, [4.0, 1.0, 1.0], [0.5, math.inf, 0.0], table=1)
    snapshot = snapshot_of(tmp_path / "run")

    assert snapshot.update_table is not None and snapshot.update_table.names == ("c", "d", "e")
    assert snapshot.update_steps.tolist() == [3, 4]
    assert snapshot.update_ratios == pytest.approx(np.array([[0.25, math.nan, math.nan], [0.125, math.inf, 0.0]]), nan_ok=True)
    assert snapshot.update_table != snapshot.table  # no gradient was seen


def test_machine_columns_that_change_keep_those_of_the_beginning() -> None:
    telemetry = Telemetry()
    none = steps_with([])
    telemetry.feed(Chunk(steps=none, machine=np.array([(START, 1.0)], [("time", "<f8"), ("a", "<f4")])))
    telemetry.feed(Chunk(steps=none, machine=np.array([(START + 1, 2.0)], [("time", "<f8"), ("b", "<f4")])))
    machine: Any = telemetry.snapshot({}).machine

    assert machine["time"].tolist() == [START, START + 1]
    assert machine["a"][0] == 1.0 and math.isnan(machine["a"][1])
