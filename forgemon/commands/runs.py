"""`forgemon runs`: the recorded runs, newest first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forgemon.run_list import RunSummary


@click.command(short_help="List recorded runs.")
@click.argument("directory", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def command(directory: Path | None, as_json: bool) -> None:
    """List the runs in DIRECTORY, or in the place new runs are made in (FORGEMON_RUNS), newest first.

    In a terminal a table, through a pipe tab-separated lines: name, state, steps, loss, created, user, host, script.
    """
    import json
    import sys

    from forgemon.errors import UserError
    from forgemon.places import list_runs, runs_directory

    folder = runs_directory() if directory is None else directory
    if directory is not None and not folder.is_dir():
        raise UserError(f"there is no folder {folder}. List the runs in the usual place with: forgemon runs")
    runs = list_runs(folder)
    if not runs:
        print(f"forgemon: no runs in {folder}. Record one with: forgemon demo", file=sys.stderr)
    if as_json:
        print(json.dumps([as_object(run) for run in runs], indent=1))
    elif sys.stdout.isatty() and runs:
        print_table(runs)
    else:
        for run in runs:
            print("\t".join(cells(run)))


def as_object(run: RunSummary) -> dict[str, Any]:
    """For --json: an infinite loss is "inf" or "-inf"; null where it is not a number or was not seen."""
    import math
    from dataclasses import asdict

    from probes.record import encode_json

    loss = None if math.isnan(run.last_loss) else run.last_loss
    fields: dict[str, Any] = encode_json({**asdict(run), "path": str(run.path), "last_loss": loss})
    return fields


def cells(run: RunSummary) -> list[str]:
    """What a line says of a run; nothing in it can move the cursor or break the line."""
    import math
    import time

    loss = "" if math.isnan(run.last_loss) else f"{run.last_loss:.4g}"
    created = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(min(max(run.created, 0.0), 4e9)))
    parts = [run.name, run.state, str(run.steps), loss, created, run.user, run.host, run.script]
    return [printable(part) for part in parts]


def printable(text: str) -> str:
    """Control characters as their escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode("ascii") for c in text)


COLUMNS = ("run", "state", "steps", "loss", "created", "user", "host", "script")
WIDTH_FOR_ALL = 110
"""Terminals narrower than this show the first four columns alone; the name tells when a run began."""


def print_table(runs: Sequence[RunSummary]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    columns = COLUMNS if console.width >= WIDTH_FOR_ALL else COLUMNS[:4]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, justify="right" if name in ("steps", "loss") else "left", no_wrap=name != "run", overflow="fold")
    for run in runs:
        row = cells(run)
        row[-1] = Path(row[-1]).name
        table.add_row(*(Text(cell) for cell in row[: len(columns)]))
    console.print(table)
