"""Processes to attach to, and a stand-in for the probes' bootstrap that answers as the real one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from forgemon.inject import procfs
from forgemon.inject.boot import cannot_fail
from forgemon.inject.native import NativeWay
from forgemon.inject.python import PythonProcess, find_python

BUSY = """
    import os, sys
    print("ready", flush=True)
    turns = 0
    while not os.path.exists(sys.argv[1]):
        turns += 1
    print("end", sorted(globals()), flush=True)
"""
"A loop that never leaves Python, ended by the file named on its command line."

TORCH = """
    import os, sys
    import torch
    from torch.utils.data import DataLoader, TensorDataset
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = torch.nn.Linear(8, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    data = TensorDataset(torch.randn(64, 8), torch.randint(0, 2, (64,)))
    print("ready", flush=True)
    while not os.path.exists(sys.argv[1]):
        for x, y in DataLoader(data, batch_size=8, num_workers=2):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
        print("epoch", flush=True)
    print("end", flush=True)
"""
"A training loop that starts two workers an epoch: one SIGCHLD after the other."

STAND_IN = """
    import json, os, time
    def start(config):
        folder = os.path.join(config["run_dir"], "rank-0")
        os.makedirs(folder, exist_ok=True)
        file = open(os.path.join(folder, "events.jsonl"), "a")
        file.write(json.dumps({"time": time.time(), "step": 0, "kind": "attached", "config": config}) + "\\n")
        file.flush()
        import _thread
        def wait():
            while not os.path.exists(os.path.join(folder, "detach")):
                time.sleep(0.02)
            file.close()
        _thread.start_new_thread(wait, ())
"""


class Running:
    """A target that has printed `ready`."""

    def __init__(self, process: subprocess.Popen[str], stop_file: Path) -> None:
        assert process.stdout is not None
        self.process = process
        self.pid = process.pid
        self.output: IO[str] = process.stdout
        self.stop_file = stop_file

    def finish(self) -> str:
        """Let it end by itself, closing its standard input; its remaining output. Fails when it was killed or failed."""
        self.stop_file.touch()
        rest, errors = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, (self.process.returncode, rest, errors)
        return rest


@contextmanager
def running(
    folder: Path, source: str, *, python: str = sys.executable, environment: Mapping[str, str] | None = None, **options: Any
) -> Iterator[Running]:
    """Start `source` as a script in `folder`, wait until it says that it is ready, and kill it at the end."""
    number = len(list(folder.glob("target-*.py")))
    script = folder / f"target-{number}.py"
    script.write_text(textwrap.dedent(source))
    stop_file = folder / f"stop-{number}"
    process = subprocess.Popen(
        [python, str(script), str(stop_file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **(environment or {})},
        **options,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == "ready\n", (line, process.stderr.read() if process.stderr and process.poll() is not None else "")
        yield Running(process, stop_file)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its workers, too
        process.communicate()


def stand_in(folder: Path, source: str = STAND_IN) -> Path:
    """A folder of probes whose bootstrap.py is `source`."""
    probes = folder / "stand-in-probes"
    probes.mkdir()
    (probes / "bootstrap.py").write_text(textwrap.dedent(source))
    return probes


def way_into(pid: int) -> NativeWay:
    python = find_python(pid, procfs.mappings(pid))
    assert isinstance(python, PythonProcess)
    return NativeWay(python)


def inject(pid: int, source: str) -> None:
    """Have a process run `source`, whatever comes of it."""
    way_into(pid).inject(cannot_fail(textwrap.dedent(source)))


def events(run: Path) -> list[dict[str, Any]]:
    path = run / "rank-0" / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
