"""How a run goes or ended, from the events of probe and sidecar; gone without a word is found out by looking at the process."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from forgemon.reader import RunReader, read_all
from forgemon.run_list import is_live
from forgemon.state import ModeBadge, RunState
from forgemon.telemetry import Telemetry
from tests.recorded import START, RunFiles

ATTACHED: tuple[str, float, dict[str, Any]] = ("attached", 0.0, {})
STACK = [
    {
        "thread": "MainThread",
        "frames": [{"function": "wait", "file": "/a.py", "line": 3}, {"function": "main", "file": "/b.py"}],
    }
]


def state_of(rank: list[Any], machine: list[Any], newest_step: float = 10.0, now: float = 20.0) -> tuple[str, str]:
    state = RunState()
    for kind, time, fields in machine:
        state.add_machine({"kind": kind, "time": time, **fields})
    for kind, time, fields in rank:
        state.add({"kind": kind, "time": time, "step": 0, **fields})
    return state.state(newest_step, now)[:2]


ENDED = [
    ({"how": "finished", "exit_code": 0, "message": ""}, ("finished", "")),
    ({"how": "killed", "signal": "SIGKILL", "message": ""}, ("killed", "SIGKILL")),
    ({"how": "killed", "signal": "SIGKILL", "message": "killed by SIGKILL"}, ("killed", "killed by SIGKILL")),
    ({"how": "exited", "exit_code": 3}, ("exited", "exit code 3")),
    ({"how": "gone", "message": "no word"}, ("gone", "no word")),
    ({"how": ["?"], "exit_code": "x", "message": 5}, ("exited", "")),
]


@pytest.mark.parametrize(("fields", "expected"), ENDED)
def test_how_it_ended_is_what_the_sidecar_says(fields: dict[str, Any], expected: tuple[str, str]) -> None:
    assert state_of([ATTACHED, ("exiting", 11.0, {})], [("ended", 12.0, fields)]) == expected


def test_a_record_without_an_end_says_so() -> None:
    finished = ("ended", 30.0, {"how": "finished", "exit_code": 0})

    assert state_of([ATTACHED], [finished], newest_step=10.0) == ("finished", "record ends 20 s early: full disk or os._exit()")
    for last in ("exiting", "detached"):
        assert state_of([ATTACHED, (last, 11.0, {})], [finished], newest_step=10.0) == ("finished", "")
    assert state_of([ATTACHED], [finished], newest_step=29.0) == ("finished", "")
    killed = ("ended", 30.0, {"how": "killed", "signal": "SIGKILL"})
    assert state_of([ATTACHED], [killed], newest_step=10.0) == ("killed", "SIGKILL")


def test_an_exception_is_named_with_and_without_a_sidecar() -> None:
    raised = ("exception", 11.0, {"type": "ValueError", "message": "bad batch\nmore"})

    assert state_of([ATTACHED, raised, ("exiting", 11.5, {})], []) == ("exception", "ValueError: bad batch")
    assert state_of([ATTACHED, raised], [("ended", 12.0, {"how": "exception"})]) == ("exception", "ValueError: bad batch")


def test_without_a_sidecar_the_probe_says_how_it_ended() -> None:
    assert state_of([ATTACHED, ("exiting", 11.0, {})], [])[0] == "finished"
    assert state_of([ATTACHED, ("detached", 11.0, {"reason": "asked to"})], []) == ("detached", "asked to")


def test_attached_once_more_is_running_again() -> None:
    again = [ATTACHED, ("detached", 5.0, {}), ("attached", 15.0, {})]

    assert state_of(again, [("ended", 6.0, {"how": "finished"})])[0] == "running"


def test_before_the_first_step_it_waits() -> None:
    waiting = ("waiting", 1.0, {"for": "torch"})

    assert state_of([], [], newest_step=-math.inf) == ("waiting", "for the process")
    assert state_of([waiting], [], newest_step=-math.inf) == ("waiting", "for torch")
    assert state_of([waiting, ATTACHED], [], newest_step=-math.inf) == ("waiting", "for the first optimizer step")
    assert state_of([waiting, ATTACHED], [])[0] == "running"
    assert state_of([("refused", 1.0, {"message": "already watched"})], [], -math.inf) == ("detached", "already watched")


def test_stalled_until_a_sign_of_life() -> None:
    fields = {"since": 10.0, "usual_s": 0.5, "seconds": 5.0, "stack": STACK}
    stalled = ("stalled", 15.0, fields)
    state = RunState()
    state.add_machine({"kind": "stalled", "time": 15.0, **fields})

    assert state.state(10.0, 40.0) == (
        "stalled",
        "no step for 30 s (usual: 0.5 s), in wait (/a.py:3)",
        ("wait (/a.py:3)", "main (/b.py)"),
    )
    assert state_of([ATTACHED], [stalled, ("resumed", 16.0, {})])[0] == "running"
    assert state_of([ATTACHED], [stalled], newest_step=15.5)[0] == "running"
    assert state_of([ATTACHED, ("progress", 16.0, {})], [stalled])[0] == "running"
    assert state_of([ATTACHED], [stalled, ("resumed", 16.0, {}), ("stalled", 17.0, {})])[0] == "stalled"


def test_what_the_reader_found_out_yields_to_news() -> None:
    gone = ("ended", 12.0, {"how": "gone", "seen_by": "reader", "message": "m"})

    assert state_of([ATTACHED], [gone]) == ("gone", "m")
    assert state_of([ATTACHED], [gone], newest_step=13.0)[0] == "running"
    assert state_of([ATTACHED], [gone, ("ended", 11.0, {"how": "killed", "signal": "SIGKILL"})])[0] == "killed"


@pytest.mark.parametrize("stack", [None, [], [3], [{"frames": 7}], [{"frames": [None, {"function": 3}]}], {"a": 1}])
def test_a_stack_of_garbage_is_no_crash(stack: object) -> None:
    assert state_of([ATTACHED], [("stalled", 15.0, {"stack": stack, "since": "x"})])[0] == "stalled"


def mode(*events: tuple[str, float, dict[str, Any]], step: tuple[float, float] = (-math.inf, math.nan)) -> str:
    badge = ModeBadge()
    for kind, time, fields in events:
        badge.add({"kind": kind, "time": time, **fields})
    return badge.mode(*step)


def test_mode_is_what_the_newest_event_or_row_says() -> None:
    to_eval = ("mode", 1.0, {"training": False})
    no_grad = ("evaluation", 2.0, {"training": True, "grad_enabled": False})

    assert mode() == "unknown"
    assert mode(to_eval) == "EVAL"
    assert mode(to_eval, step=(2.0, 1.0)) == "TRAIN"
    assert mode(to_eval, step=(2.0, 0.0)) == "EVAL"
    assert mode(to_eval, step=(2.0, math.nan)) == "EVAL"
    assert mode(to_eval, step=(0.5, 1.0)) == "EVAL"
    assert mode(no_grad) == "no_grad"
    assert mode(("evaluation", 2.0, {"training": False, "grad_enabled": False})) == "EVAL"
    assert mode(no_grad, ("mode", 3.0, {"training": True})) == "TRAIN"
    assert mode(to_eval, ("mode", 3.0, {"training": "yes"})) == "EVAL"


@pytest.fixture
def target() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", "print('ready', flush=True); input()"], stdin=-1, stdout=-1, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def run_of(run: Path, process: subprocess.Popen[str]) -> RunFiles:
    started = psutil.Process(process.pid).create_time()
    files = RunFiles(run)
    files.info(host=socket.gethostname(), pid=process.pid, process_started=started)
    files.event("attached", 0, started, pid=process.pid)
    files.step(1, started + 1)
    return files


def make_old(run: Path, age_s: float) -> None:
    """As if nothing had been written for `age_s`."""
    import time

    then = time.time() - age_s
    for path in run.rglob("*"):
        os.utime(path, (then, then))


def state_read(run: Path) -> str:
    reader, telemetry = RunReader(run), Telemetry()
    read_all(reader, telemetry.feed)
    return telemetry.snapshot(reader.info).state


def test_a_process_that_vanished_without_a_word_is_gone(tmp_path: Path, target: subprocess.Popen[str]) -> None:
    run = tmp_path / "run"
    run_of(run, target)
    make_old(run, 3600)
    assert state_read(run) == "running" and is_live(run)

    target.kill()
    target.wait()

    assert state_read(run) == "gone" and not is_live(run)


def test_gone_waits_for_the_last_words(tmp_path: Path, target: subprocess.Popen[str]) -> None:
    run = tmp_path / "run"
    files = run_of(run, target)
    target.kill()
    target.wait()
    assert state_read(run) == "running"

    files.machine_event("ended", psutil.boot_time() + 1e9, how="killed", signal="SIGKILL")
    make_old(run, 3600)
    assert state_read(run) == "killed" and not is_live(run)


def test_another_process_with_the_same_id_is_not_the_one(tmp_path: Path, target: subprocess.Popen[str]) -> None:
    run = tmp_path / "run"
    files = run_of(run, target)
    files.info(host=socket.gethostname(), pid=target.pid, process_started=psutil.Process(target.pid).create_time() - 500)
    make_old(run, 3600)

    assert state_read(run) == "gone"


def test_a_run_of_another_host_is_judged_by_its_silence(tmp_path: Path, target: subprocess.Popen[str]) -> None:
    run = tmp_path / "run"
    files = run_of(run, target)
    files.info(host="another-host", pid=target.pid, process_started=START)
    assert state_read(run) == "running" and is_live(run)
    make_old(run, 3600)

    assert state_read(run) == "gone" and not is_live(run)


def test_the_end_is_told_once_and_a_reader_that_goes_on_reads_on(tmp_path: Path, target: subprocess.Popen[str]) -> None:
    run = tmp_path / "run"
    files = run_of(run, target)
    target.kill()
    target.wait()
    make_old(run, 3600)
    reader = RunReader(run)
    kinds = [event["kind"] for _ in range(5) for event in reader.read().machine_events]
    assert kinds == ["ended"]

    files.step(2)
    assert reader.read().steps["step"].tolist() == [2]
