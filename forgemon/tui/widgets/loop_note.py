"""A few sentences on the run as a whole."""

from __future__ import annotations

from textual.geometry import Size
from textual.strip import Strip

from forgemon.tui import text
from forgemon.tui.frame import Frame
from forgemon.tui.ink import Ink
from forgemon.tui.panel import Panel
from forgemon.tui.strips import strip


def lines(frame: Frame, width: int, height: int, ink: Ink) -> list[Strip]:
    return [strip([(line, ink.text)], width) for line in text.wrap(text.plain(frame.report.loop_note), width, height)]


class LoopNote(Panel):
    BORDER_TITLE = "the run as a whole"

    def basis(self, frame: Frame) -> object:
        return frame.report.loop_note

    def paint(self, frame: Frame, width: int, height: int, ink: Ink) -> list[Strip]:
        return lines(frame, width, height, ink)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(text.wrap(text.plain(self.frame.report.loop_note), width)) if self.frame else 1
