"""Run a training script in a process of its own with the probes in it, and read what they recorded."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from forgemon.chunk import Chunk
from forgemon.reader import RunReader
from tests.forked.scripts import shared_server

PROBES = Path(__file__).resolve().parents[2] / "probes"

PRELUDE = """
import json, runpy, sys
import torch, torch.utils.data
torch.set_num_threads(1)
config = json.loads(sys.argv[1])
namespace = {"__name__": "_forgemon_bootstrap", "__file__": config["bootstrap"]}
if config["watched"]:
    exec(compile(open(config["bootstrap"]).read(), config["bootstrap"], "exec"), namespace)
    namespace["start"](config)
sys.argv = [config["script"], *sys.argv[2:]]
runpy.run_path(config["script"], run_name="__main__")
"""

ATTACH = """
import json, sys
config = json.loads(sys.argv[1])
def attach():
    if not config:
        return None
    namespace = {"__name__": "_forgemon_bootstrap", "__file__": config["bootstrap"]}
    exec(compile(open(config["bootstrap"]).read(), config["bootstrap"], "exec"), namespace)
    namespace["start"](config)
    return sys.modules["_forgemon_probe"].session
"""
"""For a script that is not watched from its start: what its first argument says, `attach_argument()` or {} for nothing."""


def attach_argument(folder: Path) -> str:
    """Every step is observed."""
    config = {"run_dir": str(folder / "run"), "mode": "attach", "forgemon": "test", "budget": 0.0}
    return json.dumps({**config, "bootstrap": str(PROBES / "bootstrap.py")})


def run_script(
    source: str,
    folder: Path,
    *arguments: str,
    watched: bool = True,
    budget: float = 0.0,
    check: bool = True,
    timeout_s: float = 120,
    fresh: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run `source` as FOLDER/train.py from its first line on; the run directory is FOLDER/run.

    `fresh`: in an interpreter of its own, where it matters when torch is imported, or what the process was before; else in one that
    has it loaded, a second or two earlier."""
    script = folder / "train.py"
    script.write_text(source)
    config = {
        "run_dir": str(folder / "run"),
        "mode": "run",
        "forgemon": "test",
        "budget": budget,
        "bootstrap": str(PROBES / "bootstrap.py"),
        "script": str(script),
        "watched": watched,
    }
    done = (_run_fresh if fresh else _run_forked)(script, arguments, config, timeout_s)
    if check:
        assert done.returncode == 0, done.stderr
    return done


run_fresh = functools.partial(run_script, fresh=True)


def _run_fresh(
    script: Path, arguments: Sequence[str], config: dict[str, Any], timeout_s: float
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PRELUDE, json.dumps(config), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        cwd=script.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def _run_forked(
    script: Path, arguments: Sequence[str], config: dict[str, Any], timeout_s: float
) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as folder:
        output, errors = Path(folder, "output"), Path(folder, "errors")
        wanted = config if config["watched"] else None
        ended = shared_server().run(script, arguments, wanted, output=output, errors=errors, timeout_s=timeout_s)
        return subprocess.CompletedProcess([str(script)], ended.status, output.read_text(), errors.read_text())


def read(folder: Path) -> Chunk:
    """Everything the probes wrote into FOLDER/run."""
    reader = RunReader(folder / "run")
    chunk = reader.read(max_rows=1_000_000)
    assert reader.problems == (), reader.problems
    assert reader.read().empty
    errors = events(chunk, "probe_error")
    assert errors == [], errors
    return chunk


def events(chunk: Chunk, kind: str) -> list[dict[str, Any]]:
    return [dict(event) for event in chunk.events if event["kind"] == kind]


def column(chunk: Chunk, name: str) -> np.ndarray[Any, Any]:
    values: np.ndarray[Any, Any] = chunk.steps[name]
    return values


def line_of(source: str, text: str) -> int:
    """Line number of the first line of `source` that contains `text`."""
    return next(number for number, line in enumerate(source.splitlines(), 1) if text in line)
