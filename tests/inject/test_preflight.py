"""What cannot be attached to is refused with one line that says what to do next, and is not touched."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from forgemon.inject import AlreadyWatched, AttachError, attach_process, procfs
from forgemon.inject.preflight import preflight
from forgemon.inject.processes import training_processes
from tests.inject.targets import BUSY, TORCH, Running, inject, running, stand_in
from tests.waiting import wait_for

is_root = os.geteuid() == 0
SLEEP = "print('ready', flush=True)\nimport os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)\n"
MAPS_A_LIBTORCH = """
    import mmap, os, sys, time
    path = os.path.join(os.path.dirname(sys.argv[1]), "libtorch_cpu.so")
    with open(path, "wb") as file:
        file.write(bytes(4096))
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    print("ready", flush=True)
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.01)
"""
"For the checks torch itself plays no part in, and starts faster."


def refusal(pid: int) -> str:
    """The message of the refusal, which must be one line, and after which nobody may trace the process."""
    with pytest.raises(AttachError) as raised:
        preflight(pid)
    assert raised.value.exit_code == 2
    assert "\n" not in str(raised.value)
    return str(raised.value)


def free_pid() -> int:
    done = subprocess.Popen(["true"])
    done.wait()
    return done.pid


def test_no_such_process() -> None:
    pid = free_pid()
    assert refusal(pid) == f"there is no process {pid}. List the training processes of this machine with: forgemon attach"


def test_not_python() -> None:
    with subprocess.Popen(["sleep", "100"]) as sleeping:
        try:
            wait_for(lambda: procfs.command_line(sleeping.pid) == ("sleep", "100"), "exec")
            program = procfs.executable(sleeping.pid)
            assert refusal(sleeping.pid).startswith(f"PID {sleeping.pid} ({program}) is no CPython process")
        finally:
            sleeping.kill()


@pytest.mark.skipif(not is_root or not os.path.exists("/proc/2/comm"), reason="no kernel threads to be seen here")
def test_a_kernel_thread() -> None:
    name = Path("/proc/2/comm").read_text().strip()
    if name != "kthreadd":
        pytest.skip("PID 2 is another process in this container")
    assert "PID 2 (kthreadd) is a part of the kernel" in refusal(2)


def test_a_thread_names_its_process(tmp_path: Path) -> None:
    source = """
        import os, sys, threading, time
        threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
        print("ready", flush=True)
        while not os.path.exists(sys.argv[1]): time.sleep(0.01)
    """
    with running(tmp_path, source) as target:
        threads = [int(name) for name in os.listdir(f"/proc/{target.pid}/task")]
        (thread,) = [number for number in threads if number != target.pid]
        assert f"{thread} is a thread of process {target.pid}" in refusal(thread)


def test_python_without_torch(tmp_path: Path) -> None:
    with running(tmp_path, SLEEP) as target:
        assert f"PID {target.pid} (target-0.py) is Python without PyTorch" in refusal(target.pid)
        assert preflight(target.pid, torch_may_come=True).has_torch is False


def test_ourselves() -> None:
    assert "is forgemon itself" in refusal(os.getpid())


def test_a_zombie() -> None:
    child = subprocess.Popen(["true"])
    wait_for(lambda: procfs.status(child.pid).state == "Z", "the end")
    assert f"PID {child.pid} (true) has ended; its parent {os.getpid()}" in refusal(child.pid)
    child.wait()


def test_a_stopped_process(tmp_path: Path) -> None:
    with running(tmp_path, SLEEP) as target:
        os.kill(target.pid, signal.SIGSTOP)
        wait_for(lambda: procfs.status(target.pid).state == "T", "the stop")
        assert refusal(target.pid) == f"PID {target.pid} is stopped. Resume it (kill -CONT {target.pid}) and try again"
        os.kill(target.pid, signal.SIGCONT)


@pytest.mark.skipif(not any(os.access(f"{p}/gdb", os.X_OK) for p in os.get_exec_path()), reason="gdb is not installed")
def test_a_traced_process_names_the_tracer(tmp_path: Path) -> None:
    with running(tmp_path, SLEEP) as target:
        command = ["gdb", "-nx", "-q", "-iex", "set auto-solib-add off", "-p", str(target.pid)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as gdb:
            wait_for(lambda: procfs.status(target.pid).tracer == gdb.pid, "gdb to attach")
            assert refusal(target.pid) == f"PID {target.pid} is being traced by gdb (PID {gdb.pid}). Detach that first"
            gdb.communicate(b"detach\nquit\n")


def look_as_nobody(pid: int) -> str:
    program = f"""
        import os, sys
        from forgemon.inject.preflight import preflight
        from forgemon.errors import UserError
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        try:
            preflight({pid})
        except UserError as error:
            print(error)
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.mark.skipif(not is_root, reason="needs another user")
def test_another_users_process(tmp_path: Path) -> None:
    with running(tmp_path, SLEEP) as target:
        assert look_as_nobody(target.pid) == (
            f"PID {target.pid} belongs to root (uid 0). Run forgemon as that user or with sudo"
        )


@pytest.mark.skipif(not is_root, reason="needs another user")
def test_the_kernel_forbids_it(tmp_path: Path) -> None:
    """After setuid a process is not dumpable: only root may trace it, just as Yama has it for others."""
    source = """
        import os, sys, time
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        print("ready", flush=True)
        while not os.path.exists(sys.argv[1]): time.sleep(0.01)
    """
    with running(tmp_path, source) as target:
        assert look_as_nobody(target.pid).startswith(f"the kernel forbids tracing PID {target.pid}")


