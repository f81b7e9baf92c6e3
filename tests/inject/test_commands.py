"""`forgemon attach` and `forgemon detach` as commands, on a real training loop with the real probes."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pyte
import pytest

from forgemon.commands.choose import ask, duration, offer, table
from forgemon.inject import procfs
from forgemon.inject.processes import TrainingProcess
from tests.inject.targets import BUSY, TORCH, Running, events, running
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("loop"), TORCH) as target:
        yield target


def forgemon(runs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command through a pipe; its standard error must be empty or a single line."""
    done = subprocess.run(
        [sys.executable, "-m", "forgemon", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "FORGEMON_RUNS": str(runs)},
        timeout=60,
        check=False,
    )
    assert done.stderr.count("\n") <= 1, done.stderr
    return done


def test_headless_attach_list_and_detach(loop: Running, tmp_path: Path) -> None:
    done = forgemon(tmp_path, "attach", str(loop.pid), "--headless")
    assert (done.returncode, done.stderr) == (0, "")
    (run,) = tmp_path.iterdir()
    said = f"PID {loop.pid} is being recorded in {run}. Look: forgemon attach {loop.pid}. Stop: forgemon detach {loop.pid}\n"
    assert done.stdout == said
    wait_for(lambda: (run / "run.json").exists() and (run / "machine.npy").exists(), "the run and its sidecar")

    again = forgemon(tmp_path, "attach", str(loop.pid), "--headless")
    assert (again.returncode, again.stdout) == (0, said)
    by_name = forgemon(tmp_path, "attach", run.name, "--headless")
    assert (by_name.returncode, by_name.stdout) == (0, said)

    listed = forgemon(tmp_path, "attach")
    (line,) = [line for line in listed.stdout.splitlines() if line.startswith(f"{loop.pid}\t")]
    cells = line.split("\t")
    assert (cells[2], cells[6]) == ("target-0.py", str(run))

    left = forgemon(tmp_path, "detach", str(loop.pid))
    assert (left.returncode, left.stderr) == (0, "")
    assert left.stdout == f"PID {loop.pid} is no longer watched. Its recording: forgemon replay {run}\n"
    assert events(run)[-1]["kind"] == "detached"
    assert procfs.open_runs(loop.pid) == ()
    assert loop.process.poll() is None


def test_the_dashboard_opens_and_leaving_it_leaves_the_recording(loop: Running, tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 36, 200, 0, 0))
    command = [sys.executable, "-m", "forgemon", "attach", str(loop.pid)]
    environment = {**os.environ, "FORGEMON_RUNS": str(tmp_path), "TERM": "xterm-256color"}
    screen = pyte.Screen(200, 36)
    stream = pyte.ByteStream(screen)

    def shows(text: str) -> bool:
        while select.select([leader], [], [], 0)[0]:
            try:
                stream.feed(os.read(leader, 65536))
            except OSError:  # the other end is closed
                break
        return any(text in line for line in screen.display)

    with subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, env=environment, start_new_session=True
    ) as dashboard:
        os.close(follower)
        try:
            wait_for(lambda: shows("steps/s"), "numbers on the screen", 60)
            (run,) = tmp_path.iterdir()
            os.write(leader, b"q")
            wait_for(lambda: shows(f"PID {loop.pid} is being recorded in {run}"), "the line that says where it stands", 60)
            assert dashboard.wait(30) == 0
            assert [opened.run for opened in procfs.open_runs(loop.pid)] == [str(run)]
        finally:
            dashboard.kill()
            os.close(leader)
    assert forgemon(tmp_path, "detach", str(loop.pid)).returncode == 0


def test_without_a_terminal_the_target_is_not_touched(loop: Running, tmp_path: Path) -> None:
    done = forgemon(tmp_path / "runs", "attach", str(loop.pid))
    assert done.returncode == 2
    assert done.stderr == (
        f"forgemon: the dashboard needs a terminal. To record only: forgemon attach {loop.pid} --headless; "
        "then see: forgemon check RUN\n"
    )
    assert not (tmp_path / "runs").exists()


def test_refusals_are_one_line_and_exit_code_2(loop: Running, tmp_path: Path) -> None:
    with running(tmp_path, BUSY) as plain:
        done = forgemon(tmp_path / "runs", "attach", str(plain.pid), "--headless", "--timeout", "0.1")
        assert (done.returncode, done.stdout) == (2, "")
        assert f"PID {plain.pid} (target-0.py) is Python without PyTorch" in done.stderr
    done = forgemon(tmp_path, "detach", str(loop.pid))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"PID {loop.pid} is not watched" in done.stderr
    for words in (("detach", "train.py"), ("no-such-verb",), ("replay",)):
        done = forgemon(tmp_path, *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.fullmatch(r"forgemon: .+: forgemon .+\n", done.stderr)
    done = forgemon(tmp_path, "attach", "no-such-run", "--headless")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no-such-run" in done.stderr


def test_the_list_to_choose_from() -> None:
    watched = TrainingProcess(12, "ada", "train.py", 3700.0, 61.0, None, "/runs/train-1")
    idle = TrainingProcess(9, "bob", "\x1b[31m-m lm", 86400.0 * 2, 5.0, None, None)
    choices = offer([watched, idle], [Path("/runs/train-1"), Path("/elsewhere/big-2")])
    assert [choice.target for choice in choices] == ["12", "9", "/elsewhere/big-2"]
    lines = table(choices)
    assert lines[0].split() == ["pid", "user", "program", "age", "cpu", "time", "recorded", "in"]
    assert lines[1] == "1  12   ada   train.py       1 h 1 min  1 min 1 s  /runs/train-1"
    assert r"\x1b[31m-m lm" in lines[2]
    with_gpu = offer([TrainingProcess(12, "ada", "train.py", 1.0, 1.0, 2.0**31, None)], [])
    assert "2.0 GiB" in table(with_gpu)[1]


@pytest.mark.parametrize("answers", ["2\n", "9\n", "7\nx\n0\n2\n"])
def test_a_number_of_the_list_or_the_pid_beside_it_chooses(answers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    choices = offer([TrainingProcess(pid, "ada", "train.py", 1.0, 1.0, None, None) for pid in (12, 9)], [])
    monkeypatch.setattr("sys.stdin", io.StringIO(answers))
    assert ask(choices) == "9"


def test_durations() -> None:
    assert [duration(s) for s in (0, 59.9, 60, 3661, 90000)] == ["0 s", "59 s", "1 min 0 s", "1 h 1 min", "1 d 1 h"]
