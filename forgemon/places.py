"""Where runs live: the folder of all runs, a new run's directory, and which run a person means."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import platformdirs

from forgemon.errors import UserError
from forgemon.run_directory import check_run_directory
from forgemon.run_list import RunSummary, is_live, list_runs

TRIAL_BYTES = 64 << 10
"Room that a new run must find; a minute of a small run takes about as much."

__all__ = ["RunSummary", "is_live", "list_runs", "new_run_directory", "resolve_run", "runs_directory"]


def runs_directory() -> Path:
    """The folder new runs are made in: FORGEMON_RUNS, else `runs` in the user's state directory. It need not exist yet."""
    chosen = os.environ.get("FORGEMON_RUNS")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_state_dir("forgemon", appauthor=False)) / "runs"


def new_run_directory(script: str, pid: int, parent: Path | None = None) -> Path:
    """Make the directory of a new run of `script`, or of `-m module`, in process `pid`, in `parent` or else in `runs_directory()`.

    Only the user may look into it. UserError where it cannot be made.
    """
    folder = runs_directory() if parent is None else parent
    program = script[3:] if script.startswith("-m ") else Path(script).stem
    stem = re.sub(r"[^\w.-]+", "_", program).strip("._-")[:80] or "run"
    name = f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}-{pid}"
    try:
        # Path.mkdir(parents=True) gives missing parents the default mode, so each gets its own call.
        for missing in reversed([folder, *folder.parents]):
            if not missing.exists():
                missing.mkdir(mode=0o700, exist_ok=True)
        for attempt in range(1, 1000):
            run = folder / (name if attempt == 1 else f"{name}-{attempt}")
            try:
                run.mkdir(mode=0o700)
            except FileExistsError:
                continue
            _try_disk(run)
            return run.absolute()
    except OSError as error:
        raise UserError(
            f"cannot make a run directory in {folder}: {error.strerror or error}. "
            "Name a folder you can write to with --run-dir or the environment variable FORGEMON_RUNS"
        ) from error
    raise UserError(f"{folder} is full of runs named {name}; name another folder with --run-dir")


def _try_disk(run: Path) -> None:
    """On a full disk a directory can still be made, but nothing be recorded in it. OSError, and `run` is gone again."""
    trial = run / "trial"
    try:
        try:
            trial.write_bytes(b"\1" * TRIAL_BYTES)
        finally:
            trial.unlink(missing_ok=True)
    except OSError:
        run.rmdir()
        raise


def resolve_run(text: str) -> Path:
    """The run a person means: a path of its directory or run.json, its name in `runs_directory()`, or how its name begins."""
    path = Path(text).expanduser()
    if path.name == "run.json":
        path = path.parent
    named = runs_directory() / text
    if not os.path.lexists(path) and os.sep not in text and text not in ("", ".", ".."):
        path = named if os.path.lexists(named) else _named_like(text)
    check_run_directory(path)
    return path.absolute()


def _named_like(text: str) -> Path:
    folder = runs_directory()
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        names = []
    matching = [name for name in names if name.startswith(text)]
    if len(matching) == 1:
        return folder / matching[0]
    if matching:
        shown = ", ".join(matching[:5]) + (" …" if len(matching) > 5 else "")
        raise UserError(f"{text} could be {len(matching)} runs: {shown}. Name one of them in full")
    raise UserError(f"there is no run {text}, neither here nor in {folder}. List runs with: forgemon runs")
