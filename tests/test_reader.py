"""RunReader: live and finished runs, whole, torn, broken or being written."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forgemon.chunk import Chunk
from forgemon.errors import UserError
from forgemon.reader import RunReader
from forgemon.telemetry import Telemetry
from tests.equal import assert_equal, joined
from tests.recorded import START, RunFiles, files_of, small_run
from tests.waiting import wait_for


def read_chunks(reader: RunReader, max_rows: int = 20_000) -> list[Chunk]:
    chunks = [reader.read(max_rows)]
    while not chunks[-1].empty:
        chunks.append(reader.read(max_rows))
    return chunks


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    small_run(run)
    return run


def test_everything_that_was_written_is_read(recorded: Path) -> None:
    reader = RunReader(recorded)
    chunk = reader.read()

    assert chunk.steps.tobytes() == np.load(recorded / "rank-0" / "steps.npy").tobytes()
    assert chunk.machine is not None
    assert chunk.machine.tobytes() == np.load(recorded / "machine.npy").tobytes()
    assert [(g.table.table, g.table.names, len(g.rows)) for g in chunk.gradients] == [
        (0, ("weight", "bias"), 14),
        (1, ("weight",), 16),
    ]
    assert chunk.gradients[0].table.shapes == ((2, 3), (2, 3)) and chunk.gradients[1].table.first_step == 15
    assert chunk.gradients[0].rows["norm"][2].tolist() == [0.5, math.inf]
    assert [(u.table.table, u.rows["step"].tolist()) for u in chunk.updates] == [(0, [1, 5, 9, 13]), (1, [17, 21, 25, 29])]
    assert chunk.updates[0].rows["weight_norm"].tolist() == [[2.0, 1.0]] * 4
    assert chunk.updates[0].rows["update_norm"][:, 0].tolist() == [0.5] * 4
    assert np.isnan(chunk.updates[0].rows["update_norm"][:, 1]).all()
    assert chunk.metrics["accuracy/top 1"]["value"].tolist() == [0.1, 0.2, 0.3]
    assert [event["kind"] for event in chunk.events] == ["attached", *["evaluation", "checkpoint"] * 3]
    assert [event["kind"] for event in chunk.machine_events] == ["started", "ended"]
    assert reader.info["user"] == "ada" and reader.ranks == [0] and reader.problems == ()
    assert reader.read().empty and reader.caught_up


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_any_chunking_reads_the_same(recorded: Path, sizes: list[int]) -> None:
    whole = joined(read_chunks(RunReader(recorded)))
    reader = RunReader(recorded)
    chunks: list[Chunk] = []
    while not chunks or not chunks[-1].empty:
        chunks.append(reader.read(sizes[len(chunks) % len(sizes)]))

    assert_equal(joined(chunks), whole)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_file_cut_anywhere_is_a_prefix_and_no_error(
    recorded: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    run = tmp_path_factory.mktemp("cut") / "run"
    shutil.copytree(recorded, run)
    cut = data.draw(st.sampled_from(files_of(run)))
    os.truncate(cut, data.draw(st.integers(0, cut.stat().st_size)))
    whole, chunk = joined(read_chunks(RunReader(recorded))), joined(read_chunks(RunReader(run)))

    assert chunk.steps.tobytes() == whole.steps[: len(chunk.steps)].tobytes()
    assert chunk.events == whole.events[: len(chunk.events)]
    whole_rows = {g.table.table: g.rows for g in whole.gradients}
    for gradients in chunk.gradients:
        assert gradients.rows.tobytes() == whole_rows[gradients.table.table][: len(gradients.rows)].tobytes()
    if cut.name != "steps.npy":
        assert len(chunk.steps) == len(whole.steps)
    if cut.name != "events.jsonl":
        assert len(chunk.events) == len(whole.events)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_garbage_in_any_file_is_reported_or_left_out(
    recorded: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    run = tmp_path_factory.mktemp("garbage") / "run"
    shutil.copytree(recorded, run)
    path = data.draw(st.sampled_from(files_of(run)))
    start = data.draw(st.integers(0, path.stat().st_size))
    with open(path, "r+b") as file:
        file.seek(start)
        file.write(data.draw(st.binary(min_size=1, max_size=200)))
    reader, telemetry = RunReader(run), Telemetry()
    for chunk in read_chunks(reader, max_rows=7):
        telemetry.feed(chunk)

    snapshot = telemetry.snapshot(reader.info, reader.problems)
    assert snapshot.step >= 0
    assert (np.diff(snapshot.steps["step"]) >= 0).all() or path.name == "steps.npy"


@pytest.mark.parametrize(
    "name", ["run.json", "parameters-0.json", "gradients-0.npy", "updates-0.npy", "steps.npy", "machine.npy"]
)
def test_a_file_of_garbage_is_named_in_the_problems(recorded: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(recorded, tmp_path / "run")
    for path in (tmp_path / "run").rglob(name):
        path.write_bytes(b"garbage " * 20)
    reader = RunReader(tmp_path / "run")

    read_chunks(reader)

    assert any(name in problem for problem in reader.problems), reader.problems


def test_gradients_of_another_width_than_their_table_are_left_out(recorded: Path, tmp_path: Path) -> None:
    shutil.copytree(recorded, tmp_path / "run")
    rank = tmp_path / "run" / "rank-0"
    shutil.copy(rank / "parameters-1.json", rank / "parameters-0.json")
    reader = RunReader(tmp_path / "run")

    assert [g.table.table for g in reader.read().gradients] == [1]
    assert set(reader.problems) == {f"{name}-0.npy: its rows are not for 1 parameters" for name in ("gradients", "updates")}


def test_updates_that_are_torn_or_run_backwards(tmp_path: Path) -> None:
    files = RunFiles(tmp_path / "run")
    files.info()
    files.parameters(["a"])
    reader = RunReader(tmp_path / "run")
    for step in (1, 2, 1, 3):
        files.updates(step, [1.0], [step])
    with open(files.rank_path / "updates-0.npy", "ab") as file:
        file.write(b"torn")

    assert reader.read().updates[0].rows["step"].tolist() == [1, 2, 3]
    assert reader.read().empty
    assert reader.problems == ("updates-0.npy: left out rows: 1 with a step that runs backwards",)


def test_a_run_of_another_version_may_have_more_and_fewer_columns(tmp_path: Path) -> None:
    files = RunFiles(tmp_path / "run")
    columns = [("loss", "f4"), ("time", "f8"), ("news", "f8"), ("step", "i4")]
    files.table(files.rank_path / "steps.npy", columns).append([[0.5, START, 7.0, 1], [0.25, START + 1, 7.0, 2]])
    steps = RunReader(tmp_path / "run").read().steps

    assert steps["step"].tolist() == [1, 2] and steps["loss"].tolist() == [0.5, 0.25]
    assert np.isnan(steps["learning_rate"]).all()


def test_files_that_appear_later_are_picked_up(tmp_path: Path) -> None:
    run = tmp_path / "train-20260101-120000-77"
    run.mkdir()
    reader = RunReader(run)
    assert reader.read().empty and reader.ranks == [] and reader.info == {}

    files = RunFiles(run)
    files.event("waiting", 0, START)
    assert [event["kind"] for event in reader.read().events] == ["waiting"]
    files.info(user="ada")
    files.step(1)
    assert len(reader.read().steps) == 1 and reader.info["user"] == "ada"
    files.machine(START)
    files.parameters(["w"], table=1)
    files.gradients(2, [1.0], table=1)
    files.metric("%/..\x1b", 2, 1.0)
    chunk = reader.read()
    assert chunk.machine is not None and len(chunk.machine) == 1
    assert [g.table.table for g in chunk.gradients] == [1]
    assert list(chunk.metrics) == ["%/..\x1b"]
    assert reader.ranks == [0]


def test_a_rank_that_is_not_there_is_an_empty_run(recorded: Path) -> None:
    chunk = RunReader(recorded, rank=5).read()

    assert len(chunk.steps) == 0 and chunk.events == ()


WRITER = """
import sys
from pathlib import Path
from tests.recorded import RunFiles
files = RunFiles(Path(sys.argv[1]))
files.info(user="ada")
files.parameters(["a", "b"])
print("ready", flush=True)
for step in range(1, 2001):
    files.step(step, loss=1.0 / step)
    files.gradients(step, [step, 2.0 * step])
    files.event("epoch", step, epoch=step)
