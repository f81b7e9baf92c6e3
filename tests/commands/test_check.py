"""forgemon check: text, JSON, exit codes, and following a run that grows, each in a process of its own."""

from __future__ import annotations

import json
import math
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.recorded import START, RunFiles, small_run
from tests.waiting import wait_for

WHERE = {
    "file": "/home/ada/train.py",
    "line": 42,
    "function": "<module>",
    "source": ["loss = f(x)", "loss.backward()\x1b[31m", "opt.step()"],
    "source_first_line": 41,
}


def forgemon(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "forgemon", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def run_without_zero_grad(run: Path, steps: int = 20) -> RunFiles:
    files = RunFiles(run)
    files.info(host="elsewhere", pid=1, created=START)
    files.event("attached", 0, START, pid=1, signals={"loss": "seen", "gradient clipping": "not visible"})
    named: dict[str, Any] = {"class": "SGD"}
    files.event("optimizer", 0, index=0, learning_rate=0.1, **named)
    fact: dict[str, Any] = {
        "fact": "missing-zero-grad",
        "optimizer": 0,
        "parameters_checked": 4,
        "parameters_reused": 4,
        "where": WHERE,
    }
    files.event("fact", 2, parameter="fc1.weight", previous_step=1, times=1, **fact)
    for step in range(1, steps + 1):
        files.step(step, loss=1 / step, training=1, gradients_reused=math.nan if step == 1 else 1)
    return files


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    files = run_without_zero_grad(tmp_path / "faulty")
    files.machine_event("ended", START + 60, how="finished", exit_code=0, signal=None, message="")
    return tmp_path / "faulty"


def test_json_holds_everything_and_the_exit_code_says_alarm(faulty: Path) -> None:
    done = forgemon("check", faulty, "--json")
    assert (done.returncode, done.stderr) == (1, "")
    found = json.loads(done.stdout)
    assert found.keys() == {
        *("run", "rank_count", "steps", "ended", "findings", "checklist", "loop_note", "loop_note_answers"),
        *("signals", "order_of_calls", "skipped_steps", "best_checkpoint", "probe_cost", "dropped_rows", "trial"),
    }
    assert (found["rank_count"], found["steps"], found["ended"], found["best_checkpoint"]) == (1, 20, "finished", None)
    alarm, end = found["findings"]
    assert (alarm["symptom"], alarm["level"], alarm["first_step"], alarm["last_step"]) == ("missing-zero-grad", "alarm", 2, 20)
    assert alarm["stands"] is True
    assert alarm["where"]["location"] == "/home/ada/train.py:42"
    first_failure = found["loop_note_answers"]["first_failure"]
    assert (first_failure["symptom"], first_failure["first_step"]) == ("missing-zero-grad", 2)
    assert found["loop_note_answers"]["stable"]["answer"] == "no"
    assert alarm["fix"].startswith("Call optimizer.zero_grad()")
    assert (end["symptom"], end["cause"], end["level"]) == ("ended", "finished", "info")
    assert found["signals"]["gradient clipping"] == "not visible"
    assert found["checklist"][0]["id"] == "gradients-zeroed"


def test_text_through_a_pipe_is_plain_and_marks_the_line(faulty: Path) -> None:
    done = forgemon("check", faulty)
    assert done.returncode == 1
    assert "\x1b" not in done.stdout
    assert "ALARM  missing-zero-grad  (since step 2, last seen at step 20)" in done.stdout
    assert "     >    42 | loss.backward()?[31m" in done.stdout.splitlines()
    assert "Fix: Call optimizer.zero_grad()" in done.stdout
    assert (
        "  no           Are gradients zeroed at the right time? since step 2\n               see missing-zero-grad above\n"
        in done.stdout
    )
    assert "\n  stable enough    no: The loop is not stable enough to trust" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines() if "|" not in line and "/" not in line) <= 80


def test_a_finding_that_is_over_says_until_when_it_stood(tmp_path: Path) -> None:
    files = RunFiles(tmp_path / "run")
    for step in range(1, 101):
        files.step(step, loss=1 / step, training=1)
    clipped: dict[str, Any] = {"fact": "clip-before-backward", "key": 0}
    files.event("fact", 10, at_step=10, norm=0.0, limit=0.5, where=WHERE, **clipped)
    files.event("fact_gone", 90, times=9, last_step=30, **clipped)
    said = forgemon("check", tmp_path / "run").stdout
    assert "ALARM  clip-before-backward  (steps 10 to 30, no longer)" in said
    (finding,) = json.loads(forgemon("check", tmp_path / "run", "--json").stdout)["findings"]
    assert (finding["first_step"], finding["last_step"], finding["stands"]) == (10, 30, False)


