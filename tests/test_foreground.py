"""`forgemon run` with the dashboard in a real terminal: who gets which signal and output, and how it ends.

The dashboard is a stand-in that reads one line; tests/tui has the real one.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from tests.waiting import wait_for

PROGRAM = """
import os, sys, termios, types
from pathlib import Path
from forgemon.errors import UserError
from forgemon import foreground
def run_dashboard(run, *, live, output=None, on_quit_message=""):
    assert live and output.parent == run
    settings = termios.tcgetattr(0)
    settings[3] &= ~termios.ISIG
    termios.tcsetattr(0, termios.TCSANOW, settings)
    print("DASHBOARD", flush=True)
    key = sys.stdin.readline().strip()
    if key == "crash": raise RuntimeError("a bug of ours")
    if key == "small": raise UserError("the terminal is too small")
    settings[3] |= termios.ISIG
    termios.tcsetattr(0, termios.TCSANOW, settings)
    print("LEFT", flush=True)
app = types.ModuleType("forgemon.tui.app")
app.run_dashboard = run_dashboard
sys.modules["forgemon.tui.app"] = app
foreground.run_with_dashboard(sys.argv[1:])
"""

COMMAND = """
import os, signal, sys, time
def tell(number, frame):
    print('got', signal.Signals(number).name)
    os._exit(int(os.environ.get('CODE', 0)))
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, tell if os.environ.get('TELL') else signal.SIG_DFL)
print('begun', os.getpid(), sys.stdin.read(), sys.stdout.isatty())
while not os.path.exists('go-on'): time.sleep(0.02)
print('done')
sys.exit(int(os.environ.get('CODE', 0)))
"""


class Terminal:
    """`forgemon run` in front of a terminal of its own."""

    def __init__(self, folder: Path, command: Sequence[str]) -> None:
        self.folder = folder
        self.master, slave = os.openpty()
        os.set_blocking(self.master, False)
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env={**os.environ, "FORGEMON_RUNS": str(folder / "runs")},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.shown = ""

    def wait_for(self, text: str) -> str:
        """All that was shown, once `text` was."""

        def look() -> bool:
            with contextlib.suppress(OSError):
                self.shown += os.read(self.master, 1 << 16).decode().replace("\r\n", "\n")
            return text in self.shown

        wait_for(look, f"{text!r} on the terminal, which shows {self.shown!r}")
        return self.shown

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def go_on(self) -> None:
        (self.folder / "go-on").touch()

    @property
    def run(self) -> Path:
        return next((self.folder / "runs").iterdir())

    def journal(self) -> dict[str, dict[str, object]]:
        """What the sidecar has said, by kind."""
        with contextlib.suppress(FileNotFoundError):
            return {event["kind"]: event for event in map(json.loads, (self.run / "machine.jsonl").read_text().splitlines())}
        return {}

    def command(self) -> psutil.Process:
        """The command's process, once it has begun."""

        def begun() -> list[str]:
            with contextlib.suppress(OSError):
                lines = (self.run / "output.log").read_text().splitlines(keepends=True)
                return [line for line in lines if line.startswith("begun") and line.endswith("\n")]
            return []

        return psutil.Process(int(wait_for(begun, "the command to begin")[0].split()[1]))

    def end(self) -> int:
        """The exit code, after the rest of the output was read."""
        wait_for(lambda: self.process.poll() is not None, "forgemon to end")
        with contextlib.suppress(OSError):
            self.shown += os.read(self.master, 1 << 16).decode().replace("\r\n", "\n")
        return self.process.returncode

    def close(self) -> None:
        self.go_on()
        with contextlib.suppress(OSError):
            os.close(self.master)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "train.py").write_text(COMMAND)
    return tmp_path


@pytest.fixture
def terminal(folder: Path) -> Iterator[Terminal]:
    terminal = Terminal(folder, [sys.executable, "train.py"])
    terminal.wait_for("DASHBOARD")
    yield terminal
    terminal.close()


