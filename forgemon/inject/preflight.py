"""What must hold before a process is touched. Every refusal is one line that says what to do next; exit code 2."""

from __future__ import annotations

import os
import pwd
from collections.abc import Sequence
from dataclasses import dataclass

from forgemon.inject import family, procfs
from forgemon.inject.errors import AlreadyWatched, AttachError
from forgemon.inject.procfs import Mapping, Status
from forgemon.inject.python import OldPython, PythonProcess, find_python

LIST = "List the training processes of this machine with: forgemon attach"


@dataclass(frozen=True)
class Target:
    """A process that can be attached to."""

    pid: int
    status: Status
    command: tuple[str, ...]
    directory: str
    "Its working directory."
    script: str | None
    python: PythonProcess
    has_torch: bool
    "False while it has not loaded torch yet."


def preflight(pid: int, *, torch_may_come: bool = False) -> Target:
    """Look at process `pid` and refuse what cannot be attached to. AttachError; AlreadyWatched names the run.

    torch_may_come: do not refuse a Python without torch; it may be about to import it.
    """
    try:
        return _look(pid, torch_may_come)
    except (FileNotFoundError, ProcessLookupError):
        raise no_process(pid) from None


def no_process(pid: int) -> AttachError:
    return AttachError(f"there is no process {pid}. {LIST}")


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return "a user without a name here"


def _look(pid: int, torch_may_come: bool) -> Target:
    status = procfs.status(pid)
    command = procfs.command_line(pid)
    _check_state(pid, status, command)
    maps = _readable_mappings(pid, status)
    _check_untraced(pid, status)
    _check_unwatched(pid)
    python = find_python(pid, maps)
    _check_role(pid, command)
    if python is None:
        raise _not_python(pid)
    if isinstance(python, OldPython):
        raise AttachError(
            f"PID {pid} runs Python {python.version}; forgemon needs Python 3.10 or later in the training process"
        )
    has_torch = procfs.has_torch(maps)
    if not has_torch and not torch_may_come:
        raise without_torch(pid)
    directory = procfs.working_directory(pid)
    return Target(pid, status, command, directory, procfs.script(command, directory), python, has_torch)


def _check_state(pid: int, status: Status, command: Sequence[str]) -> None:
    if status.process != pid:
        raise AttachError(f"{pid} is a thread of process {status.process}. Attach to that: forgemon attach {status.process}")
    if status.state in "ZX":
        raise AttachError(f"PID {pid} ({status.name}) has ended; its parent {status.parent} has not taken notice yet. {LIST}")
    if pid == os.getpid():
        raise AttachError(f"PID {pid} is forgemon itself. {LIST}")
    if not command and _has_no_program(pid):
        raise AttachError(f"PID {pid} ({status.name}) is a part of the kernel. {LIST}")
    if status.state == "T":
        raise AttachError(f"PID {pid} is stopped. Resume it (kill -CONT {pid}) and try again")


def _has_no_program(pid: int) -> bool:
    try:
        procfs.executable(pid)
    except FileNotFoundError:
        return True
    except PermissionError:
        return False
    return False


def _readable_mappings(pid: int, status: Status) -> tuple[Mapping, ...]:
    """Reading them takes the same rights as tracing does, but for what Yama and the sandbox add: that shows in `mem`."""
    try:
        maps = procfs.mappings(pid)
        os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC))
        return maps
    except PermissionError:
        if status.uid != os.geteuid():
            owner = f"{user_name(status.uid)} (uid {status.uid})"
            raise AttachError(f"PID {pid} belongs to {owner}. Run forgemon as that user or with sudo") from None
        raise AttachError(f"the kernel forbids tracing PID {pid}{_yama_reason()}") from None


def _yama_reason() -> str:
    try:
        with open("/proc/sys/kernel/yama/ptrace_scope", encoding="ascii") as file:
            scope = int(file.read())
    except (OSError, ValueError):
        scope = 0
    if scope == 3:
        return " (kernel.yama.ptrace_scope=3, until the next boot). Start the training with: forgemon run -- COMMAND"
    if os.geteuid() == 0:
        return (
            ", to root too. Start the training with: forgemon run -- COMMAND; a container needs --cap-add=SYS_PTRACE for attach"
        )
    if scope:
        return f" (kernel.yama.ptrace_scope={scope}). Use sudo, or start the training with: forgemon run -- COMMAND"
    return ". Use sudo; in a container add --cap-add=SYS_PTRACE, or start the training with: forgemon run -- COMMAND"


def _check_untraced(pid: int, status: Status) -> None:
    if not status.tracer:
        return
    try:
        name = f"{procfs.status(status.tracer).name} (PID {status.tracer})"
    except OSError:
        name = f"PID {status.tracer}"
    raise AttachError(f"PID {pid} is being traced by {name}. Detach that first")


def _check_unwatched(pid: int) -> None:
    for run in procfs.open_runs(pid):
        if run.deleted:
            raise AttachError(
                f"PID {pid} is already watched, but its run directory {run.run} was removed. "
                f"Take the probes out (forgemon detach {pid}) and attach again"
            )
        raise AlreadyWatched(pid, run.run, run.rank)


def _check_role(pid: int, command: Sequence[str]) -> None:
    if family.is_launcher(pid, command):
        ranks = family.training_descendants(pid)
        if ranks:
            raise AttachError(f"PID {pid} is a launcher; its training processes are {_named(ranks)}")
        raise AttachError(f"PID {pid} is a launcher that has not started its training processes yet. Try again in a moment")
    parent = family.worker_of(pid)
    if parent is not None:
        raise AttachError(f"PID {pid} is a worker of the training process {parent}. Attach to that: forgemon attach {parent}")


def _not_python(pid: int) -> AttachError:
    program = procfs.executable(pid)
    ranks = family.training_descendants(pid)
    if ranks:
        return AttachError(f"PID {pid} ({program}) is no Python process; the training processes it started are {_named(ranks)}")
    return AttachError(f"PID {pid} ({program}) is no CPython process, or one that hides its symbols. {LIST}")


def without_torch(pid: int) -> AttachError:
    """For a Python process that has not loaded torch."""
    name = procfs.program_name(procfs.command_line(pid))
    children = family.training_descendants(pid)
    if children:
        return AttachError(f"PID {pid} ({name}) does not use PyTorch; the training processes it started are {_named(children)}")
    return AttachError(f"PID {pid} ({name}) is Python without PyTorch. {LIST}")


def _named(pids: Sequence[int]) -> str:
    shown = ", ".join(str(pid) for pid in pids[:8]) + (" …" if len(pids) > 8 else "")
    return f"{shown}. Attach to one of them: forgemon attach {pids[0]}"
