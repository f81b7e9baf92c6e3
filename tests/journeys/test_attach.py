"""Attach to a script that was already running, look, leave, come back; it never knows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.journeys.training import SCRIPT, Training, forgemon, newest_step, only_run, report
from tests.terminal import Terminal
from tests.waiting import wait_for

CYCLES = 50


def test_fifty_attach_detach_cycles_leave_the_run_bit_identical(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    watched_folder, plain_folder = tmp_path / "watched", tmp_path / "plain"
    watched_folder.mkdir()
    plain_folder.mkdir()
    with Training(watched_folder, "--pause", "0.001") as training:
        for cycle in range(CYCLES):
            folder = runs / str(cycle)
            forgemon("attach", str(training.pid), "--headless", "--run-dir", str(folder), runs=runs)
            run = only_run(folder)
            if cycle % 10 == 0:
                wait_for(partial(newest_step, run), f"rows of cycle {cycle}")
            forgemon("detach", str(training.pid), runs=runs)
            open_files = [os.readlink(link) for link in Path(f"/proc/{training.pid}/fd").iterdir() if link.exists()]
            assert not [file for file in open_files if "rank-0" in file], f"cycle {cycle}"
        output = training.finish()
    steps = int(output.splitlines()[-1].split()[0])
    plain = subprocess.run(
        [sys.executable, str(SCRIPT), "--steps", str(steps)],
        capture_output=True,
        text=True,
        cwd=plain_folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
    )
    assert output == plain.stdout
    assert len(list(runs.iterdir())) == CYCLES


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


def dashboard(runs: Path, *arguments: str, columns: int = 120, rows: int = 36) -> Terminal:
    return Terminal([sys.executable, "-m", "forgemon", *arguments], {"FORGEMON_RUNS": str(runs)}, columns, rows)


def test_see_it_live_quit_come_back_and_detach(tmp_path: Path, runs: Path) -> None:
    with Training(tmp_path, "--pause", "0.005") as training:
        with dashboard(runs, "attach", str(training.pid)) as terminal:
            screen = terminal.wait_for("TRAIN")
            terminal.wait_for("0.weight")
            assert "running" in terminal.text() and "train-" not in screen
            terminal.press("q")
            assert terminal.wait() == 0
            assert f"forgemon detach {training.pid}" in terminal.text()
        run = only_run(runs)
        seen = newest_step(run)
        wait_for(lambda: newest_step(run) > seen, "recording to go on after the dashboard was left")
        with dashboard(runs, "attach", str(training.pid), columns=80, rows=24) as terminal:
            terminal.wait_for("TRAIN")
            terminal.resize(140, 40)
            terminal.wait_for("0.weight")
            terminal.press("q")
            assert terminal.wait() == 0
        assert only_run(runs) == run
        forgemon("detach", str(training.pid), runs=runs)
        training.finish()
    assert report(run, runs)["ended"] == "detached"


def test_kill_of_the_dashboard_harms_neither_training_nor_recording(tmp_path: Path, runs: Path) -> None:
    with Training(tmp_path, "--pause", "0.005") as training:
        with dashboard(runs, "attach", str(training.pid)) as terminal:
            terminal.wait_for("TRAIN")
            os.kill(terminal.process.pid, signal.SIGKILL)
            terminal.process.wait()
        run = only_run(runs)
        seen = newest_step(run)
        wait_for(lambda: newest_step(run) > seen, "recording to go on")
        training.finish()
        ended = wait_for(lambda: report(run, runs)["ended"], "the end to be recorded")
    assert ended == "finished"
    assert newest_step(run) > seen


def test_kill_of_the_sidecar_harms_neither_training_nor_recording(tmp_path: Path, runs: Path) -> None:
    with Training(tmp_path, "--pause", "0.005") as training:
        forgemon("attach", str(training.pid), "--headless", runs=runs)
        run = only_run(runs)
        wait_for(lambda: sidecar_of(run), "the sidecar")
        os.kill(sidecar_of(run), signal.SIGKILL)
        seen = newest_step(run)
        wait_for(lambda: newest_step(run) > seen, "recording to go on")
        training.finish()
        assert report(run, runs)["ended"] == "finished"


def sidecar_of(run: Path) -> int:
    """PID of the sidecar, as it wrote it itself; 0 before that."""
    import json

    file = run / "machine.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return next((int(event["pid"]) for event in map(json.loads, lines) if event["kind"] == "started"), 0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_training_replays_up_to_its_last_rows_and_says_how_it_ended(
    tmp_path: Path, runs: Path, number: signal.Signals
) -> None:
    with Training(tmp_path, "--pause", "0.005") as training:
        forgemon("attach", str(training.pid), "--headless", runs=runs)
        run = only_run(runs)
        wait_for(lambda: newest_step(run) > 50, "some rows")
        training.process.send_signal(number)
        training.process.wait()
        assert wait_for(lambda: report(run, runs)["ended"], "the end to be recorded") == "killed"
    reported = report(run, runs)
    (finding,) = [f for f in reported["findings"] if f["symptom"] == "ended"]
    assert number.name in finding["summary"]
    assert finding["level"] == ("alarm" if number == signal.SIGKILL else "info")  # somebody asked for a SIGTERM
    last = reported["steps"]
    assert last >= newest_step(run)  # more, where an event of a later step was the last that was written
    with dashboard(runs, "replay", str(run)) as terminal:
        terminal.press("end")
        terminal.wait_for(number.name)
        assert str(last) in terminal.text()
        terminal.press("q")
        assert terminal.wait() == 0


def test_without_a_terminal_nothing_is_touched(tmp_path: Path, runs: Path) -> None:
    with Training(tmp_path) as training:
        done = forgemon("attach", str(training.pid), runs=runs, check=False)
        assert done.returncode == 2
        assert "--headless" in done.stderr and len(done.stderr.splitlines()) == 1
        assert not list(runs.iterdir())
        training.finish()
