"""`forgemon attach`: watches a process that is already running, or opens a run that is being recorded."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from forgemon.commands.options import budget_option, run_dir_option
from forgemon.errors import UserError

if TYPE_CHECKING:
    from forgemon.inject import PendingAttachment


@click.command(short_help="Attach to a running process, or open a live run.")
@click.argument("target", required=False, metavar="[PID or RUN]")
@click.option("--headless", is_flag=True, help="Record only, without the dashboard.")
@run_dir_option
@budget_option
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0.1),
    default=60.0,
    show_default=True,
    help="Seconds to wait until the main thread of the process is back in Python.",
)
def command(target: str | None, headless: bool, run_dir: Path | None, budget: float | None, timeout_s: float) -> None:
    """Watch a PyTorch training process from now on, without a change to its code and without a restart.

    PID is a running process; one that is watched already is opened. RUN is the name or folder of a run that is being recorded.
    Without either, choose from the training processes and live runs of this machine. Leaving the dashboard leaves the recording
    going on; `forgemon detach PID` ends it.
    """
    if target is None:
        from forgemon.commands.choose import choose

        target = choose()
        if target is None:
            return
    if not headless and not _has_terminal():
        raise UserError(
            f"the dashboard needs a terminal. To record only: forgemon attach {target} --headless; then see: forgemon check RUN"
        )
    if target.isdecimal():
        _attach(int(target), headless, run_dir, budget, timeout_s)
    else:
        from forgemon.places import resolve_run

        run = resolve_run(target)
        _open(run, _recorded_pid(run), headless)


def _recorded_pid(run: Path) -> int | None:
    """The process that `run` says it is of; whether it still is, and is of this host, shows in what it has open."""
    from forgemon.run_directory import read_info

    try:
        pid = read_info(run).get("pid")
    except (OSError, ValueError):
        return None
    return pid if isinstance(pid, int) else None


def _has_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _attach(pid: int, headless: bool, run_dir: Path | None, budget: float | None, timeout_s: float) -> None:
    from forgemon.inject import AlreadyWatched, begin_attach

    try:
        pending = begin_attach(pid, run_dir.absolute() if run_dir else None, timeout_s=timeout_s, budget=budget, tell=_tell)
    except AlreadyWatched as watched:
        _start_sidecar(Path(watched.run), pid)  # the one it had may have been killed; where it lives, the new one leaves
        _open(Path(watched.run), pid, headless)
        return
    if not headless:
        import forgemon.tui.app  # noqa: F401  # takes a while, which the target needs to answer anyway
    _await_answer(pending, timeout_s)
    _open(pending.run, pid, headless)


def _await_answer(pending: PendingAttachment, timeout_s: float) -> None:
    """Wait for the probe, and start the sidecar for it: also for one that will only come to life later."""
    from forgemon.inject import NotYetAttached

    try:
        pending.wait(timeout_s, _tell)
    except KeyboardInterrupt:
        _tell(f"given up; PID {pending.pid} will not be watched")
        raise
    except NotYetAttached:
        _start_sidecar(pending.run, pending.pid)
        raise
    _start_sidecar(pending.run, pending.pid)


def _start_sidecar(run: Path, pid: int) -> None:
    from forgemon import sidecar

    try:
        sidecar.start(run, pid)
    except OSError as error:
        _tell(f"no machine figures and no word of how the run ends: the sidecar cannot be started ({error.strerror})")


def _open(run: Path, pid: int | None, headless: bool) -> None:
    if not headless:
        from forgemon.tui.app import run_dashboard

        run_dashboard(run, live=True)
    click.echo(_where_it_stands(run, pid))


def _where_it_stands(run: Path, pid: int | None) -> str:
    """What to tell someone who leaves: whether it goes on, where it is recorded, and what can be done next."""
    from forgemon.inject import procfs

    try:
        watched = pid is not None and any(Path(opened.run) == run for opened in procfs.open_runs(pid))
    except OSError:
        watched = False
    if not watched:
        return f"Recorded in {run}. See it again: forgemon replay {run}"
    return f"PID {pid} is being recorded in {run}. Look: forgemon attach {pid}. Stop: forgemon detach {pid}"


def _tell(message: str) -> None:
    click.echo(f"forgemon: {message}", err=True)
