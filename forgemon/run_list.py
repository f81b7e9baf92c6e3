"""One line about each recorded run, from its run.json and the ends of its files alone."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forgemon.chunk import Event
from forgemon.errors import UserError
from forgemon.journal import number, tail_events, text, whole
from forgemon.liveness import run_lives
from forgemon.run_directory import looks_like_run, ranks_of, read_info
from forgemon.snapshot import State
from forgemon.state import RunState
from forgemon.tables import last_row

GOING_ON: tuple[State, ...] = ("waiting", "running", "stalled")


@dataclass(frozen=True)
class RunSummary:
    """What a list of runs says of one."""

    name: str
    path: Path
    script: str
    "Absolute path of the script, empty where it is not known."
    host: str
    user: str
    created: float
    "Unix time; of the directory where run.json does not say."
    ranks: int
    steps: int
    "Number of the newest step."
    state: State
    detail: str
    last_loss: float
    "NaN where not visible."


def list_runs(directory: Path) -> list[RunSummary]:
    """The runs in a folder, the newest first; none when the folder does not exist. UserError when it cannot be read."""
    try:
        folders = [Path(entry.path) for entry in os.scandir(directory) if entry.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"cannot list the runs in {directory}: {error.strerror or error}. Name another folder") from error
    summaries = [summarise(folder) for folder in folders if _is_run(folder)]
    return sorted(summaries, key=lambda run: (-run.created, run.name))


def _is_run(folder: Path) -> bool:
    try:
        return looks_like_run(folder)
    except OSError:  # deleted meanwhile, or another user's
        return False


def is_live(run: Path) -> bool:
    """Whether a run still goes on: no word of its end, and its process lives here, or its files still change."""
    return summarise(run).state in GOING_ON


def summarise(run: Path) -> RunSummary:
    """The summary of one run directory, whatever state it is in."""
    try:
        info: Mapping[str, Any] = read_info(run)
    except (OSError, ValueError):
        info = {}
    ranks = _ranks(run)
    rank = ranks[0] if ranks else 0
    _, row = last_row(run / f"rank-{rank}" / "steps.npy")
    newest: Mapping[str, float] = {} if row is None else _numbers(row)
    events = tail_events(run / f"rank-{rank}" / "events.jsonl")
    state, detail = _state(info, run, rank, events, newest.get("time", -math.inf))
    created = number(info, "created")
    return RunSummary(
        name=run.name,
        path=run,
        script=text(info, "script"),
        host=text(info, "host"),
        user=text(info, "user"),
        created=created if math.isfinite(created) else _modified(run),
        ranks=len(ranks),
        steps=max(int(newest.get("step", 0)), *(whole(event, "step") or 0 for event in events), 0),
        state=state,
        detail=detail,
        last_loss=newest.get("loss", math.nan),
    )


def _numbers(row: Any) -> dict[str, float]:
    return {name: float(row[name][0]) for name in row.dtype.names if not row.dtype[name].shape}


def _ranks(run: Path) -> list[int]:
    try:
        return ranks_of(run)
    except OSError:
        return []


def _modified(run: Path) -> float:
    try:
        return run.stat().st_mtime
    except OSError:
        return 0.0


def _state(info: Mapping[str, Any], run: Path, rank: int, events: list[Event], newest_step: float) -> tuple[State, str]:
    known = RunState()
    times = [newest_step]
    for event in events:
        known.add(event)
        times.append(event["time"])
    for event in tail_events(run / "machine.jsonl"):
        known.add_machine(event)
        times.append(event["time"])
    state, detail, _ = known.state(newest_step, max(times))
    if state in GOING_ON and not run_lives(info, run, rank):
        return "gone", "left no word of its end"
    return state, detail
