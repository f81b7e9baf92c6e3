"""What the keys, clicks and palette commands do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from textual.app import App

from forgemon.findings import Finding
from forgemon.tui.feed import Feed
from forgemon.tui.pages import pages
from forgemon.tui.panel import ScrolledPanel
from forgemon.tui.screens.main import MainScreen
from forgemon.tui.widgets.findings import Findings
from forgemon.tui.widgets.gradient_table import SORTS, GradientTable
from forgemon.tui.widgets.loss_chart import LossChart
from forgemon.tui.widgets.timeline import Timeline

if TYPE_CHECKING:
    _Base = App[None]
else:
    _Base = object


class Actions(_Base):
    """Mixed into the app; each action is one key of keys.KEYS."""

    feed: Feed
    main: MainScreen

    def action_move(self, move: str, value: float = 0) -> None:
        self.feed.ask(move, value)

    def on_timeline_sought(self, message: Timeline.Sought) -> None:
        self.feed.ask("to_step", message.step)

    def action_go_to_step(self) -> None:
        from forgemon.tui.screens.prompt import Prompt

        def go(answer: str | None) -> None:
            digits = (answer or "").replace(",", "").replace("_", "").strip()
            if digits.isdigit():
                self.feed.ask("to_step", min(int(digits), 2**62))

        self.push_screen(Prompt("go to step", "a step number", integer=True), go)

    def action_page(self, name: str) -> None:
        if name in pages(self.main.has_output):
            self.main.page = name

    def action_toggle_log(self) -> None:
        self.main.query_one(LossChart).toggle_log()

    def action_next_window(self) -> None:
        self.main.query_one(LossChart).next_window()

    def action_next_sort(self) -> None:
        table = self.main.query_one(GradientTable)
        following = SORTS[(SORTS.index(table.view.sort) + 1) % len(SORTS)]
        table.look(replace(table.view, sort=following))

    def action_filter(self) -> None:
        from forgemon.tui.screens.prompt import Prompt

        table = self.main.query_one(GradientTable)
        if not table.display:
            self.main.page = "gradients"
        self.main.heatmap = False

        def look(answer: str | None) -> None:
            if answer is not None:
                table.look(replace(table.view, filter=answer.strip()))

        self.push_screen(Prompt("filter", "part of a parameter's name", table.view.filter, changed=look), look)

    def action_toggle_heatmap(self) -> None:
        if not any(self.main.query_one(name).display for name in ("#gradients", "#heatmap")):
            self.main.page = "gradients"
        self.main.heatmap = not self.main.heatmap

    def action_scroll(self, rows: int) -> None:
        panel = self._list()
        if panel is not None:
            panel.scroll_rows(rows)

    def _list(self) -> ScrolledPanel | None:
        """The list that the arrow keys belong to: the focused one, else the first on the screen."""
        focused = self.main.focused
        if isinstance(focused, ScrolledPanel) and focused.display:
            return focused
        return next((p for p in self.main.query(ScrolledPanel) if p.is_on_screen and p.region), None)

    def action_details(self) -> None:
        panel = self.main.query_one(Findings)
        finding = panel.chosen()
        if finding is not None:
            self.show_finding(finding)

    def on_findings_opened(self, message: Findings.Opened) -> None:
        self.show_finding(message.finding)

    def show_finding(self, finding: Finding) -> None:
        from forgemon.tui.screens.details import Details

        self.push_screen(Details(finding))

    def action_help(self) -> None:
        from forgemon.tui.screens.help import Help

        self.push_screen(Help())

    async def run_key(self, action: str) -> Any:
        return await self.run_action(action)