def test_an_old_python(tmp_path: Path) -> None:
    old = next((p for p in sorted(Path.home().glob(".pyenv/versions/3.[6-9].*/bin/python")) if p.exists()), None)
    if old is None:
        pytest.skip("no Python before 3.10 here")
    with running(tmp_path, SLEEP, python=str(old)) as target:
        version = re.search(r"3\.\d", str(old))
        assert version is not None
        assert f"PID {target.pid} runs Python {version[0]}; forgemon needs Python 3.10" in refusal(target.pid)


def test_a_watched_process_names_its_run(tmp_path: Path) -> None:
    with running(tmp_path, MAPS_A_LIBTORCH) as target:
        run = attach_process(target.pid, tmp_path / "runs", probes=stand_in(tmp_path), timeout_s=30)
        with pytest.raises(AlreadyWatched) as raised:
            preflight(target.pid)
        assert (raised.value.run, raised.value.rank) == (str(run), 0)
        assert str(raised.value) == (
            f"PID {target.pid} is already watched; its run is {run}. Open it with: forgemon attach {target.pid}"
        )


@pytest.fixture(scope="module")
def torch_loop(tmp_path_factory: pytest.TempPathFactory) -> Running:  # type: ignore[misc]
    with running(tmp_path_factory.mktemp("torch"), TORCH.replace("batch_size=8", "batch_size=1")) as target:
        yield target


def test_a_torch_loop_is_accepted_and_listed(torch_loop: Running) -> None:
    target = preflight(torch_loop.pid)
    assert target.has_torch
    assert target.script == str(torch_loop.stop_file.parent / "target-0.py")
    (listed,) = [process for process in training_processes() if process.pid == torch_loop.pid]
    assert (listed.program, listed.run) == ("target-0.py", None)
    assert listed.cpu_s > 0
    assert listed.age_s > 0


def _with_a_child(pid: int, look: Callable[[int], str]) -> str | None:
    """What `look` says of a child of the process that still lives afterwards."""
    for child in procfs.children(pid):
        try:
            said = look(child)
            if procfs.status(child).state not in "ZX" and procfs.status(child).parent == pid:
                return said
        except (OSError, pytest.fail.Exception):
            continue
    return None


def test_a_data_loader_worker_names_its_training_process(torch_loop: Running) -> None:
    def of_a_worker() -> str | None:
        said = _with_a_child(torch_loop.pid, refusal)
        return said if said and "worker" in said else None

    said = wait_for(of_a_worker, "a worker that is looked at while it lives")
    assert said is not None
    assert said.endswith(
        f"is a worker of the training process {torch_loop.pid}. Attach to that: forgemon attach {torch_loop.pid}"
    )


def test_a_launcher_and_a_shell_name_the_training_processes(tmp_path: Path) -> None:
    """torchrun as the kernel sees it: a Python with torchrun on its command line, whose children have a RANK."""
    (tmp_path / "rank.py").write_text(textwrap.dedent(MAPS_A_LIBTORCH))
    launcher = """
        import os, subprocess, sys
        children = [
            subprocess.Popen([sys.executable, "rank.py", sys.argv[1]], env={**os.environ, "RANK": str(i)}, stdout=subprocess.PIPE)
            for i in range(2)
        ]
        for child in children:
            child.stdout.readline()
        print("ready", flush=True)
        for child in children:
            child.wait()
    """
    (tmp_path / "torchrun").write_text(textwrap.dedent(launcher))
    command = [sys.executable, "torchrun", str(tmp_path / "stop")]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            ranks = procfs.children(process.pid)
            assert len(ranks) == 2
            assert refusal(process.pid) == (
                f"PID {process.pid} is a launcher; its training processes are {ranks[0]}, {ranks[1]}. "
                f"Attach to one of them: forgemon attach {ranks[0]}"
            )
            listed = {process.pid for process in training_processes()}
            assert listed >= set(ranks)
            assert process.pid not in listed
        finally:
            (tmp_path / "stop").touch()
    shell = f"{sys.executable} rank.py {tmp_path}/stop-too & echo $!; wait"
    with subprocess.Popen(["/bin/sh", "-c", shell], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as sh:
        try:
            assert sh.stdout is not None
            child = int(sh.stdout.readline())
            assert sh.stdout.readline() == "ready\n"
            assert f"is no Python process; the training processes it started are {child}. Attach to" in refusal(sh.pid)
        finally:
            (tmp_path / "stop-too").touch()


def test_inside_another_pid_namespace(tmp_path: Path) -> None:
    """The process calls itself 1; we go by the number we see, and by none of its own."""
    if not is_root:
        pytest.skip("needs root to make a namespace")
    (tmp_path / "inner.py").write_text(textwrap.dedent(MAPS_A_LIBTORCH))
    command = ["unshare", "--pid", "--fork", sys.executable, "inner.py", str(tmp_path / "stop")]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as outer:
        try:
            assert outer.stdout is not None
            assert outer.stdout.readline() == "ready\n"
            (inner,) = procfs.children(outer.pid)
            assert procfs.status(inner).inner_pid == 1
            assert preflight(inner).pid == inner
            run = attach_process(inner, tmp_path / "runs", probes=stand_in(tmp_path), timeout_s=30)
            assert (run / "rank-0" / "events.jsonl").exists()
        finally:
            (tmp_path / "stop").touch()


def test_old_and_new_process_of_one_name(tmp_path: Path) -> None:
    """Reading the mappings of a process that ends meanwhile says so and nothing else."""
    with running(tmp_path, BUSY) as target:
        inject(target.pid, "import os; os._exit(0)")
        target.process.wait(timeout=30)
        assert "there is no process" in refusal(target.pid)
