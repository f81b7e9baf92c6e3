"""How a run ended: with real processes that end in every way, and without the help of a new kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from forgemon import ending
from forgemon.ending import Death, Exit, WatchedProcess, describe_end, exit_of_status
from tests.sidecar.scene import Scene, kernel_tells_after_reaping, let_go
from tests.waiting import wait_for

after_reaping = pytest.mark.skipif(not kernel_tells_after_reaping(), reason="this kernel forgets a reaped process")


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        ("pass", {"how": "finished", "exit_code": 0, "signal": None}),
        ("sys.exit(3)", {"how": "exited", "exit_code": 3, "signal": None}),
        ("os.kill(os.getpid(), 9)", {"how": "killed", "exit_code": None, "signal": "SIGKILL"}),
        ("os.kill(os.getpid(), 15)", {"how": "killed", "exit_code": None, "signal": "SIGTERM"}),
        ("os.abort()", {"how": "killed", "exit_code": None, "signal": "SIGABRT"}),
    ],
)
def test_every_end_is_told(scene: Scene, then: str, expected: dict[str, Any]) -> None:
    process = scene.waiting_python(then)
    scene.watch(process.pid)
    let_go(process)
    ended = scene.wait_for_event("ended")
    assert {name: ended[name] for name in expected} == expected
    if ended["how"] == "killed":
        assert ended["signal"] in ended["message"]


@after_reaping
@pytest.mark.parametrize("then", ["sys.exit(3)", "os.kill(os.getpid(), 9)"])
def test_the_end_is_told_although_the_parent_reaped_it(scene: Scene, then: str) -> None:
    process = scene.waiting_python(then)
    scene.watch(process.pid)
    let_go(process)
    process.wait()
    assert scene.wait_for_event("ended")["how"] == ("exited" if process.returncode == 3 else "killed")


def test_an_exception_is_told_by_its_last_line(scene: Scene) -> None:
    process = scene.waiting_python("sys.exit(1)")
    scene.probe_says("attached", pid=process.pid)
    scene.watch(process.pid)
    scene.probe_says("exception", type="ValueError", message="bad batch\nsecond line", traceback=[])
    scene.probe_says("exiting")
    let_go(process)
    ended = scene.wait_for_event("ended")
    assert (ended["how"], ended["exit_code"], ended["message"]) == ("exception", 1, "ValueError: bad batch")


def test_an_exception_of_an_earlier_process_is_not_this_ones(scene: Scene) -> None:
    process = scene.waiting_python()
    scene.probe_says("attached", pid=1)
    scene.probe_says("exception", type="ValueError", message="old")
    scene.probe_says("attached", pid=process.pid)
    scene.watch(process.pid)
    let_go(process)
    assert scene.wait_for_event("ended")["how"] == "finished"


@after_reaping
def test_a_process_that_is_gone_before_the_sidecar_is_up(scene: Scene) -> None:
    process = scene.waiting_python("sys.exit(5)")
    os.kill(process.pid, signal.SIGSTOP)
    scene.start_sidecar(process.pid)
    os.kill(process.pid, signal.SIGCONT)
    let_go(process)
    process.wait()
    assert scene.wait_for_event("ended")["exit_code"] == 5


def test_a_pid_that_is_gone_already(scene: Scene) -> None:
    process = scene.waiting_python()
    let_go(process)
    process.wait()
    scene.start_sidecar(process.pid)
    assert scene.wait_for_event("ended")["how"] == "gone"


@after_reaping
def test_a_killed_rank_is_the_cause_when_its_launcher_fails(scene: Scene) -> None:
    (scene.run / "rank-1").mkdir()
    launcher = scene.python(
        "import subprocess, sys, json, time\n"
        f"events = open({str(scene.run / 'rank-1' / 'events.jsonl')!r}, 'a')\n"
        "rank = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], pass_fds=[events.fileno()])\n"
        "events.write(json.dumps({'kind': 'attached', 'time': time.time(), 'pid': rank.pid}) + '\\n')\n"
        "events.flush()\n"
        "print(rank.pid, flush=True)\n"
        "sys.exit(1 if rank.wait() else 0)\n"
    )
    assert launcher.stdout
    rank = int(launcher.stdout.readline())
    pid = scene.watch(launcher.pid)
    wait_for(lambda: f"Pid:\t{rank}" in _fdinfo(pid), "the rank to be watched")
    # Its descriptor is the first thing the sidecar has of it; with the next sample it has been looked at whole.
    machine = scene.run / "machine.npy"
    sampled = machine.stat().st_size if machine.exists() else 0
    wait_for(lambda: machine.exists() and machine.stat().st_size > sampled, "the next sample")
    os.kill(rank, signal.SIGKILL)
    launcher.wait()
    ended = scene.wait_for_event("ended")
    assert (ended["how"], ended["signal"], ended["exit_code"]) == ("killed", "SIGKILL", 1)
    assert ended["message"] == f"rank 1 (pid {rank}): killed by SIGKILL"


def _fdinfo(pid: int) -> str:
    texts = []
    for name in os.listdir(f"/proc/{pid}/fdinfo"):
        try:
            with open(f"/proc/{pid}/fdinfo/{name}") as file:
                texts.append(file.read())
        except OSError:
            continue
    return "".join(texts)


def test_another_process_with_the_same_pid_is_not_ours() -> None:
    ours = ending.start_ticks(os.getpid())
    assert ours is not None
    assert WatchedProcess(os.getpid(), ours).alive()
    impostor = WatchedProcess(os.getpid(), ours - 1)
    assert not impostor.alive()
    assert impostor.exit() is None


@pytest.mark.parametrize("code", [0, 7])
def test_on_an_older_kernel_a_zombie_still_tells(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(ending, "GET_INFO", 0xC040FF7F)
    process = subprocess.Popen([sys.executable, "-c", f"import sys; sys.stdin.read(); sys.exit({code})"], stdin=subprocess.PIPE)
    watched = WatchedProcess(process.pid)
    assert watched.alive() and watched.exit() is None
    let_go(process)
    wait_for(lambda: not watched.alive(), "its end")
    assert watched.exit() == Exit(code, None)
    process.wait()


def test_on_an_older_kernel_a_reaped_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "GET_INFO", 0xC040FF7F)
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    watched = WatchedProcess(process.pid)
    process.communicate(b"\n")
    assert not watched.alive()
    assert watched.exit() is None


def test_without_pidfd_the_proc_files_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "open_pidfd", lambda pid: -1)
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read(); sys.exit(4)"], stdin=subprocess.PIPE)
    watched = WatchedProcess(process.pid)
    assert watched.pidfd == -1 and watched.alive()
    let_go(process)
    wait_for(lambda: not watched.alive(), "its end")
    assert watched.exit() == Exit(4, None)
    process.wait()


def test_wait_statuses() -> None:
    assert exit_of_status(0) == Exit(0, None)
    assert exit_of_status(3 << 8) == Exit(3, None)
    assert exit_of_status(9) == Exit(None, 9)
    assert exit_of_status(11 | 0x80) == Exit(None, 11), "with a core dump"


FINE = Death("", 10.0, Exit(0, None), None, True)


@pytest.mark.parametrize(
    ("main", "others", "how", "message"),
    [
        (FINE, [], "finished", ""),
        (Death("", 10.0, None, None, True), [], "finished", ""),
        (Death("", 10.0, None, None, False), [], "gone", "gone without a word"),
        (Death("", 10.0, Exit(1, None), (9.0, "KeyError: 'x'"), True), [], "exception", "KeyError: 'x'"),
        (Death("", 10.0, Exit(None, 2), (9.0, "KeyboardInterrupt"), True), [], "exception", "KeyboardInterrupt"),
        (FINE, [Death("rank 1", 5.0, Exit(None, 9), None, False)], "finished", ""),
        (
            Death("", 10.0, Exit(1, None), (9.0, "RuntimeError: connection closed by peer"), True),
            [Death("rank 1", 8.0, Exit(None, 9), None, False)],
            "killed",
            "rank 1: killed by SIGKILL",
        ),
        (
            Death("", 10.0, Exit(1, None), None, False),
            [Death("rank 0", 9.0, Exit(None, 15), None, False), Death("rank 1", 8.5, None, (8.0, "ValueError: x"), True)],
            "exception",
            "rank 1: ValueError: x",
        ),
    ],
)
def test_what_went_wrong_first_is_the_cause(main: Death, others: list[Death], how: str, message: str) -> None:
    ended = describe_end(main, others)
    assert ended["how"] == how
    assert ended["message"].startswith(message)


def test_a_process_in_a_container_knows_itself_by_another_pid(scene: Scene) -> None:
    events = open(scene.rank / "events.jsonl", "a")  # noqa: SIM115  the process inherits it
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read(); sys.exit(1)"], stdin=subprocess.PIPE, pass_fds=[events.fileno()]
    )
    events.close()
    scene.probe_says("attached", pid=os.getpid())
    scene.watch(process.pid)
    scene.probe_says("exception", type="ValueError", message="inside")
    let_go(process)
    assert scene.wait_for_event("ended")["message"] == "ValueError: inside"
    process.wait()
