"""The pages, by number; a click opens one."""

from __future__ import annotations

from textual.geometry import Size
from textual.reactive import reactive
from textual.strip import Strip

from forgemon.tui.ink import Ink
from forgemon.tui.pages import PAGES
from forgemon.tui.panel import Panel
from forgemon.tui.strips import Part, meta, strip

SHORT = {"gradients": "grads", "evaluations": "evals"}


def lines(page: str, pages: tuple[str, ...], width: int, ink: Ink) -> list[Strip]:
    """`1 overview  2 gradients …`, the open one marked; closer together where they would not fit."""
    names = {p: p for p in pages}
    gap = "  "
    if sum(len(n) + 5 for n in names.values()) > width:
        names = {p: SHORT.get(p, p) for p in pages}
    if sum(len(n) + 5 for n in names.values()) > width:
        gap = ""
    parts: list[Part] = [(" " if gap else "", ink.text)]
    for number, (name, label) in enumerate(names.items(), 1):
        style = ink.selected + ink.strong if name == page else ink.muted
        parts.append((f" {number} {label} ", meta(style, f"app.page('{name}')")))
        parts.append((gap[1:], ink.text))
    return [strip(parts, width)]


class Tabs(Panel):
    page: reactive[str] = reactive(PAGES[0])
    pages: tuple[str, ...] = PAGES

    def watch_page(self) -> None:
        self.repaint()

    def draw(self, size: Size, ink: Ink) -> list[Strip]:
        return lines(self.page, self.pages, size.width, ink)
