"""Starts a command so that every Python under it that imports torch is watched, and otherwise as if we were not there."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from forgemon import __version__, sidecar
from forgemon.checkout import git_state
from forgemon.errors import UserError
from forgemon.places import new_run_directory

PROBES = Path(__file__).resolve().parent.parent / "probes"
NOT_FOUND, NOT_EXECUTABLE = 127, 126
"Exit codes of a shell."
LAUNCHERS = ("python", "torchrun", "accelerate", "deepspeed")
"What takes -m and a module to run in place of a script, by how the names of their programs begin."


def find_program(name: str, verb: str = "forgemon run") -> str:
    """The file a shell would run. UserError with the shell's exit code when there is none. `verb`: what the user wrote."""
    found = shutil.which(name)
    if found:
        return found
    hint = f"; for a Python script write: {verb} -- python {name}" if name.endswith(".py") else ""
    beside = [name] if os.sep in name else [os.path.join(p, name) for p in os.get_exec_path()]
    if any(os.path.isfile(path) for path in beside):
        raise UserError(f"{name} is not executable{hint or f'; make it so with: chmod +x {name}'}", NOT_EXECUTABLE)
    if any(os.path.isdir(path) for path in beside) and os.sep in name:
        raise UserError(f"{name} is a folder; name the command to run", NOT_EXECUTABLE)
    raise UserError(f"{name}: command not found{hint}", NOT_FOUND)


def script_of(command: Sequence[str]) -> str:
    """What a person would call the run: the first argument that is a Python file, else `-m module`, else the command."""
    scripts = (word for word in command if word.endswith(".py") and (" " not in word or os.path.isfile(word)))
    return next(scripts, _module_of(command) or command[0])


def _module_of(command: Sequence[str]) -> str:
    """The last `-m module` of Python or of a launcher that takes it as Python does; empty where there is none."""
    first = next((place for place, word in enumerate(command) if os.path.basename(word).startswith(LAUNCHERS)), len(command))
    modules = [f"-m {name}" for flag, name in itertools.pairwise(command[first:]) if flag == "-m"]
    return modules[-1] if modules else ""


def new_run(command: Sequence[str], parent: Path | None) -> Path:
    """Make the directory of a new run of `command`, in `parent` or where runs live."""
    return new_run_directory(script_of(command), os.getpid(), parent)


def watched_environment(
    run: Path, command: Sequence[str], budget: float | None = None, probes: Path = PROBES
) -> dict[str, str]:
    """The environment in which the command's Python processes load the probes (launch_site/sitecustomize.py)."""
    environment = own_environment()
    script = Path(script_of(command))
    config: dict[str, Any] = {
        "run_dir": str(run),
        "mode": "run",
        "forgemon": __version__,
        "probes": str(probes),
        "git": git_state(script.absolute().parent if script.suffix == ".py" else Path.cwd()),
        "tool_pid": os.getpid(),
    }
    if budget is not None:
        config["budget"] = budget
    environment["FORGEMON_RUN"] = json.dumps(config)
    site, theirs = str(sidecar.LAUNCH_SITE), environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = f"{site}{os.pathsep}{theirs}" if theirs else site
    return environment


def own_environment() -> dict[str, str]:
    """The environment we were started with: in the C locale Python sets LC_CTYPE for itself and all its children (PEP 538)."""
    environment = dict(os.environ)
    try:
        with open("/proc/self/environ", "rb") as file:
            given = file.read().split(b"\0")
    except OSError:
        return environment
    if not any(variable.startswith(b"LC_CTYPE=") for variable in given):
        environment.pop("LC_CTYPE", None)
    return environment


def start_sidecar(run: Path, pid: int) -> None:
    """Without a sidecar the command still runs and is still recorded."""
    try:
        sidecar.start(run, pid)
    except (OSError, ValueError) as error:
        print(f"forgemon: no machine data, the sidecar could not be started: {error}", file=sys.stderr)


def run_headless(command: Sequence[str], parent: Path | None = None, budget: float | None = None) -> NoReturn:
    """Become the command: its pid, process group, output, signals and exit code are then its own."""
    program = find_program(command[0])
    run = new_run(command, parent)
    environment = watched_environment(run, command, budget)
    start_sidecar(run, os.getpid())
    sys.stdout.flush()
    sys.stderr.flush()
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # Python ignores them, and what is ignored stays so across exec
    try:
        execute(program, command, environment)
    except OSError as error:
        raise unusable(program, error) from error


def execute(program: str, command: Sequence[str], environment: dict[str, str]) -> NoReturn:
    try:
        os.execve(program, list(command), environment)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        os.execve("/bin/sh", shell_command(program, command), environment)


def shell_command(program: str, command: Sequence[str]) -> list[str]:
    """A script without `#!` line is the shell's, as every shell and execvp() has it."""
    return ["/bin/sh", program, *command[1:]]


def unusable(program: str, error: OSError) -> UserError:
    reason = "the program its first line names does not exist" if isinstance(error, FileNotFoundError) else error.strerror
    return UserError(f"{program} cannot be run: {reason}", NOT_EXECUTABLE)
