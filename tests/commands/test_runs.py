"""`forgemon runs` in a real terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

from tests.recorded import small_run


def in_terminal(arguments: list[str], env: dict[str, str]) -> str:
    """What the command draws on a terminal of its own."""
    parent, child = pty.openpty()
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
    return drawn.decode()


def test_a_table_in_a_terminal(tmp_path: Path) -> None:
    small_run(tmp_path / "train-20260101-120000-7", steps=4)
    env = {**os.environ, "TERM": "dumb", "FORGEMON_RUNS": str(tmp_path), "COLUMNS": "120"}
    drawn = in_terminal([sys.executable, "-m", "forgemon", "runs"], env)
    lines = drawn.splitlines()

    assert lines[0].split() == ["run", "state", "steps", "loss", "created", "user", "host", "script"]
    assert "train-20260101-120000-7" in drawn and "finished" in drawn and "train.py" in drawn and "\t" not in drawn
