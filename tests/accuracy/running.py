"""Runs configurations in real processes, two at a time, each with its own folder: train.py, run/ and output.log."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from tests.accuracy.configurations import Configuration

HERE = Path(__file__).resolve().parent
PROBES = HERE.parents[1] / "probes"
LIMIT_S = 300
"""CPU time of a run; most need a second, the slowest a minute or two on a slow machine."""


@dataclass(frozen=True)
class Done:
    """A run that has ended."""

    configuration: Configuration
    seed: int
    folder: Path
    status: int
    "0, or what the process ended with."


class Server:
    """One process that has torch loaded and forks a child per run, one after another."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        )

    def run(self, script: Path, budget: float | None) -> int:
        """`budget` None: nobody watches."""
        job = {"script": str(script), "folder": str(script.parent), "limit_s": LIMIT_S, "config": None}
        if budget is not None:
            job["config"] = _config(script, budget)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the server died on {script}")
        return int(json.loads(answer)["status"])

    def close(self) -> None:
        # Other children of ours hold the pipe open too, so that its end would never come.
        self._process.communicate("null\n")


def _config(script: Path, budget: float) -> dict[str, Any]:
    return {
        "run_dir": str(script.parent / "run"),
        "mode": "run",
        "forgemon": "accuracy",
        "budget": budget,
        "bootstrap": str(PROBES / "bootstrap.py"),
        "script": str(script),
    }


def run_all(jobs: list[tuple[Configuration, int]], out: Path, workers: int, budget: float) -> Iterator[Done]:
    """Every job once, as they end. A run that stands in `out` already is not run again."""
    servers: SimpleQueue[Server] = SimpleQueue()
    all_servers = [Server() for _ in range(workers)]
    for server in all_servers:
        servers.put(server)

    def one(job: tuple[Configuration, int]) -> Done:
        server = servers.get()
        try:
            return _run(server, *job, out, budget)
        finally:
            servers.put(server)

    try:
        with ThreadPoolExecutor(workers) as pool:
            for future in as_completed([pool.submit(one, job) for job in jobs]):
                yield future.result()
    finally:
        for server in all_servers:
            server.close()


def folder_of(configuration: Configuration, seed: int, out: Path) -> Path:
    return out / configuration.name.replace("/", "__").replace(" ", "_") / str(seed)


def _run(server: Server, configuration: Configuration, seed: int, out: Path, budget: float) -> Done:
    folder = folder_of(configuration, seed, out)
    status, script = folder / "status", folder / "train.py"
    source = configuration.source(seed)
    if status.exists() and script.read_text() == source:
        return Done(configuration, seed, folder, int(status.read_text()))
    shutil.rmtree(folder, ignore_errors=True)  # a log of another version of the script would be read for this one's
    folder.mkdir(parents=True)
    before = configuration.source_before(seed)
    if before is not None:
        (folder / "before.py").write_text(before)
        server.run(folder / "before.py", None)
    script.write_text(source)
    ended = server.run(script, budget)
    for checkpoint in folder.glob("*.pt"):
        checkpoint.unlink()
    status.write_text(str(ended))
    return Done(configuration, seed, folder, ended)
