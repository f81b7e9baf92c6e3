"""`forgemon run`: start any command and watch it from its first step."""

from __future__ import annotations

from pathlib import Path

import click

from forgemon.commands.options import budget_option, run_dir_option


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--headless", is_flag=True, help="Record only: the command runs as if forgemon were not there.")
@run_dir_option
@budget_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def command(headless: bool, run_dir: Path | None, budget: float | None, command: tuple[str, ...]) -> None:
    """Start COMMAND; every Python process under it that steps an optimizer is watched from its first step.

    Works for anything that starts Python: python train.py, torchrun, accelerate, a shell script. Its exit code is COMMAND's.
    """
    if headless:
        from forgemon.launch import run_headless

        run_headless(command, run_dir, budget)
    from forgemon.foreground import run_with_dashboard

    run_with_dashboard(command, run_dir, budget)
