"""`forgemon check`: diagnosis without a screen."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from forgemon.commands.options import run_dir_option
from forgemon.findings import Level

if TYPE_CHECKING:
    from forgemon.report import Checked


@click.command(short_help="Diagnose a run without a screen.")
@click.argument("arguments", nargs=-1, required=True, type=click.UNPROCESSED, metavar="LOG | --steps N -- COMMAND…")
@click.option("--json", "json_", is_flag=True, help="Print one JSON object instead of text.")
@click.option(
    "--follow", is_flag=True, help="Watch a live run: exit as soon as a finding of that level stands or the run ends."
)
@click.option(
    "--fail-on",
    type=click.Choice(["alarm", "watch"]),
    default="alarm",
    show_default=True,
    help="The level from which on the exit code is 1.",
)
@click.option(
    "--steps", type=click.IntRange(min=1), help="Run COMMAND, stop it after so many optimizer steps, and judge those."
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0.1),
    default=600.0,
    show_default=True,
    help="With --steps: seconds without a new step after which COMMAND is stopped all the same.",
)
@run_dir_option
def command(
    arguments: tuple[str, ...],
    json_: bool,
    follow: bool,
    fail_on: str,
    steps: int | None,
    timeout_s: float,
    run_dir: Path | None,
) -> int:
    """Say what is wrong with a run, since which step, on which line, and how to mend it.

    LOG is a run directory, or the name of a recorded run (`forgemon runs` lists them).

    Exit code 0: nothing at that level. 1: findings at it. 2: the log cannot be read.

    \b
    A smoke test before the long run: 20 steps, each of them observed, then the
    command is stopped (SIGINT, then SIGTERM, then SIGKILL, each with patience).
    What it writes meanwhile, such as checkpoints, is its own. Exit code 1 also
    where it fails by itself or stands still, 2 where it never steps.
        forgemon check --steps 20 -- python train.py

    \b
    In a job script, to end a doomed run as soon as an alarm stands:
        forgemon run --headless --run-dir runs -- python train.py &
        sleep 10
        forgemon check --follow runs/*-$!
        [ $? = 1 ] && kill $!
        wait $!
    """
    from forgemon.check import reached

    level: Level = "watch" if fail_on == "watch" else "alarm"
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    if steps is not None:
        if follow:
            raise click.UsageError("--follow is for a run that goes on elsewhere; --steps runs the command itself")
        checked = _trial(arguments, steps, timeout_s, run_dir, keep_stdout=not json_)
    else:
        checked = _recorded(arguments, level, follow, None if json_ else colour)
    _print(checked, json_, colour)
    failed = checked.trial is not None and checked.trial.failed
    return 1 if failed or reached(checked.report.findings, level) else 0


def _recorded(arguments: tuple[str, ...], level: Level, follow: bool, colour: bool | None) -> Checked:
    """`colour` None: findings are not told as they come."""
    from forgemon.check import RunCheck
    from forgemon.check import follow as follow_run
    from forgemon.places import resolve_run
    from forgemon.report import finding_text

    if len(arguments) > 1:
        raise click.UsageError("name one run. To run a command: forgemon check --steps 20 -- COMMAND")
    check = RunCheck(resolve_run(arguments[0]))
    if follow:
        tell = (lambda finding: None) if colour is None else (lambda f: click.echo(finding_text(f, bool(colour)) + "\n"))
        return follow_run(check, level, tell)
    check.read()
    return check.checked()


def _trial(command: tuple[str, ...], steps: int, timeout_s: float, run_dir: Path | None, keep_stdout: bool) -> Checked:
    from forgemon.trial import TrialOptions, run_trial

    return run_trial(command, TrialOptions(steps, timeout_s, run_dir, keep_stdout))


def _print(checked: Checked, json_: bool, colour: bool) -> None:
    import json

    from forgemon.report import as_json, as_text

    if json_:
        click.echo(json.dumps(as_json(checked), ensure_ascii=False, indent=1))
        return
    if checked.trial is not None:
        click.echo()
    click.echo(as_text(checked, colour))
