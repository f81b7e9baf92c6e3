"""How a sidecar lives beside others: detached, alone, harmless, and gone when there is nothing left to watch."""

from __future__ import annotations

import os
import resource
import signal
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from probes.record import machine_columns
from tests.sidecar.scene import Scene, is_gone, let_go, open_files
from tests.waiting import wait_for


def test_rows_of_the_machine_appear(scene: Scene) -> None:
    process = scene.waiting_python()
    scene.watch(process.pid)
    rows = rows_of(scene, 2)
    assert rows.dtype.names == tuple(column[0] for column in machine_columns(0))
    assert np.all(np.diff(rows["time"]) > 0)
    rss = psutil.Process(process.pid).memory_info().rss
    assert rows["process_rss_bytes"][-1] == rss
    assert 0 < rows["host_used_bytes"][-1] < rows["host_total_bytes"][-1] == psutil.virtual_memory().total
    assert np.isnan(rows["process_cpu_percent"][0])
    assert rows["process_cpu_percent"][1] >= 0


def test_children_of_the_watched_process_count(scene: Scene) -> None:
    process = scene.python(
        "import subprocess, sys\n"
        "held = b'x' * 50_000_000\n"
        "code = 'import sys; held = bytes(1) * 80_000_000; print(1, flush=True); sys.stdin.read()'\n"
        "subprocess.run([sys.executable, '-c', code])\n"
    )
    assert process.stdout and process.stdout.readline() == b"1\n"
    scene.watch(process.pid)
    rows = rows_of(scene, 1)
    assert rows["process_rss_bytes"][-1] > 130e6
    let_go(process)


def test_without_a_gpu_that_is_said_and_no_error(scene: Scene) -> None:
    process = scene.waiting_python()
    pid = scene.watch(process.pid)
    started = scene.events("started")[0]
    assert started["pid"] == pid
    assert started["watches"] == [process.pid]
    if not started["gpus"]:
        assert started["nvml"] == "no NVIDIA GPU"


def test_it_is_nobodys_child_and_holds_nothing_of_ours(scene: Scene) -> None:
    process = scene.waiting_python()
    children = {child.pid for child in psutil.Process().children()}
    pid = scene.watch(process.pid)
    rows_of(scene, 1)
    assert {child.pid for child in psutil.Process().children()} == children
    found = psutil.Process(pid)
    assert found.ppid() != os.getpid()
    assert os.getsid(pid) != os.getsid(0)
    assert found.cwd() == "/"
    allowed = {"/dev/null", "anon_inode:[pidfd]", str(scene.run / "machine.npy"), str(scene.run / "machine.jsonl")}
    assert {name for name in open_files(pid) if not name.startswith("pidfd:")} <= allowed


def test_it_survives_its_starter_and_leaves_with_the_process(scene: Scene) -> None:
    process = scene.waiting_python()
    starter = scene.python(
        f"from pathlib import Path; from forgemon import sidecar; print(sidecar.start(Path({str(scene.run)!r}), {process.pid}))"
    )
    assert starter.stdout
    pid = int(starter.stdout.readline())
    starter.wait()
    scene.wait_for_event("started")
    assert not is_gone(pid)
    let_go(process)
    wait_for(lambda: is_gone(pid), "the sidecar to leave")
    assert scene.events()[-1]["kind"] == "ended"


def test_killing_it_hurts_nobody_and_another_one_goes_on(scene: Scene) -> None:
    process = scene.waiting_python()
    first = scene.watch(process.pid)
    before = rows_of(scene, 2)
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: is_gone(first), "the sidecar to die")
    assert process.poll() is None
    scene.watch(process.pid)
    after = rows_of(scene, len(before) + 2)
    assert after[: len(before)].tobytes() == before.tobytes()
    assert np.all(np.diff(after["time"]) > 0)


def test_a_second_one_leaves_again(scene: Scene) -> None:
    process = scene.waiting_python()
    first = scene.watch(process.pid)
    second = scene.start_sidecar(process.pid)
    wait_for(lambda: is_gone(second), "the second sidecar to leave")
    assert not is_gone(first)
    assert len(scene.events("started")) == 1


def test_it_leaves_after_detach(scene: Scene) -> None:
    process = scene.waiting_python()
    scene.probe_says("attached", pid=process.pid)
    pid = scene.watch(process.pid)
    scene.probe_says("detached", reason="asked to")
    wait_for(lambda: is_gone(pid), "the sidecar to leave")
    assert process.poll() is None
    assert not scene.events("ended")


def test_detached_and_attached_again_is_attached(scene: Scene) -> None:
    process = scene.waiting_python()
    for kind in ("attached", "detached", "attached"):
        scene.probe_says(kind, pid=process.pid)
    scene.watch(process.pid)
    rows_of(scene, 3)
    let_go(process)
    assert scene.wait_for_event("ended")["how"] == "finished"


def test_a_disk_that_takes_nothing_costs_rows_and_nothing_else(scene: Scene) -> None:
    process = scene.waiting_python()
    pid = scene.start_sidecar(process.pid)
    before = len(rows_of(scene, at_least=1))
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))  # from now on every write fails
    sleeps = times_slept(pid)
    wait_for(lambda: times_slept(pid) > sleeps + 3, "the sidecar to try")
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    rows_of(scene, at_least=before + 1)
    let_go(process)
    wait_for(lambda: is_gone(pid), "the sidecar to leave")


def test_a_planted_link_is_not_followed(scene: Scene) -> None:
    """The folder may belong to another user than the sidecar's."""
    precious = scene.run.parent / "precious"
    precious.write_text("as it was")
    for name in ("machine.npy", "machine.jsonl"):
        (scene.run / name).symlink_to(precious)
    process = scene.waiting_python()
    pid = scene.start_sidecar(process.pid)
    wait_for(lambda: "forgemon.sidecar" in psutil.Process(pid).cmdline(), "its start")
    sleeps = times_slept(pid)
    wait_for(lambda: times_slept(pid) > sleeps + 6, "the sidecar to try")
    let_go(process)
    wait_for(lambda: is_gone(pid), "the sidecar to leave")
    assert precious.read_text() == "as it was"


def times_slept(pid: int) -> int:
    """How often the sidecar has waited for its next sample, about; fails when it is gone."""
    return int(psutil.Process(pid).num_ctx_switches().voluntary)


def test_a_run_directory_that_is_gone_costs_nothing_else(scene: Scene) -> None:
    scene.rank.rmdir()
    scene.run.rmdir()
    process = scene.waiting_python()
    pid = scene.start_sidecar(process.pid)
    wait_for(lambda: psutil.Process(pid).num_threads() and "forgemon.sidecar" in psutil.Process(pid).cmdline(), "its start")
    scene.run.mkdir()  # as when a network file system comes back
    scene.wait_for_event("started")
    let_go(process)
    assert scene.wait_for_event("ended")["how"] == "finished"


def rows_of(scene: Scene, at_least: int) -> npt.NDArray[Any]:
    """All rows, once there are so many."""

    def read() -> list[npt.NDArray[Any]]:
        try:
            rows = np.load(scene.run / "machine.npy")
        except (OSError, ValueError):
            return []
        return [rows] if len(rows) >= at_least else []

    return wait_for(read, f"{at_least} rows")[0]
