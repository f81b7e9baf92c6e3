"""Watch this process from its own code: two lines, no other change."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from . import __version__, bootstrap


def watch(run_dir: str | os.PathLike[str] | None = None, *, budget: float = 0.01, sidecar: bool = True) -> Path:
    """Start to record this process and return its run directory; a second call returns the one that is recorded already.

    `run_dir`: the folder in which the new run directory is made; by default $FORGEMON_RUNS or the user's state directory.
    `budget`: the share of step time that may be spent in the probes. `sidecar`: also record memory, GPUs, stalls and how the run
    ended, when forgemon is installed. Raises OSError when the run directory cannot be written.
    """
    state = sys.modules.get(bootstrap.STATE)
    session = getattr(state, "session", None)
    if session is not None and session.active:
        return Path(session.folder.path)
    directory = _new_directory(run_dir)
    directory.mkdir(parents=True, exist_ok=True)
    import torch.utils.data  # noqa: F401  (late: a viewer that imports this package loads no torch)

    config: dict[str, Any] = {"run_dir": str(directory.resolve()), "mode": "api", "forgemon": __version__, "budget": budget}
    bootstrap.start(config)
    if sidecar:
        _start_sidecar(directory)
    return directory


def _new_directory(parent: str | os.PathLike[str] | None) -> Path:
    """As forgemon names run directories: SCRIPT-DATE-TIME-PID."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    folder = parent or os.environ.get("FORGEMON_RUNS") or os.path.join(state, "forgemon", "runs")
    script = Path(getattr(sys.modules.get("__main__"), "__file__", None) or "python").stem
    return Path(folder) / f"{script}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"


def _start_sidecar(directory: Path) -> None:
    """In a process of its own that leaves at once the one that starts it, so that it is no child of the program."""
    subprocess.run(
        [sys.executable, "-c", _SIDECAR, str(directory.resolve()), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )


_SIDECAR = """
import pathlib, sys
try:
    import forgemon.sidecar
except ImportError:
    sys.exit()
forgemon.sidecar.start(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
"""