@pytest.fixture
def telling(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A command that says which signal it got and exits with 6."""
    monkeypatch.setenv("TELL", "1")
    monkeypatch.setenv("CODE", "6")
    terminal = Terminal(folder, [sys.executable, "train.py"])
    terminal.wait_for("DASHBOARD")
    terminal.command()
    yield terminal
    terminal.close()


def test_output_goes_to_the_log_and_flows_again_after_leaving(terminal: Terminal) -> None:
    command = terminal.command()
    wait_for(lambda: "started" in terminal.journal(), "the sidecar")
    assert "begun" not in terminal.shown
    assert os.getsid(command.pid) == command.pid != os.getsid(terminal.process.pid)
    terminal.type("q\n")
    shown = terminal.wait_for(f"begun {command.pid}")
    assert f"begun {command.pid}  False" in shown.split("LEFT")[1], "stdin is empty and stdout a file"
    terminal.go_on()
    assert terminal.end() == 0
    assert terminal.shown.endswith("done\n")
    assert (terminal.run / "output.log").read_text() == f"begun {command.pid}  False\ndone\n"
    assert terminal.journal()["ended"]["how"] == "finished", "known by the time forgemon is back"


def test_the_dashboard_stays_when_the_command_has_ended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODE", "5")
    terminal = Terminal(folder, [sys.executable, "train.py"])
    terminal.wait_for("DASHBOARD")
    terminal.go_on()
    wait_for(lambda: "ended" in terminal.journal(), "the command to end")
    assert terminal.process.poll() is None
    terminal.type("q\n")
    assert terminal.end() == 5
    assert terminal.shown.endswith("done\n")
    terminal.close()


def test_ctrl_c_after_leaving_reaches_the_command(telling: Terminal) -> None:
    telling.type("q\n")
    telling.wait_for("begun")
    telling.type("\x03")
    assert telling.end() == 6
    assert telling.shown.endswith("got SIGINT\n")


def test_ctrl_c_in_the_dashboard_does_not(telling: Terminal) -> None:
    telling.type("\x03q\n")
    telling.wait_for("begun")
    telling.go_on()
    assert telling.end() == 6
    assert telling.shown.endswith("done\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("left", [True, False])
def test_other_signals_reach_the_command_at_any_time(telling: Terminal, number: signal.Signals, left: bool) -> None:
    if left:
        telling.type("q\n")
        telling.wait_for("begun")
    telling.process.send_signal(number)
    assert telling.end() == 6
    assert f"got {number.name}\n" in telling.shown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_a_command_that_dies_of_a_signal_lets_us_die_of_it(terminal: Terminal, number: signal.Signals) -> None:
    command = terminal.command()
    terminal.type("q\n")
    terminal.wait_for("begun")
    command.send_signal(number)
    assert terminal.end() == -number


def test_ctrl_z_stops_both_and_fg_lets_both_go_on(terminal: Terminal) -> None:
    command = terminal.command()
    terminal.type("q\n")
    terminal.wait_for("begun")
    ours = psutil.Process(terminal.process.pid)
    # As Ctrl-Z does; the terminal itself cannot, its only process group being an orphaned one.
    terminal.process.send_signal(signal.SIGTSTP)
    wait_for(lambda: {ours.status(), command.status()} == {psutil.STATUS_STOPPED}, "both to stop")
    terminal.process.send_signal(signal.SIGCONT)
    wait_for(lambda: psutil.STATUS_STOPPED not in (ours.status(), command.status()), "both to go on")
    terminal.go_on()
    assert terminal.end() == 0


def test_a_dashboard_that_crashes_leaves_command_and_terminal_alone(terminal: Terminal) -> None:
    terminal.type("crash\n")
    terminal.wait_for("a bug of ours")
    terminal.wait_for("begun")
    assert termios.tcgetattr(terminal.master)[3] & termios.ISIG
    terminal.go_on()
    assert terminal.end() == 0


def test_a_terminal_the_dashboard_refuses(terminal: Terminal) -> None:
    terminal.type("small\n")
    terminal.wait_for("forgemon: the terminal is too small\n")
    terminal.go_on()
    assert terminal.end() == 0
    assert "Traceback" not in terminal.shown


def test_killing_the_dashboard_leaves_command_and_recording_alone(terminal: Terminal) -> None:
    command = terminal.command()
    terminal.process.kill()
    assert terminal.end() == -signal.SIGKILL
    os.close(terminal.master)
    assert command.is_running()
    terminal.go_on()
    wait_for(lambda: "ended" in terminal.journal(), "the sidecar's last word")
    assert (terminal.run / "output.log").read_text().endswith("done\n")


def test_a_terminal_that_hangs_up_ends_a_command_that_lets_it(terminal: Terminal) -> None:
    command = terminal.command()
    terminal.type("q\n")
    terminal.wait_for("begun")
    os.close(terminal.master)
    wait_for(lambda: not command.is_running(), "the command to end")
    assert terminal.end() == -signal.SIGHUP


def test_a_long_log_is_shown_from_its_last_lines_on(folder: Path) -> None:
    (folder / "train.py").write_text("for i in range(20_000): print('line', i)\n")
    terminal = Terminal(folder, [sys.executable, "train.py"])
    terminal.wait_for("DASHBOARD")
    wait_for(lambda: "ended" in terminal.journal(), "the command to end")
    terminal.type("q\n")
    terminal.wait_for("line 19999\n")
    terminal.end()
    after = terminal.shown.split("LEFT\n")[1].splitlines()
    assert after[:2] == [f"forgemon: recorded in {terminal.run}", f"forgemon: earlier output is in {terminal.run}/output.log"]
    assert 100 < len(after) < 1000
    assert [int(line.split()[1]) for line in after[2:]] == list(range(20_002 - len(after), 20_000))
    terminal.close()
