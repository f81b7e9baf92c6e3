"""Runs scripts in processes that need not load torch first, which takes longer than most of them do."""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

SERVER = Path(__file__).resolve().parent / "server.py"


class Ended(NamedTuple):
    """A script that has ended."""

    status: int
    "0, or what the process ended with: its exit code, or minus the signal that killed it."
    cpu_s: float


class ScriptServer:
    """One process that has torch loaded and forks a child per script, one after another, on one core each."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SERVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # a line that waits in a buffer of ours is none that select() sees
            env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        )

    def run(
        self,
        script: Path,
        arguments: Sequence[str],
        config: dict[str, Any] | None,
        *,
        output: Path,
        errors: Path,
        limit_s: int | None = None,
        timeout_s: float | None = None,
    ) -> Ended:
        """Run `script` in its folder, in the environment as it is now. `config` of the probes; None: nobody watches. `limit_s` is CPU
        time, after which it is killed; after `timeout_s` on the clock it is too, and TimeoutExpired is raised."""
        job = {
            "script": str(script),
            "arguments": list(arguments),
            "folder": str(script.parent),
            "environment": {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            "output": str(output),
            "errors": str(errors),
            "limit_s": limit_s,
            "config": config,
        }
        for path in (output, errors):
            path.unlink(missing_ok=True)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        pid = self._answer(script)["pid"]
        assert self._process.stdout is not None
        late = timeout_s is not None and not select.select([self._process.stdout], [], [], timeout_s)[0]
        if late:
            os.kill(pid, signal.SIGKILL)
        answer = self._answer(script)
        if late:
            raise subprocess.TimeoutExpired(str(script), timeout_s or 0.0, output.read_bytes(), errors.read_bytes())
        return Ended(**answer)

    def _answer(self, script: Path) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server died on {script}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        # Other children of ours hold the pipe open too, so that its end would never come.
        self._process.communicate(b"null\n")


@functools.cache
def shared_server() -> ScriptServer:
    """One for all tests of this process, until it ends."""
    server = ScriptServer()
    atexit.register(server.close)
    return server
