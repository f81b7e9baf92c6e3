"""The last lines that the watched command printed."""

from __future__ import annotations

from textual.strip import Strip

from forgemon.tui.frame import Frame
from forgemon.tui.ink import Ink
from forgemon.tui.panel import ScrolledPanel
from forgemon.tui.strips import centred, strip


def lines(frame: Frame, width: int, height: int, ink: Ink, back: int = 0) -> list[Strip]:
    """The newest lines at the bottom; `back` lines before them when scrolled up."""
    if not frame.output:
        return centred([("The command has printed nothing yet", ink.muted)], width, height)
    end = len(frame.output) - back
    return [strip([(line, ink.text)], width) for line in frame.output[max(end - height, 0) : end]]


class Output(ScrolledPanel):
    BORDER_TITLE = "output of the command"

    def basis(self, frame: Frame) -> object:
        return frame.output

    def paint(self, frame: Frame, width: int, height: int, ink: Ink) -> list[Strip]:
        return lines(frame, width, height, ink, self.top)

    def rows(self) -> int:
        return len(self.frame.output) if self.frame else 0

    def scroll_rows(self, by: int) -> None:
        super().scroll_rows(-by)

    def note(self, frame: Frame) -> str:
        return f"{self.top} lines back" if self.top else ""
