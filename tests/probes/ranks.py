"""Run a training script in two ranks as torchrun would, each in a process of its own with the probes in it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from forgemon.chunk import Chunk
from forgemon.reader import RunReader
from tests.probes.watched import PRELUDE, PROBES, events

RANKS = 2
# A thread of gloo's that lets go of the last collective's tensors while the interpreter ends has the process aborted, unwatched as
# well ("terminate called without an active exception", pytorch#179291). So a rank ends when they are all done.
ENDING = """
import pathlib, time
def working(task):
    try:
        name, state = (task / "stat").read_text().partition("(")[2].rsplit(")", 1)
    except OSError:  # the thread has ended
        return False
    return name == "pt_gloo_runloop" and state.split()[0] == "R"
time.sleep(0.001)  # without the lock of the interpreter, for which such a thread may wait
while any(map(working, pathlib.Path("/proc/self/task").iterdir())):
    time.sleep(0.001)
"""


def run_ranks(source: str, folder: Path, *, watched: tuple[bool, bool] = (True, True), budget: float = 0.0) -> list[str]:
    """Run `source` as FOLDER/train.py in every rank; returns what each printed. The run directory is FOLDER/run."""
    script = folder / "train.py"
    script.write_text(source + ENDING)
    config = {
        "run_dir": str(folder / "run"),
        "mode": "run",
        "forgemon": "test",
        "budget": budget,
        "bootstrap": str(PROBES / "bootstrap.py"),
        "script": str(script),
    }
    port = _free_port()
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PRELUDE, json.dumps({**config, "watched": watched[rank]})],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(RANKS),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            },
        )
        for rank in range(RANKS)
    ]
    printed = []
    try:
        for process in running:
            output, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
            printed.append(output)
    finally:
        for process in running:
            process.kill()
            process.wait()
    return printed


def read_rank(folder: Path, rank: int) -> Chunk:
    """Everything the probes of one rank wrote."""
    reader = RunReader(folder / "run", rank)
    chunk = reader.read(max_rows=1_000_000)
    assert reader.problems == () and reader.ranks == list(range(RANKS))
    errors = events(chunk, "probe_error")
    assert errors == [], errors
    return chunk


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
