"""`forgemon run`: start any command and watch it from its first step."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--headless", is_flag=True, help="Record only: the command runs as if forgemon were not there.")
@click.option(
    "--run-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder in which the run's directory is made, instead of FORGEMON_RUNS or the user's state directory.",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def command(headless: bool, run_dir: Path | None, command: tuple[str, ...]) -> None:
    """Start COMMAND; every Python process under it that steps an optimizer is watched from its first step.

    Works for anything that starts Python: python train.py, torchrun, accelerate, a shell script. Its exit code is COMMAND's.
    """
    if headless:
        from forgemon.launch import run_headless

        run_headless(command, run_dir)
    from forgemon.foreground import run_with_dashboard

    run_with_dashboard(command, run_dir)
