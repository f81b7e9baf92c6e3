"""`forgemon demo`: starts a demo loop as a plain process, attaches to it by PID and opens the dashboard."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import click

from forgemon.commands.options import budget_option
from forgemon.errors import UserError

DEFAULT = "missing_zero_grad"


@click.command(short_help="Start a demo loop as a plain process, attach to it by PID, open the dashboard.")
@click.argument("name", default=DEFAULT)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- OPTIONS OF THE DEMO...]")
@click.option("--list", "show_list", is_flag=True, help="Print the demos by group, one a line.")
@click.option("--headless", is_flag=True, help="Record the demo to its end, without the dashboard.")
@budget_option
def command(name: str, arguments: tuple[str, ...], show_list: bool, headless: bool, budget: float | None) -> None:
    """Start the demo loop NAME (missing-zero-grad unless you choose another) and watch it as any other process.

    There is one for each symptom a machine can show, called as the symptom is, and healthy ones that look like a fault. The
    demo is plain PyTorch and does not know of forgemon. Leaving the dashboard ends it; the recorded run stays. A demo's own
    options come after two dashes: forgemon demo overfits -- --epochs 100
    """
    if show_list:
        click.echo("\n".join(listed()))
        return
    from forgemon.demo_process import end, started, wait_for_end
    from forgemon.demos import find_demo

    script = find_demo(name)
    check_torch()
    if not headless and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError(f"the dashboard needs a terminal; without one write: forgemon demo {name} --headless")
    with ending_on_signals(), started(script, arguments) as (process, log):
        run = attach(process.pid, log, budget, with_dashboard=not headless)
        if headless:
            click.echo(f"forgemon: {script.stem} is PID {process.pid}, recorded in {run}", err=True)
            wait_for_end(process.pid)
        else:
            from forgemon.tui.app import run_dashboard

            run_dashboard(run, live=True, output=run / "output.log")
        status = end(process, run)
    click.echo(last_word(script.stem, status, run, headless))


def listed() -> Iterator[str]:
    """The demos by group: name, the symptom where it is called otherwise, and what it is."""
    from forgemon.demos import GROUPS, demos, first_line, grouped, symptom_shown

    scripts = demos()
    width = max(map(len, scripts))
    for group, names in grouped().items():
        yield GROUPS[group]
        for name in names:
            symptom = symptom_shown(name)
            shows = f" ({symptom})" if symptom not in (None, name) else ""
            yield f"  {name:{width}}  {first_line(scripts[name])}{shows}"
        yield ""
    yield "`forgemon demo NAME` starts one, `forgemon symptoms ID` explains what it shows."


def check_torch() -> None:
    """Without importing it: that is the demo's business."""
    if importlib.util.find_spec("torch") is None:
        raise UserError(
            "the demos train with PyTorch, which is not installed here; install it with: pip install 'forgemon[torch]'"
        )


@contextlib.contextmanager
def ending_on_signals() -> Iterator[None]:
    """A hangup or a kill ends the demo with us. As SystemExit: an event loop lets only that and KeyboardInterrupt through."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def attach(pid: int, log: Path, budget: float | None, with_dashboard: bool) -> Path:
    """Attach as `forgemon attach PID` does, start the sidecar, and make the demo's output part of the run."""
    from forgemon.inject import begin_attach
    from forgemon.launch import start_sidecar

    pending = begin_attach(pid, budget=budget, tell=tell)
    if with_dashboard:
        import forgemon.tui.app  # noqa: F401  # takes a while, which the demo needs to answer anyway
    pending.wait(tell=tell)
    start_sidecar(pending.run, pid)
    log.rename(pending.run / "output.log")
    return pending.run


def tell(message: str) -> None:
    click.echo(f"forgemon: {message}", err=True)


def last_word(demo: str, status: int | None, run: Path, headless: bool) -> str:
    how = "was ended" if status is None else "has finished" if status == 0 else f"has ended with exit code {status}"
    next_step = f"diagnose it: forgemon check {run}" if headless else f"replay it: forgemon replay {run}"
    return f"The demo {demo} {how}; {next_step}"