"""


def test_a_run_is_read_while_another_process_writes_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(run)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
        reader, chunks = RunReader(run), []

        def all_is_read() -> bool:
            chunk = reader.read(max_rows=37)
            chunks.append(chunk)
            return chunk.empty and reader.caught_up and writer.poll() is not None

        wait_for(all_is_read, "the writer to end and its run to be read")
    whole = joined(chunks)

    assert len(chunks) > 10
    assert whole.steps["step"].tolist() == list(range(1, 2001))
    assert whole.gradients[0].rows["norm"][:, 1].tolist() == [2.0 * step for step in range(1, 2001)]
    assert [event["step"] for event in whole.events] == list(range(1, 2001))
    assert reader.problems == ()


def test_a_run_deleted_while_it_is_read_ends_quietly(recorded: Path, tmp_path: Path) -> None:
    shutil.copytree(recorded, tmp_path / "run")
    reader = RunReader(tmp_path / "run")
    reader.read(5)
    shutil.rmtree(tmp_path / "run")

    assert reader.read().empty and reader.ranks == []


@pytest.mark.parametrize("content", [[], ["train.py", "data/x"]])
def test_an_empty_or_foreign_directory_is_no_run(tmp_path: Path, content: list[str]) -> None:
    for name in content:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"is no run directory of forgemon: it has no run.json\. List runs with: forgemon runs"):
        RunReader(tmp_path)


def test_what_is_not_there_or_a_file_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"there is no .*nothing.* List runs with: forgemon runs"):
        RunReader(tmp_path / "nothing")
    with pytest.raises(UserError, match="is a file, not a run directory"):
        RunReader(tmp_path / "file")


def test_a_directory_that_may_not_be_read_is_one_clear_line(tmp_path: Path) -> None:
    run = tmp_path / "run"
    small_run(run, steps=4)
    os.chmod(run, 0)
    program = """
