"""What makes a folder a run directory: its marks, its ranks, its run.json."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

from forgemon.errors import UserError
from forgemon.tables import open_regular, read_fully

FRESH_S = 600.0
"""How long a new run directory may stand empty before it counts as a foreign one: its process may still be importing torch."""
MAX_INFO_BYTES = 8 << 20

_RUN_NAME = re.compile(r".+-\d{8}-\d{6}-\d+(-\d+)?")
_RANK = re.compile(r"rank-(\d{1,6})")
_MARKS = ("run.json", "machine.npy", "machine.jsonl", "boot-error.txt")


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


def read_info(run: Path) -> dict[str, Any]:
    """run.json. FileNotFoundError while there is none, OSError as the disk does, ValueError when it is no JSON object."""
    with open_regular(run / "run.json") as file:
        data = read_fully(file, MAX_INFO_BYTES)
    try:
        info = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("it is no JSON") from None
    if not isinstance(info, dict):
        raise ValueError("it is no JSON object")
    return info
