"""`forgemon check --follow` beside a real process: the job script of --help, a run that ends, and one that fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.test_check_steps import LOOP, PRETENDS

FORGEMON = '#!/bin/sh\nexec "$PYTHON" -m forgemon "$@"\n'
WAITS = "until ls -d runs/*-$! 2>/dev/null; do :; done"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pretends.py").write_text(PRETENDS)
    (tmp_path / "forgemon").write_text(FORGEMON)
    (tmp_path / "forgemon").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORGEMON_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHON", sys.executable)
    monkeypatch.setenv("PATH", f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def bash(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=120)


def job_script() -> str:
    """The lines of the example in --help."""
    said = bash("forgemon check --help").stdout
    lines = said.partition("In a job script")[2].splitlines()[1:]
    return "\n".join(line.strip() for line in lines[: lines.index("")])


def test_the_job_script_of_the_help_ends_a_doomed_run(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(f"import sys\nsys.argv.append('faulty')\n{LOOP}")
    script = job_script()
    assert script.count("sleep 10") == 1
    done = bash(script.replace("sleep 10", WAITS))
    assert done.returncode == 143, (done.stdout, done.stderr)  # that of a command that SIGTERM ended
    assert done.stdout.count("ALARM  missing-zero-grad") == 2  # when it came, and in the report
    assert "steps, running" in done.stdout, "it was said while the run went on"


@pytest.mark.parametrize(
    ("after", "options", "code", "state"),
    [
        ("", "", 0, "30 steps, finished"),
        ("raise SystemExit(3)", "", 0, "30 steps, exited (left with exit code 3)"),
        ("raise SystemExit(3)", "--fail-on watch", 1, "30 steps, exited (left with exit code 3)"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "", 1, "30 steps, killed (killed by SIGKILL)"),
    ],
)
def test_it_leaves_when_the_run_ends(tmp_path: Path, after: str, options: str, code: int, state: str) -> None:
    (tmp_path / "train.py").write_text(f"{PRETENDS}\n{after}")
    done = bash(f"forgemon run --headless -- python train.py short 30 & {WAITS}; forgemon check {options} --follow runs/*-$!")
    assert (done.returncode, done.stdout.count(state)) == (code, 1), (done.stdout, done.stderr)