import os, sys
from forgemon.errors import UserError
from forgemon.reader import RunReader
from pathlib import Path
if os.getuid() == 0:
    os.setuid(65534)
try:
    RunReader(Path(sys.argv[1]))
except UserError as error:
    print(error)
"""
    for parent in (tmp_path, *tmp_path.parents[:2]):
        os.chmod(parent, 0o755)
    done = subprocess.run([sys.executable, "-c", program, str(run)], capture_output=True, text=True, check=False)
    os.chmod(run, 0o700)

    assert done.stdout.startswith(f"cannot read {run}: Permission denied."), (done.stdout, done.stderr)


def test_a_newer_format_is_refused_by_its_number(tmp_path: Path) -> None:
    RunFiles(tmp_path / "run").info(format=2)
    with pytest.raises(UserError, match=r"format 2, this forgemon reads up to 1\. Upgrade"):
        RunReader(tmp_path / "run")


def test_too_many_metrics_are_bounded_and_reported(tmp_path: Path) -> None:
    files = RunFiles(tmp_path / "run")
    for i in range(505):
        (files.rank_path / "metrics" / f"m{i}.npy").touch()
    reader = RunReader(tmp_path / "run")
    reader.read()

    assert reader.problems == ("metrics: more than 500 metrics, the rest is left out",)
