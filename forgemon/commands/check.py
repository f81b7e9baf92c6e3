"""`forgemon check`: diagnosis without a screen."""

from __future__ import annotations

import os
import sys

import click

from forgemon.findings import Level


@click.command()
@click.argument("log")
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
def command(log: str, json_: bool, follow: bool, fail_on: str) -> int:
    """Say what is wrong with a run, since which step, on which line, and how to mend it.

    LOG is a run directory, or the name of a recorded run (`forgemon runs` lists them).

    Exit code 0: nothing at that level. 1: findings at it. 2: the log cannot be read.
    """
    import json

    from forgemon.check import RunCheck, reached
    from forgemon.check import follow as follow_run
    from forgemon.places import resolve_run
    from forgemon.report import as_json, as_text, finding_text

    level: Level = "watch" if fail_on == "watch" else "alarm"
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    check = RunCheck(resolve_run(log))
    if follow:
        tell = (lambda finding: None) if json_ else (lambda finding: click.echo(finding_text(finding, colour) + "\n"))
        checked = follow_run(check, level, tell)
    else:
        check.read()
        checked = check.checked()
    click.echo(json.dumps(as_json(checked), ensure_ascii=False, indent=1) if json_ else as_text(checked, colour))
    return 1 if reached(checked.report.findings, level) else 0
