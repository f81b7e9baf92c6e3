"""What `forgemon attach` without an argument offers: the training processes and the live runs of this machine."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from forgemon.errors import UserError
from forgemon.inject.processes import TrainingProcess, training_processes
from forgemon.places import list_runs, runs_directory
from forgemon.run_list import GOING_ON

HEADINGS = ("pid", "user", "program", "age", "cpu time", "gpu memory", "recorded in")


@dataclass(frozen=True)
class Choice:
    """One line to choose from."""

    target: str
    "What stands for it on the command line: a PID or a run."
    cells: tuple[str, ...]
    "In the order of HEADINGS; empty where nothing is known."


def choose() -> str | None:
    """The PID or run a person picks; None when there is nobody to ask, after printing the list for a program to read."""
    choices = offer(training_processes(), _live_runs())
    if not choices:
        raise UserError(
            "no training process and no live run found here. Start one with: forgemon demo, or: forgemon run -- COMMAND"
        )
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        for choice in choices:
            click.echo("\t".join(choice.cells))
        return None
    for line in table(choices):
        click.echo(line)
    return ask(choices)


def ask(choices: Sequence[Choice]) -> str:
    """A number of the table, or what it stands for: the PID stands beside it and is as easily typed."""
    targets = [choice.target for choice in choices]
    while True:
        answer = str(click.prompt("Attach to", default="1")).strip()
        if answer in targets:
            return answer
        if answer.isdecimal() and 1 <= int(answer) <= len(targets):
            return targets[int(answer) - 1]
        click.echo(f"{answer} is not in the list. Type a number from its first column, or Ctrl-C to leave", err=True)


def offer(processes: Sequence[TrainingProcess], live_runs: Sequence[Path]) -> list[Choice]:
    """Processes first; of the live runs those that none of them is recorded to: of another machine, or another user's."""
    choices = [Choice(str(process.pid), _cells(process)) for process in processes]
    recorded = {process.run for process in processes}
    others = [run for run in live_runs if str(run) not in recorded]
    return choices + [Choice(str(run), ("", "", run.name, "", "", "", printable(str(run)))) for run in others]


def table(choices: Sequence[Choice]) -> list[str]:
    """Numbered lines under a heading, without the columns in which nothing stands."""
    rows = [("", *HEADINGS), *((str(i), *choice.cells) for i, choice in enumerate(choices, start=1))]
    used = [i for i in range(len(rows[0])) if any(row[i] for row in rows[1:])]
    width = {i: max(len(row[i]) for row in rows) for i in used}
    return ["  ".join(row[i].ljust(width[i]) for i in used).rstrip() for row in rows]


def duration(seconds: float) -> str:
    """Two units at most: 3 d 4 h, 5 h 12 min, 40 s."""
    whole = int(seconds)
    for size, unit, smaller, small_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {small_unit}"
    return f"{whole} s"


def printable(text: str) -> str:
    """Control characters as their escapes: a process may call itself anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode("ascii") for c in text)


def _cells(process: TrainingProcess) -> tuple[str, ...]:
    gpu = "" if process.gpu_bytes is None or math.isnan(process.gpu_bytes) else f"{process.gpu_bytes / 2**30:.1f} GiB"
    facts = (str(process.pid), process.user, process.program, duration(process.age_s), duration(process.cpu_s), gpu)
    return tuple(printable(fact) for fact in (*facts, process.run or ""))


def _live_runs() -> list[Path]:
    folder = runs_directory()
    return [run.path for run in list_runs(folder) if run.state in GOING_ON] if folder.is_dir() else []
