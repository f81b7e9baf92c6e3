"""`forgemon replay` as a person meets it: in a real terminal, through a pipe, with a run that is none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.terminal import Terminal
from tests.tui.runs import training_run

FORGEMON = [sys.executable, "-m", "forgemon"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FORGEMON_RUNS", str(tmp_path))
    for name in ("COLUMNS", "LINES"):  # they would hide the terminal's own size; pytest-xdist sets one
        monkeypatch.delenv(name, raising=False)
    training_run(tmp_path / "recorded", steps=80, reused_from=3)
    return tmp_path / "recorded"


def test_a_recording_is_opened_by_its_name_and_left_with_q(run: Path) -> None:
    with Terminal([*FORGEMON, "replay", "recorded"], columns=80, rows=24) as terminal:
        terminal.wait_for("step 1 of 80")
        terminal.press("end")
        assert "missing-zero-grad" in terminal.wait_for("ALARM")
        terminal.resize(120, 36)
        terminal.wait_for("can this loop be trusted?")
        terminal.press("q")
        assert terminal.wait() == 0


def test_a_step_can_be_asked_for_and_control_c_leaves_cleanly(run: Path) -> None:
    with Terminal([*FORGEMON, "replay", str(run), "--at", "40"]) as terminal:
        terminal.wait_for("step 40 of 80")
        terminal.press("\x03")
        assert terminal.wait() == 0
        assert "Traceback" not in terminal.text()


def test_killing_the_dashboard_harms_nothing_that_is_recorded(run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with Terminal([*FORGEMON, "replay", str(run)]) as terminal:
        terminal.wait_for("step 1 of 80")
        os.kill(terminal.process.pid, signal.SIGKILL)
        terminal.wait()
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_through_a_pipe_it_says_what_to_use_instead(run: Path) -> None:
    done = subprocess.run([*FORGEMON, "replay", str(run)], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 2 and done.stdout == ""
    assert "needs a terminal" in done.stderr and "forgemon check" in done.stderr and done.stderr.count("\n") == 1


def test_a_terminal_that_cannot_draw_is_refused_before_anything_is_drawn(run: Path) -> None:
    with Terminal([*FORGEMON, "replay", str(run)], {"TERM": "dumb"}) as terminal:
        assert terminal.wait() == 2
        assert "cannot draw" in terminal.text()


def test_what_is_no_run_is_said_in_one_line(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with Terminal([*FORGEMON, "replay", str(tmp_path / "empty")]) as terminal:
        assert terminal.wait() == 2
        assert "forgemon: " in terminal.text() and "Traceback" not in terminal.text()


def test_the_dashboard_loads_no_torch(run: Path) -> None:
    code = "import sys; import forgemon.tui.app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
