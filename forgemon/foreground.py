"""A command beside the dashboard: its output goes to a file, and once the dashboard is left it runs on in the foreground."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import subprocess
import sys
import termios
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from forgemon import launch
from forgemon.errors import UserError

SHORT_LOG_BYTES = 64 << 10
"A log up to this size is printed whole when the dashboard is left, a longer one from its last lines on."
TAIL_BYTES = 4 << 10
NOTE_S = 1.0
"How long the command stays unreaped so that the sidecar can read how it ended; it needs milliseconds."
TO_GROUP = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
"A terminal sends these to all processes in the foreground, kill sends the others to one."
FORWARDED = (*TO_GROUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
SANE_SCREEN = b"\x1b[?1049l\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[0m"


class SignalArrived(SystemExit):
    """Leaves the dashboard. Not an Exception: an event loop lets only SystemExit and KeyboardInterrupt through."""


def run_with_dashboard(command: Sequence[str], parent: Path | None = None, budget: float | None = None) -> NoReturn:
    """Run the command with the dashboard in front of it, and end as it ended."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError("the dashboard needs a terminal; without one write: forgemon run --headless -- COMMAND")
    program = launch.find_program(command[0])
    run = launch.new_run(command, parent)
    log = run / "output.log"
    child = start_command(program, command, launch.watched_environment(run, command, budget), log)
    launch.start_sidecar(run, child.pid)
    with forwarded_signals(child.pid, FORWARDED, leave=True):
        show_dashboard(run, log)
    with forwarded_signals(child.pid, FORWARDED, leave=False), suspended_together(child.pid):
        sys.stderr.write(f"forgemon: recorded in {run}\n")
        follow(log, lambda: has_ended(child.pid))
        await_note(run / "machine.jsonl")
    end_like(child.wait())


def start_command(program: str, command: Sequence[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start it in a session of its own: it must not read keys meant for the dashboard, nor be stopped for trying.

    Its output goes straight into a file, so that it needs nobody to read it.
    """

    def popen(arguments: Sequence[str], executable: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            arguments,
            executable=executable,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**environment, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )

    try:
        with open(log, "ab") as output:
            try:
                return popen(command, program)
            except OSError as error:
                if error.errno != errno.ENOEXEC:
                    raise
                return popen(launch.shell_command(program, command), "/bin/sh")
    except OSError as error:
        raise launch.unusable(program, error) from error


def show_dashboard(run: Path, log: Path) -> None:
    """Whatever becomes of the dashboard, the command goes on and the terminal is as it was before."""
    settings = termios.tcgetattr(sys.stdin.fileno())
    try:
        from forgemon.tui.app import run_dashboard

        run_dashboard(run, live=True, output=log)
        return
    except UserError as error:
        message = f"forgemon: {error}\n"
    except SignalArrived:
        message = ""
    except Exception:
        message = f"{traceback.format_exc()}forgemon: the dashboard failed, the command goes on\n"
    with contextlib.suppress(OSError, termios.error):
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, settings)
        os.write(sys.stdout.fileno(), SANE_SCREEN)
        sys.stderr.write(message)


Handler = Callable[[int, FrameType | None], Any]


@contextlib.contextmanager
def forwarded_signals(pid: int, numbers: Sequence[signal.Signals], leave: bool) -> Iterator[None]:
    """Send on to the command what is sent to us. With `leave`, SIGTERM and SIGHUP also end the dashboard."""

    def forward(number: int, frame: FrameType | None) -> None:
        send(pid, number)
        if leave and number in (signal.SIGTERM, signal.SIGHUP):
            raise SignalArrived(128 + number)

    with handled({number: forward for number in numbers if signal.getsignal(number) != signal.SIG_IGN}):
        yield


@contextlib.contextmanager
def handled(handlers: dict[signal.Signals, Handler]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def send(pid: int, number: int) -> None:
    """The command leads its process group. We have not reaped it, so the pid is still its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if number in (*TO_GROUP, signal.SIGSTOP, signal.SIGCONT):
            os.killpg(pid, number)
        else:
            os.kill(pid, number)


@contextlib.contextmanager
def suspended_together(pid: int) -> Iterator[None]:
    """Ctrl-Z stops the command with us, and fg lets both go on."""

    def stop(number: int, frame: FrameType | None) -> None:
        send(pid, signal.SIGSTOP)  # SIGTSTP does nothing to a session without a terminal
        os.kill(os.getpid(), signal.SIGSTOP)

    def go_on(number: int, frame: FrameType | None) -> None:
        send(pid, signal.SIGCONT)

    with handled({signal.SIGTSTP: stop, signal.SIGCONT: go_on}):
        yield


def has_ended(pid: int) -> bool:
    """Leaves it a zombie: the sidecar may still want to read how it ended."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def follow(log: Path, ended: Callable[[], bool], pause_s: float = 0.05) -> None:
    """Print the log and what is appended to it until `ended()`, through a terminal that may go away meanwhile."""
    with open(log, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > SHORT_LOG_BYTES:
            file.seek(size - TAIL_BYTES)
            file.readline()
            sys.stderr.write(f"forgemon: earlier output is in {log}\n")
        sys.stderr.flush()
        shown = True
        while True:
            over = ended()  # before the read: what was written until then is read below
            while data := file.read(1 << 16):
                shown = shown and print_bytes(data)
            if over:
                return
            time.sleep(pause_s)


def print_bytes(data: bytes) -> bool:
    """False when there is nobody to print to any more."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError:
        return False
    return True


def await_note(journal: Path, seconds: float = NOTE_S) -> None:
    """Wait a moment until the sidecar has written how the command ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):  # a command that was quicker than the sidecar is up
            if b'"ended"' in journal.read_bytes():
                return
        time.sleep(0.01)


def end_like(status: int) -> NoReturn:
    """Exit with the code of the command, or die of the signal it died of, so that the shell sees the same.

    At once: a dashboard that was torn down by a signal may have left a thread that waits for a key.
    """
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    if status < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -status not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(128 - status if status < 0 else status)
