"""The base of every widget that draws a frame: paints its lines when they are asked for, and again when something changed."""

from __future__ import annotations

from textual.geometry import Size
from textual.markup import escape
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from forgemon.tui.frame import Frame
from forgemon.tui.ink import Ink, ink_of


class Panel(Widget):
    """Subclasses say what they draw in `paint`. Hidden panels are not painted at all."""

    frame: reactive[Frame | None] = reactive(None, init=False, repaint=False)

    _basis: object = None
    _painted: list[Strip] | None = None
    _painted_size = Size(0, 0)
    _painted_ink: Ink | None = None

    def paint(self, frame: Frame, width: int, height: int, ink: Ink) -> list[Strip]:
        """At most `height` strips of `width` cells."""
        raise NotImplementedError

    def note(self, frame: Frame) -> str:
        """A few words for the lower edge of the panel's border."""
        return ""

    def basis(self, frame: Frame) -> object:
        """What of the frame the panel shows: the same again needs no painting."""
        return frame

    def watch_frame(self) -> None:
        if self.frame is None:
            return
        basis = self.basis(self.frame)
        if basis != self._basis:
            self._basis = basis
            self.note_and_repaint()

    def note_and_repaint(self) -> None:
        note = escape(self.note(self.frame)) if self.frame is not None else ""
        if note != self.border_subtitle:
            self.border_subtitle = note
        self.repaint()

    def repaint(self) -> None:
        self._painted = None
        self.refresh()

    @property
    def ink(self) -> Ink:
        return ink_of(self.app.theme_variables, self.app.no_color)

    def render_line(self, y: int) -> Strip:
        size, ink = self.size, self.ink
        if self._painted is None or self._painted_size != size or self._painted_ink is not ink:
            self._painted = self.draw(size, ink)
            self._painted_size, self._painted_ink = size, ink
        base = self.visual_style.rich_style
        if y < len(self._painted):
            return self._painted[y].adjust_cell_length(size.width).apply_style(base)
        return Strip.blank(size.width, base)

    def draw(self, size: Size, ink: Ink) -> list[Strip]:
        """What stands there now; nothing before the first frame."""
        if self.frame is None or size.width < 1 or size.height < 1:
            return []
        return self.paint(self.frame, size.width, size.height, ink)


class ScrolledPanel(Panel, can_focus=True):
    """A panel with more rows than it can show. `top` is the first one shown; `selected` the one marked, if rows are chosen."""

    top = 0
    row_height = 1

    def rows(self) -> int:
        """How many rows there are."""
        raise NotImplementedError

    def page(self) -> int:
        """How many rows fit."""
        return max(self.size.height, 1)

    def scroll_rows(self, by: int) -> None:
        top = max(min(self.top + by, self.rows() - self.page()), 0)
        if top != self.top:
            self.top = top
            self.note_and_repaint()

    def on_mouse_scroll_down(self) -> None:
        self.scroll_rows(3)

    def on_mouse_scroll_up(self) -> None:
        self.scroll_rows(-3)
