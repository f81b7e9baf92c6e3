"""Where runs live, what they are called, and which one a person means."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from forgemon.errors import UserError
from forgemon.places import list_runs, new_run_directory, resolve_run, runs_directory
from forgemon.reader import RunReader
from tests.recorded import START, RunFiles, small_run


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FORGEMON_RUNS", str(tmp_path / "state" / "runs"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "state" / "runs"


def test_runs_live_where_the_environment_says(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert runs_directory() == runs
    monkeypatch.delenv("FORGEMON_RUNS")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert runs_directory().name == "runs" and "forgemon" in runs_directory().parts


def test_a_new_run_is_named_after_script_and_process_and_is_private(runs: Path) -> None:
    run = new_run_directory("/home/ada/my train.py", 4242)

    assert run.parent == runs and run.name.startswith("my_train-") and run.name.endswith("-4242")
    for made in (run, runs, runs.parent):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert RunReader(run).read().empty


def test_a_module_is_named_in_full(runs: Path) -> None:
    assert new_run_directory("-m vision.train", 7).name.startswith("vision.train-")


def test_a_name_that_is_taken_gets_a_suffix(runs: Path) -> None:
    made = {new_run_directory("train.py", 7) for _ in range(20)}

    assert len(made) == 20 and all(RunReader(run).read().empty for run in made)


@pytest.mark.parametrize("script", ["", "...", "/", "-c", "../../x", "a\x1b[31m\nb.py", "ü" * 300])
def test_any_script_name_stays_inside_the_folder(runs: Path, script: str) -> None:
    run = new_run_directory(script, 7)

    assert run.parent == runs and run.name.isprintable() and run.is_dir()


def test_where_nothing_can_be_made_the_line_names_the_ways_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"Not a directory\. .* --run-dir or the environment variable FORGEMON_RUNS"):
        new_run_directory("train.py", 7, tmp_path / "file" / "runs")


def test_a_full_disk_is_told_before_anything_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        path.touch()  # as a full disk does: the file is there, its content is not
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"No space left on device\. .* --run-dir or the environment variable FORGEMON_RUNS"):
        new_run_directory("train.py", 7, tmp_path / "runs")
    assert os.listdir(tmp_path / "runs") == []


def test_a_run_is_found_by_path_name_and_beginning(runs: Path, tmp_path: Path) -> None:
    for name in ("train-1", "train-2", "other-1"):
        small_run(runs / name, steps=2)
    small_run(tmp_path / "here", steps=2)

    assert resolve_run("here") == tmp_path / "here"
    assert resolve_run(str(runs / "other-1")) == runs / "other-1"
    assert resolve_run("here/run.json") == tmp_path / "here"
    assert resolve_run("train-2") == runs / "train-2"
    assert resolve_run("oth") == runs / "other-1"
    with pytest.raises(UserError, match=r"train could be 2 runs: train-1, train-2\."):
        resolve_run("train")


@pytest.mark.parametrize("text", ["nothing", "no/such/path", "/no/such/path", "", "..", "nothing\x00"])
def test_what_is_no_run_says_what_to_do(text: str) -> None:
    with pytest.raises(UserError, match="List runs with: forgemon runs"):
        resolve_run(text)


def test_a_list_says_how_each_run_stands(runs: Path) -> None:
    small_run(runs / "done", steps=20)
    files = RunFiles(runs / "torn")
    files.info(created=START + 5)
    files.step(3, loss=0.5)
    files.step(4, loss=math.nan)
    with open(files.rank_path / "steps.npy", "ab") as file:
        file.write(b"torn")
    (runs / "empty").mkdir()
    (runs / "a file").touch()
    (runs / "broken" / "rank-0").mkdir(parents=True)
    for name in ("run.json", "rank-0/steps.npy", "rank-0/events.jsonl", "machine.jsonl"):
        (runs / "broken" / name).write_bytes(b"garbage\n" * 9)
    by_name = {run.name: run for run in list_runs(runs)}

    assert set(by_name) == {"done", "torn", "broken"}
    done = by_name["done"]
    assert (done.script, done.host, done.user, done.created, done.ranks) == ("/home/ada/train.py", "elsewhere", "ada", START, 1)
    assert (done.steps, done.state, done.last_loss) == (20, "finished", 1 / 20)
    assert by_name["torn"].steps == 4 and math.isnan(by_name["torn"].last_loss)
    assert by_name["broken"].steps == 0


def test_a_list_of_many_runs_reads_ends_alone(runs: Path) -> None:
    files = RunFiles(runs / "long")
    files.info(created=START)
    files.step(1, loss=1.0)
    path = files.rank_path / "steps.npy"
    row = path.read_bytes()[-100:]
    with open(path, "r+b") as file:
        file.seek(1 << 40)
        file.truncate()
        file.seek((os.path.getsize(path) // 100) * 100)
    with open(files.rank_path / "events.jsonl", "wb") as file:
        file.truncate(1 << 40)
    assert len(row) == 100

    assert list_runs(runs)[0].steps == 0  # the last rows are holes: nothing is known, and nothing is read to find out


def forgemon(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "forgemon", *arguments], capture_output=True, text=True, check=False)


def test_no_runs_is_one_line_and_no_failure(runs: Path) -> None:
    for arguments in ((), ("--json",)):
        done = forgemon("runs", *arguments)
        assert done.returncode == 0
        assert done.stderr == f"forgemon: no runs in {runs}. Record one with: forgemon demo\n"
        assert done.stdout == ("" if not arguments else "[]\n")


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    done = forgemon("runs", str(tmp_path / "nowhere"))

    assert done.returncode == 2
    assert done.stderr.startswith(f"forgemon: there is no folder {tmp_path / 'nowhere'}.") and done.stderr.count("\n") == 1


def test_through_a_pipe_each_run_is_one_line_of_tabs(runs: Path) -> None:
    small_run(runs / "done", steps=4)
    RunFiles(runs / "evil").info(script="a\tb\n\x1b]0;x\x07", user=["x"], host="[red]", created=START - 5)
    done = forgemon("runs")
    lines = [line.split("\t") for line in done.stdout.splitlines()]

    assert done.returncode == 0 and done.stderr == ""
    assert [line[0] for line in lines] == ["done", "evil"] and {len(line) for line in lines} == {8}
    assert lines[0][1:4] == ["finished", "4", "0.25"] and lines[0][5:] == ["ada", "elsewhere", "/home/ada/train.py"]
    assert lines[1][5:] == ["", "[red]", "a\\tb\\n\\x1b]0;x\\x07"]


def test_json_is_one_array_that_any_tool_reads(runs: Path) -> None:
    small_run(runs / "done", steps=4)
    RunFiles(runs / "new").info(created=START + 1)
    new, done = json.loads(forgemon("runs", "--json").stdout)

    assert (done["name"], done["path"], done["steps"], done["last_loss"]) == ("done", str(runs / "done"), 4, 0.25)
    assert (new["name"], new["last_loss"], new["script"]) == ("new", None, "")
