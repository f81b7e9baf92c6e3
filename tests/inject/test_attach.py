"""From the injection to the answer: what the tool says while it waits, and when the answer is no."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from forgemon.inject import AttachError, NotYetAttached, attach_process, begin_attach, detach_process, procfs
from forgemon.inject.preflight import preflight
from tests.inject.targets import events, running, stand_in
from tests.inject.test_preflight import MAPS_A_LIBTORCH
from tests.waiting import wait_for

IN_C = """
    import ctypes, mmap, os, sys
    path = os.path.join(os.path.dirname(sys.argv[1]), "libtorch_cpu.so")
    with open(path, "wb") as file:
        file.write(bytes(4096))
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    libc = ctypes.CDLL(None)
    def wait_in_c():
        libc.read(0, ctypes.create_string_buffer(1), 1)
    print("ready", flush=True)
    wait_in_c()
    while not os.path.exists(sys.argv[1]):
        pass
    print("end", flush=True)
"""
ANSWERS = """
    import json, os, time
    def start(config):
        folder = os.path.join(config["run_dir"], "rank-0")
        os.makedirs(folder)
        with open(os.path.join(folder, "events.jsonl"), "a") as file:
            file.write(json.dumps({"time": time.time(), "step": 0, %s}) + "\\n")
"""
REFUSES = ANSWERS % '"kind": "refused", "message": "no optimizer can be seen"'
WAITS = ANSWERS % '"kind": "waiting", "for": "torch", "message": "importing"'


def test_config_and_answer(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    commit = ["-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "--allow-empty", "-m", "first"]
    subprocess.run(["git", "-C", str(tmp_path), *commit], check=True)
    with running(tmp_path, MAPS_A_LIBTORCH) as target:
        run = attach_process(target.pid, tmp_path / "runs", budget=0.02, probes=stand_in(tmp_path), timeout_s=30)
        assert run.parent == tmp_path / "runs"
        config = events(run)[0]["config"]
        assert config.pop("git")["clean"] is True
        assert isinstance(config.pop("forgemon"), str)
        assert config == {
            "run_dir": str(run),
            "mode": "attach",
            "tool_pid": os.getpid(),
            "host_pid": target.pid,
            "budget": 0.02,
        }


def test_attach_and_detach_again_and_again(tmp_path: Path) -> None:
    probes = stand_in(tmp_path)
    with running(tmp_path, MAPS_A_LIBTORCH) as target:
        for _ in range(20):
            run = attach_process(target.pid, tmp_path / "runs", probes=probes, timeout_s=30)
            assert [(opened.run, opened.rank) for opened in detach_process(target.pid)] == [(str(run), 0)]
        with pytest.raises(AttachError, match=f"PID {target.pid} is not watched: nothing of forgemon is in it"):
            detach_process(target.pid)
        target.finish()


def test_a_refusal_is_passed_on(tmp_path: Path) -> None:
    with running(tmp_path, MAPS_A_LIBTORCH) as target:
        with pytest.raises(AttachError, match=f"PID {target.pid} cannot be watched: no optimizer can be seen"):
            attach_process(target.pid, tmp_path / "runs", probes=stand_in(tmp_path, REFUSES), timeout_s=30)
        target.finish()


def test_a_fault_of_the_probe_is_passed_on(tmp_path: Path) -> None:
    with running(tmp_path, MAPS_A_LIBTORCH) as target:
        probes = stand_in(tmp_path, "def start(config):\n    raise ValueError('boom')\n")
        with pytest.raises(
            AttachError, match=f"the probe failed in PID {target.pid}, which goes on unwatched: ValueError: boom"
        ):
            attach_process(target.pid, tmp_path / "runs", probes=probes, timeout_s=30)
        target.finish()


def test_torch_that_does_not_come_in_time(tmp_path: Path) -> None:
    with running(tmp_path, MAPS_A_LIBTORCH) as target:
        with pytest.raises(NotYetAttached, match="PyTorch has not finished loading") as raised:
            attach_process(target.pid, tmp_path / "runs", probes=stand_in(tmp_path, WAITS), timeout_s=1)
        assert raised.value.exit_code == 3
        target.finish()


def test_a_main_thread_in_c_is_named_and_attached_to_when_it_returns(tmp_path: Path) -> None:
    said: list[str] = []
    with running(tmp_path, IN_C, stdin=subprocess.PIPE) as target:
        pending = begin_attach(target.pid, tmp_path / "runs", probes=stand_in(tmp_path))
        with pytest.raises(
            NotYetAttached, match=r"not returned to Python in PID \d+ \(in wait_in_c \(target-0.py:10\)\)"
        ) as raised:
            pending.wait(3, said.append)
        assert f"touch {pending.run}/rank-0/detach" in str(raised.value)
        assert len(said) == 1
        assert said[0].startswith("Waiting: the main thread has not returned to Python (in wait_in_c (target-0.py:10)), ")
        assert target.process.stdin is not None
        target.process.stdin.write("x")
        target.process.stdin.flush()
        assert pending.wait(30).event["kind"] == "attached"
        assert target.finish() == "end\n"


def test_ctrl_c_while_waiting_cancels(tmp_path: Path) -> None:
    def interrupted(message: str) -> None:
        raise KeyboardInterrupt

    with running(tmp_path, IN_C, stdin=subprocess.PIPE) as target:
        pending = begin_attach(target.pid, tmp_path / "runs", probes=stand_in(tmp_path))
        with pytest.raises(KeyboardInterrupt):
            pending.wait(30, interrupted)
        assert target.finish() == "end\n"
        assert events(pending.run) == []


def test_a_target_that_exits_meanwhile(tmp_path: Path) -> None:
    probes = stand_in(tmp_path, "import os\ndef start(config):\n    os._exit(0)\n")
    with (
        running(tmp_path, MAPS_A_LIBTORCH) as target,
        pytest.raises(AttachError, match=f"PID {target.pid} exited before it could be attached to"),
    ):
        attach_process(target.pid, tmp_path / "runs", probes=probes, timeout_s=30)


def test_a_probe_that_cannot_leave_yet_is_explained(tmp_path: Path) -> None:
    stays = """
        import os
        def start(config):
            os.makedirs(config["run_dir"] + "/rank-0")
            config["file"] = open(config["run_dir"] + "/rank-0/events.jsonl", "a")
            config["file"].write('{"kind": "attached"}\\n')
            config["file"].flush()
            os.kept = config
    """
    with running(tmp_path, MAPS_A_LIBTORCH) as target:
        run = attach_process(target.pid, tmp_path / "runs", probes=stand_in(tmp_path, stays), timeout_s=30)
        busy = rf"have not left PID {target.pid} in 0 s: its main thread is busy in <module> \(target-0.py:\d+\)"
        with pytest.raises(AttachError, match=busy):
            detach_process(target.pid, deadline_s=0.1)
        assert (run / "rank-0" / "detach").exists()


def test_a_removed_run_directory_is_said_and_left_through_the_main_thread(tmp_path: Path) -> None:
    session = """
        import os, sys, types
        def start(config):
            folder = os.path.join(config["run_dir"], "rank-0")
            os.makedirs(folder)
            file = open(os.path.join(folder, "events.jsonl"), "a")
            file.write('{"kind": "attached"}\\n')
            file.flush()
            state = types.ModuleType("_forgemon_probe")
            state.session = types.SimpleNamespace(request_detach=file.close)
            sys.modules["_forgemon_probe"] = state
    """
    with running(tmp_path, MAPS_A_LIBTORCH) as target:
        run = attach_process(target.pid, tmp_path / "runs", probes=stand_in(tmp_path, session), timeout_s=30)
        shutil.rmtree(run)
        with pytest.raises(AttachError, match=r"is already watched, but its run directory .* was removed. Take the probes out"):
            preflight(target.pid)
        assert detach_process(target.pid)[0].deleted
        assert procfs.open_runs(target.pid) == ()
        target.finish()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_root_watches_another_users_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run belongs to that user, and they get a copy of probes that they could not read."""
    monkeypatch.delenv("FORGEMON_RUNS", raising=False)
    # Imported before it changes user: where the interpreter is root's own, its library cannot be read after.
    source = MAPS_A_LIBTORCH.replace(
        "    print(", "    import json, traceback; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n    print("
    )
    probes = stand_in(tmp_path)  # under a folder that is closed to others
    open_folder = Path(f"/tmp/forgemon-test-{os.getpid()}")
    open_folder.mkdir(mode=0o777)
    os.chmod(open_folder, 0o777)
    try:
        with running(tmp_path, source, environment={"HOME": "/"}) as target:
            run = attach_process(target.pid, open_folder / "runs", probes=probes, timeout_s=30)
            for made in (run, run.parent, run / "rank-0" / "events.jsonl"):
                assert made.stat().st_uid == 65534
            assert (run / "probes" / "bootstrap.py").exists()
            assert os.geteuid() == 0
            assert detach_process(target.pid)[0].run == str(run)
    finally:
        shutil.rmtree(open_folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a namespace")
def test_a_container_that_does_not_see_the_run_directory(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    script = tmp_path / "inner.py"
    script.write_text(textwrap.dedent(MAPS_A_LIBTORCH))
    shell = f"mount -t tmpfs none {hidden} && exec {sys.executable} {script} {tmp_path}/stop"
    with subprocess.Popen(["unshare", "--mount", "/bin/sh", "-c", shell], stdout=subprocess.PIPE, text=True) as inner:
        try:
            assert inner.stdout is not None
            assert inner.stdout.readline() == "ready\n"
            with pytest.raises(AttachError, match=r"is in a container that does not see .*hidden/runs. Name a folder"):
                attach_process(inner.pid, hidden / "runs", probes=stand_in(tmp_path), timeout_s=30)
            run = attach_process(inner.pid, tmp_path / "runs", probes=tmp_path / "stand-in-probes", timeout_s=30)
            wait_for(lambda: events(run), "the answer")
        finally:
            (tmp_path / "stop").touch()
