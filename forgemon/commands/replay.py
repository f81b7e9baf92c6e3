"""`forgemon replay`: a recorded run with a timeline."""

from __future__ import annotations

import click


@click.command()
@click.argument("run")
@click.option("--at", "at_step", type=click.IntRange(min=0), metavar="STEP", help="Open at this step instead of the first.")
def command(run: str, at_step: int | None) -> None:
    """Open a recorded run with a timeline.

    RUN is a run directory, or the name of a run as `forgemon runs` lists it. Every panel shows the state as of the step the
    timeline stands at: space plays, the arrow keys step, n goes to the next finding, End to the end.
    """
    from forgemon.places import resolve_run
    from forgemon.tui.app import run_dashboard

    run_dashboard(resolve_run(run), live=False, at_step=at_step)
