"""The pages, by number; a click opens one."""

from __future__ import annotations

from textual.geometry import Size
from textual.reactive import reactive
from textual.strip import Strip

from forgemon.tui.ink import Ink
from forgemon.tui.pages import PAGES
from forgemon.tui.panel import Panel
from forgemon.tui.strips import Part, meta, strip


def lines(page: str, pages: tuple[str, ...], width: int, ink: Ink) -> list[Strip]:
    """`1 overview  2 gradients …`, the open one marked."""
    short = sum(len(p) + 5 for p in pages) > width
    parts: list[Part] = [(" ", ink.text)]
    for number, name in enumerate(pages, 1):
        label = name[:6] if short and name != page else name
        style = ink.selected + ink.strong if name == page else ink.muted
        parts.append((f" {number} {label} ", meta(style, f"app.page('{name}')")))
        parts.append((" ", ink.text))
    return [strip(parts, width)]


class Tabs(Panel):
    page: reactive[str] = reactive(PAGES[0])
    pages: tuple[str, ...] = PAGES

    def watch_page(self) -> None:
        self.repaint()

    def draw(self, size: Size, ink: Ink) -> list[Strip]:
        return lines(self.page, self.pages, size.width, ink)
