"""Where runs live: the folder of all runs, a new run's directory, and which run a person means."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import platformdirs

from forgemon.errors import UserError

FRESH_S = 600.0
"""How long a new run directory may stand empty before it counts as a foreign one: its process may still be importing torch."""

_RUN_NAME = re.compile(r".+-\d{8}-\d{6}-\d+(-\d+)?")
_RANK = re.compile(r"rank-(\d{1,6})")
_MARKS = ("run.json", "machine.npy", "machine.jsonl", "boot-error.txt")


def runs_directory() -> Path:
    """The folder new runs are made in: FORGEMON_RUNS, else `runs` in the user's state directory. It need not exist yet."""
    chosen = os.environ.get("FORGEMON_RUNS")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_state_dir("forgemon", appauthor=False)) / "runs"


def new_run_directory(script: str, pid: int, parent: Path | None = None) -> Path:
    """Make the directory of a new run of `script` in process `pid`, in `parent` or else in `runs_directory()`.

    Only the user may look into it. UserError where it cannot be made.
    """
    folder = runs_directory() if parent is None else parent
    stem = re.sub(r"[^\w.-]+", "_", Path(script).stem).strip("._-")[:80] or "run"
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
                return run.absolute()
            except FileExistsError:
                continue
    except OSError as error:
        raise UserError(
            f"cannot make a run directory in {folder}: {error.strerror or error}. "
            "Name a folder you can write to with --run-dir or the environment variable FORGEMON_RUNS"
        ) from error
    raise UserError(f"{folder} is full of runs named {name}; name another folder with --run-dir")


def ranks_of(run: Path) -> list[int]:
    """The ranks that have a directory in `run`, in order. OSError where it cannot be listed."""
    with os.scandir(run) as entries:
        matches = [_RANK.fullmatch(entry.name) for entry in entries]
    return sorted({int(match[1]) for match in matches if match})


def looks_like_run(run: Path) -> bool:
    """Whether a folder holds anything of a run, or was made for one a moment ago. OSError where it cannot be listed."""
    names = os.listdir(run)
    if not names:
        return bool(_RUN_NAME.fullmatch(run.absolute().name)) and time.time() - run.stat().st_mtime < FRESH_S
    return any(name in _MARKS or _RANK.fullmatch(name) for name in names)


def check_run_directory(run: Path) -> None:
    """UserError that says what to do next unless `run` is a run directory that can be listed."""
    try:
        if looks_like_run(run):
            return
    except FileNotFoundError:
        raise UserError(f"there is no {run}. List runs with: forgemon runs") from None
    except NotADirectoryError:
        raise UserError(f"{run} is a file, not a run directory. List runs with: forgemon runs") from None
    except OSError as error:
        raise UserError(
            f"cannot read {run}: {error.strerror or error}. Ask its owner for access, or run as the user who recorded it"
        ) from error
    raise UserError(f"{run} is no run directory of forgemon: it has no run.json. List runs with: forgemon runs")


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
