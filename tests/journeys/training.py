"""A training process of a test's own, and the forgemon command beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.waiting import wait_for

SCRIPT = Path(__file__).with_name("plain_loop.py")


class Training:
    """plain_loop.py in a process of its own that nobody told of forgemon."""

    def __init__(self, folder: Path, *arguments: str, script: Path = SCRIPT) -> None:
        self.folder = folder
        self.stop_file = folder / "stop"
        self._output = folder / "output.txt"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(script), "--stop-file", str(self.stop_file), *arguments],
                stdout=output,
                stderr=output,
                cwd=folder,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )
        wait_for(lambda: "ready" in self.output, "the training to start", 60)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        return self._output.read_text()

    def finish(self) -> str:
        """Let it end in order; its output."""
        self.stop_file.touch()
        wait_for(lambda: self.process.poll() is not None, "the training to end", 60)
        assert self.process.returncode == 0, self.output
        return self.output

    def __enter__(self) -> Training:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def forgemon(*arguments: str, runs: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the real command through a pipe."""
    done = subprocess.run(
        [sys.executable, "-m", "forgemon", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "FORGEMON_RUNS": str(runs)},
    )
    if check:
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done


def report(run: Path, runs: Path) -> dict[str, Any]:
    """What `forgemon check --json` says, whatever its exit code."""
    done = forgemon("check", "--json", str(run), runs=runs, check=False)
    assert done.returncode in (0, 1), done.stderr
    parsed: dict[str, Any] = json.loads(done.stdout)
    return parsed


def only_run(runs: Path) -> Path:
    (run,) = runs.iterdir()
    return run


def newest_step(run: Path) -> int:
    """Step of the newest row, 0 before there is one."""
    from forgemon.reader import RunReader

    if not (run / "rank-0" / "steps.npy").exists():
        return 0
    steps = RunReader(run).read(max_rows=10_000_000).steps
    return int(steps["step"][-1]) if len(steps) else 0
