"""`forgemon runs` in a real terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.recorded import small_run


def in_terminal(arguments: list[str], env: dict[str, str], columns: int) -> list[str]:
    """The lines the command draws on a terminal of its own, without their styles."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(arguments, stdin=child, stdout=child, stderr=child, env=env) as process:
        os.close(child)
        drawn = b""
        try:
            while data := os.read(parent, 65536):
                drawn += data
        except OSError:  # Linux: the other side is closed
            pass
        os.close(parent)
    assert process.returncode == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", drawn.decode()).splitlines()


@pytest.mark.parametrize(("columns", "last"), [(80, "loss"), (120, "script")])
def test_a_table_in_a_terminal(tmp_path: Path, columns: int, last: str) -> None:
    small_run(tmp_path / "healthy_classifier-20260101-120000-76543", steps=4)
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    env |= {"FORGEMON_RUNS": str(tmp_path), "TERM": "xterm"}
    lines = in_terminal([sys.executable, "-m", "forgemon", "runs"], env, columns)

    assert lines[0].split()[:4] == ["run", "state", "steps", "loss"] and lines[0].split()[-1] == last
    assert lines[1].split()[:4] == ["healthy_classifier-20260101-120000-76543", "finished", "4", "0.25"]
    assert len(lines) == 2 and all(len(line) <= columns for line in lines)
