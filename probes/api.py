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

    `run_dir`: where to record; by default a new folder in $FORGEMON_RUNS or the user's state directory. `budget`: the share of step time
    that may be spent in the probes. `sidecar`: also record memory, GPUs, stalls and how the run ended, when forgemon is
    installed. Raises OSError when the run directory cannot be written.
    """
    state = sys.modules.get(bootstrap.STATE)
    session = getattr(state, "session", None)
    if session is not None and session.active:
        return Path(session.run_directory)
    directory = Path(run_dir) if run_dir is not None else _new_directory()
    directory.mkdir(parents=True, exist_ok=True)
    import torch.utils.data  # noqa: F401  (late: a viewer that imports this package loads no torch)

    config: dict[str, Any] = {"run_dir": str(directory.resolve()), "mode": "api", "forgemon": __version__, "budget": budget}
    bootstrap.start(config)
    if sidecar:
        _start_sidecar(directory)
    return directory


def _new_directory() -> Path:
    """As forgemon names run directories: SCRIPT-DATE-TIME-PID."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    parent = Path(os.environ.get("FORGEMON_RUNS") or os.path.join(state, "forgemon", "runs"))
    script = Path(getattr(sys.modules.get("__main__"), "__file__", None) or "python").stem
    return parent / f"{script}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"


def _start_sidecar(directory: Path) -> None:
    """In a process of its own that leaves at once the one that starts it, so that it is no child of the program."""
    code = "import sys\ntry:\n import forgemon.sidecar as s\nexcept ImportError:\n sys.exit()\ns.start(sys.argv[1], int(sys.argv[2]))"
    subprocess.run(
        [sys.executable, "-c", code, str(directory.resolve()), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
