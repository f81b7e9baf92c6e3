"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

budget_option: Decorator = click.option(
    "--budget",
    type=click.FloatRange(min=0.0, max=1.0),
    envvar="FORGEMON_BUDGET",
    show_envvar=True,
    help="Share of step time that watching may cost, 0.01 unless you say otherwise. 0 looks at every step, whatever it costs.",
)

run_dir_option: Decorator = click.option(
    "--run-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder in which the run's directory is made, instead of FORGEMON_RUNS or the user's state directory.",
)
