"""`forgemon detach`: takes every probe out of a process; it trains on, and its run can be replayed."""

from __future__ import annotations

import click


@click.command(short_help="Take every hook out of a process again.")
@click.argument("pid", type=click.IntRange(min=1))
def command(pid: int) -> None:
    """Take every probe out of process PID. It trains on as if it had never been watched; its recording is kept."""
    from forgemon.inject import detach_process

    for run in detach_process(pid):
        click.echo(f"PID {pid} is no longer watched. Its recording: forgemon replay {run.run}")
