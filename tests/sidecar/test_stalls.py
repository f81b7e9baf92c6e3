"""Stalls: what counts as silence, on a clock of ours, and the stack of a real process that waits."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from forgemon import stalls
from forgemon.stalls import StallClock, StallLimits, recent_gaps_s, stack_of, usual_gap_s
from probes.record import STEP_COLUMNS
from probes.table import Table
from tests.sidecar.scene import QUICK, Scene, step_row
from tests.waiting import wait_for

LIMITS = StallLimits(shortest_s=10, usual_factor=10, first_step_s=60)


def steps_file(folder: Path, *gaps_s: float) -> str:
    """A steps.npy whose rows lie so far apart."""
    path = str(folder / "steps.npy")
    when = 1000.0
    table = Table(path, STEP_COLUMNS)
    table.append([step_row(when)])
    for gap in gaps_s:
        when += gap
        table.append([step_row(when)])
    table.close()
    return path


def test_fast_steps_that_stop_are_a_stall_after_ten_seconds(tmp_path: Path) -> None:
    steps = [steps_file(tmp_path, 0.1, 0.1)]
    clock = StallClock(LIMITS, now=0)
    assert clock.update(1, [5], steps) is None
    assert clock.update(10.9, [5], steps) is None
    assert clock.update(11, [5], steps) == "stalled"
    assert clock.update(12, [5], steps) is None, "said once"
    assert clock.update(31, [6], steps) == "resumed"
    assert clock.silent_s == 30
    assert clock.update(40.9, [6], steps) is None
    assert clock.update(41, [6], steps) == "stalled"


def test_slow_steps_may_take_ten_times_as_long(tmp_path: Path) -> None:
    steps = [steps_file(tmp_path, 4, 5, 4)]
    clock = StallClock(LIMITS, now=0)
    clock.update(0, [5], steps)
    assert clock.update(49, [5], steps) is None
    assert clock.update(51, [5], steps) == "stalled"
    assert clock.usual_s == pytest.approx(5)


def test_before_the_first_step_only_a_minute_counts(tmp_path: Path) -> None:
    missing = [str(tmp_path / "steps.npy")]
    clock = StallClock(LIMITS, now=0)
    assert clock.update(0, [0, 1], missing) is None
    assert clock.update(59, [0, 1], missing) is None
    assert clock.update(60, [0, 1], missing) == "stalled"
    assert clock.usual_s is None


def test_where_nothing_reports_nothing_stalls() -> None:
    clock = StallClock(LIMITS, now=0)
    assert clock.update(1000, [], []) is None


def test_usual_is_the_99th_percentile_of_the_last_thousand(tmp_path: Path) -> None:
    path = steps_file(tmp_path, *[50.0] * 20, *[0.1] * 991, *[3.0] * 9)
    assert len(recent_gaps_s(path)) == 1000
    assert usual_gap_s([path]) == pytest.approx(0.1)
    assert usual_gap_s([steps_file(tmp_path, *[0.1] * 989, *[3.0] * 11)]) == pytest.approx(3)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff", bytes(range(256)) * 2])
def test_a_broken_file_has_no_usual(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "steps.npy"
    path.write_bytes(content)
    usual = usual_gap_s([str(path)])
    assert usual is None or usual > 0


def test_a_stalled_process_shows_where_it_waits_and_goes_on(scene: Scene) -> None:
    process = scene.python(
        "import sys, threading\n"
        "def fetch_batch(): sys.stdin.read()\n"
        "def train(): print('ready', flush=True); fetch_batch()\n"
        "threading.Thread(target=threading.Event().wait, name='pin-memory', daemon=True).start()\n"
        "train()\n"
    )
    assert process.stdout and process.stdout.readline() == b"ready\n"
    scene.probe_says("attached", pid=process.pid)
    scene.probe_steps(0.03, 0.02, 0.01)
    scene.watch(process.pid, *QUICK)
    stalled = scene.wait_for_event("stalled")
    assert stalled["pid"] == process.pid
    assert stalled["usual_s"] == pytest.approx(0.01, rel=0.5)
    assert 0.4 <= stalled["seconds"] < time.time() - stalled["since"] + 1
    if not stalled["stack"]:
        pytest.skip(f"py-spy may not look here: {stalled['message']}")
    main, *others = stalled["stack"]
    assert main["thread"] == "MainThread"
    functions = [(frame["function"], frame["line"]) for frame in main["frames"]]
    assert functions[:3] == [("fetch_batch", 2), ("train", 3), ("<module>", 5)]
    assert [other["thread"] for other in others] == ["pin-memory"]
    scene.probe_steps(0)
    assert scene.wait_for_event("resumed")["stalled_s"] > 0.4


def test_a_stopped_process_is_called_stopped(scene: Scene) -> None:
    process = scene.waiting_python()
    scene.probe_says("attached", pid=process.pid)
    scene.probe_steps(0.02, 0.01)
    process.send_signal(signal.SIGSTOP)
    scene.watch(process.pid, *QUICK)
    assert f"kill -CONT {process.pid}" in scene.wait_for_event("stalled")["message"]


def test_progress_in_a_long_evaluation_is_no_stall(scene: Scene) -> None:
    process = scene.waiting_python()
    scene.probe_says("attached", pid=process.pid)
    scene.probe_steps(0.02, 0.01)
    scene.watch(process.pid, *QUICK)
    scene.wait_for_event("stalled")
    scene.probe_says("progress", batches=3)
    scene.wait_for_event("resumed")


def test_without_py_spy_the_stack_is_empty_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stalls, "py_spy_path", lambda: None)
    stack, message = stack_of(os.getpid())
    assert stack == []
    assert "pip install py-spy" in message


def test_of_a_process_that_is_no_python_the_stack_is_empty_and_says_why(scene: Scene) -> None:
    import subprocess

    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    wait_for(lambda: os.readlink(f"/proc/{process.pid}/exe").endswith(("cat", "coreutils")), "cat")
    stack, message = stack_of(process.pid)
    process.communicate()
    assert stack == []
    assert message.startswith("no stack: py-spy said")
