"""The keys that matter most, in one line at the bottom; each can be clicked, and all of them are on the help screen."""

from __future__ import annotations

from textual.geometry import Size
from textual.reactive import reactive
from textual.strip import Strip

from forgemon.tui.ink import Ink
from forgemon.tui.keys import shown_keys
from forgemon.tui.pages import PAGES
from forgemon.tui.panel import Panel
from forgemon.tui.strips import joined, meta, strip


def lines(page: str, width: int, ink: Ink) -> list[Strip]:
    groups = [
        [(k.label, meta(ink.key, f"app.{k.action}")), (f" {k.name}", meta(ink.muted, f"app.{k.action}"))]
        for k in shown_keys(page)
    ]
    return [strip([(" ", ink.text), *joined(groups, ("  ", ink.text), width - 1)], width)]


class KeyBar(Panel):
    page: reactive[str] = reactive(PAGES[0])

    def watch_page(self) -> None:
        self.repaint()

    def draw(self, size: Size, ink: Ink) -> list[Strip]:
        return lines(self.page, size.width, ink)
