"""The dashboard, live and in replay: one app that a feed thread hands frames to."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from textual.app import App, SystemCommand
from textual.screen import Screen

from forgemon.errors import UserError
from forgemon.tui.actions import Actions
from forgemon.tui.feed import Feed
from forgemon.tui.frame import Frame
from forgemon.tui.keys import KEYS, bindings
from forgemon.tui.messages import FeedFailed, FrameBuilt
from forgemon.tui.screens.main import MainScreen
from forgemon.tui.theme import FORGE, more_variables


class Dashboard(Actions, App[None]):
    """Shows the run in directory `run`. Live follows its end, otherwise it opens as a recording, at `at_step` or the start."""

    TITLE = "forgemon"
    CSS_PATH = "dashboard.tcss"
    BINDINGS = bindings()
    ENABLE_COMMAND_PALETTE = True

    def __init__(self, run: Path, *, live: bool, output: Path | None = None, at_step: int | None = None) -> None:
        super().__init__()
        self.feed = Feed(
            run,
            live=live,
            output=output,
            at_step=at_step,
            post=lambda frame: self.post_message(FrameBuilt(frame)),
            failed=lambda error: self.post_message(FeedFailed(error)),
        )
        self.main = MainScreen(has_output=output is not None)
        self.error: BaseException | None = None
        self.register_theme(FORGE)
        self.theme = FORGE.name

    @property
    def frame(self) -> Frame | None:
        """The picture that is shown."""
        return self.main.frame

    def get_default_screen(self) -> Screen[None]:
        return self.main

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return more_variables(self.current_theme)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        for key in KEYS:
            if key.id not in ("palette", "quit"):
                yield SystemCommand(key.name, f"{key.tooltip} ({key.label})", partial(self.run_key, key.action))
        yield from super().get_system_commands(screen)

    def on_mount(self) -> None:
        self.feed.start()

    def on_unmount(self) -> None:
        self.feed.stop()

    def on_frame_built(self, message: FrameBuilt) -> None:
        self.main.frame = message.frame

    def on_feed_failed(self, message: FeedFailed) -> None:
        self.error = message.error
        self.exit()


def run_dashboard(
    run: Path, *, live: bool, output: Path | None = None, on_quit_message: str = "", at_step: int | None = None
) -> None:
    """Show `run` until the user quits, then print `on_quit_message`. UserError without a terminal to draw on."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError(f"the dashboard needs a terminal; without one use: forgemon check {run}")
    if os.environ.get("TERM", "") in ("dumb", "unknown"):
        raise UserError("this terminal cannot draw (TERM=dumb); set TERM to what it really is, or use: forgemon check")
    app = Dashboard(run, live=live, output=output, at_step=at_step)
    app.run()
    if app.error is not None:
        raise app.error
    if on_quit_message:
        print(on_quit_message)