def test_a_healthy_run_has_exit_code_0(tmp_path: Path) -> None:
    small_run(tmp_path / "quiet")
    done = forgemon("check", tmp_path / "quiet")
    assert done.returncode == 0, done.stdout
    assert "No alarm and nothing to watch" in done.stdout


def test_best_checkpoint_says_whether_the_file_is_there(tmp_path: Path) -> None:
    files = small_run(tmp_path / "run")
    saved = tmp_path / "best.pt"
    saved.write_bytes(b"weights")
    files.event("evaluation", 30, metric="cross_entropy", value=0.25, training=False, grad_enabled=False)
    files.event("checkpoint", 30, path=str(saved), function="torch.save", evaluation_step=30)
    best = json.loads(forgemon("check", tmp_path / "run", "--json").stdout)["best_checkpoint"]
    assert best == {"metric": "cross_entropy", "value": 0.25, "step": 30, "path": str(saved), "exists": True}


def test_fail_on_watch(tmp_path: Path) -> None:
    files = RunFiles(tmp_path / "run")
    for step in range(1, 40):
        files.step(step, loss=math.nan if step == 20 else 1.0, micro_batches=1, training=1)
    assert forgemon("check", tmp_path / "run").returncode == 0
    assert forgemon("check", tmp_path / "run", "--fail-on", "watch").returncode == 1


@pytest.mark.parametrize("name", ["nothing-there", "."])
def test_what_is_no_run_is_one_line_and_exit_code_2(tmp_path: Path, name: str) -> None:
    done = forgemon("check", tmp_path / name)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("forgemon: ") and done.stderr.count("\n") == 1


def test_a_run_without_steps_is_not_called_healthy(tmp_path: Path) -> None:
    RunFiles(tmp_path / "run").event("waiting", 0, message="for the first step")
    done = forgemon("check", tmp_path / "run")
    assert done.returncode == 0
    assert "Nothing could be judged: no optimizer step was seen." in done.stdout


def live(run: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "forgemon", "check", str(run), "--follow", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def live_run(run: Path) -> RunFiles:
    """A run whose process lives as long as the test does."""
    files = RunFiles(run)
    files.info(host=os.uname().nodename, pid=os.getpid(), created=START)
    files.event("attached", 0, START, pid=os.getpid(), signals={"loss": "seen"})
    for step in range(1, 30):
        files.step(step, loss=1.0, micro_batches=1, training=1, gradients_reused=0)
    return files


def test_follow_leaves_as_soon_as_an_alarm_stands(tmp_path: Path) -> None:
    files = live_run(tmp_path / "run")
    watching = live(tmp_path / "run")
    assert watching.poll() is None
    for step in range(30, 34):
        files.step(step, loss=math.nan, micro_batches=1, training=1)
    said, _ = watching.communicate(timeout=60)
    assert watching.returncode == 1
    assert said.count("ALARM  loss-nonfinite") == 2  # when it came, and in the report


def test_follow_leaves_when_the_run_ends(tmp_path: Path) -> None:
    files = live_run(tmp_path / "run")
    watching = live(tmp_path / "run", "--json")
    files.machine_event("ended", START + 50, how="finished", exit_code=0, signal=None, message="")
    said, _ = watching.communicate(timeout=60)
    assert watching.returncode == 0
    found: dict[str, Any] = json.loads(said)
    assert (found["ended"], found["steps"]) == ("finished", 29)


def test_colours_in_a_terminal_alone(faulty: Path) -> None:
    ours, theirs = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    command = [sys.executable, "-m", "forgemon", "check", str(faulty)]
    process = subprocess.Popen(command, stdout=theirs, env=environment)
    os.close(theirs)
    shown = b""

    def read_on() -> bool:
        nonlocal shown
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other side is closed
            return True
        shown += piece
        return not piece

    wait_for(read_on, "the report in a terminal")
    os.close(ours)
    assert process.wait(60) == 1
    assert b"\x1b[31m\x1b[1mALARM" in shown
    assert b"\x1b[31m\r\n" not in shown  # the colour that the log tried to switch on
