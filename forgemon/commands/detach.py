"""`forgemon detach`: takes every probe out of a process; it trains on, and its run can be replayed."""

from __future__ import annotations

import click

from forgemon.errors import UserError


@click.command(short_help="Take every hook out of a process again.")
@click.argument("pid")
def command(pid: str) -> None:
    """Take every probe out of process PID. It trains on as if it had never been watched; its recording is kept."""
    from forgemon.inject import detach_process

    if not pid.isdecimal():
        raise UserError(f"{pid} is no PID. The processes that are watched are listed by: forgemon attach")
    for run in detach_process(int(pid)):
        click.echo(f"PID {pid} is no longer watched. Its recording: forgemon replay {run.run}")
