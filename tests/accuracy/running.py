"""Runs configurations in real processes, two at a time, each with its own folder: train.py, run/ and output.log."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from tests.accuracy.configurations import Configuration
from tests.forked.scripts import ScriptServer

PROBES = Path(__file__).resolve().parents[2] / "probes"
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


def train(server: ScriptServer, script: Path, budget: float | None) -> int:
    """Run it in its folder, for its exit status; what it prints goes into output.log. `budget` None: nobody watches."""
    config, log = None if budget is None else _config(script, budget), script.parent / "output.log"
    return server.run(script, [], config, output=log, errors=log, limit_s=LIMIT_S).status


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
    servers: SimpleQueue[ScriptServer] = SimpleQueue()
    all_servers = [ScriptServer() for _ in range(workers)]
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


def _run(server: ScriptServer, configuration: Configuration, seed: int, out: Path, budget: float) -> Done:
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
        train(server, folder / "before.py", None)
    script.write_text(source)
    ended = train(server, script, budget)
    for checkpoint in folder.glob("*.pt"):
        checkpoint.unlink()
    status.write_text(str(ended))
    return Done(configuration, seed, folder, ended)
