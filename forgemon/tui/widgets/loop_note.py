"""The run as a whole: the best checkpoint, what the curves imply, what failed first, and whether it was stable."""

from __future__ import annotations

from textual.geometry import Size
from textual.strip import Strip

from forgemon.findings import Answer, NoteAnswer
from forgemon.tui import text
from forgemon.tui.frame import Frame
from forgemon.tui.ink import GLYPHS, Ink
from forgemon.tui.panel import Panel
from forgemon.tui.strips import Part, strip

LABEL = 17
NARROWEST = 60
"""Below this width the labels would leave no room; the texts say the same alone."""


def lines(frame: Frame, width: int, height: int, ink: Ink) -> list[Strip]:
    """Each answer beside its label, or all in one paragraph where that does not fit."""
    rows = [row for answer in frame.report.note for row in _rows(answer, width, ink)] if width >= NARROWEST else []
    if not rows or len(rows) > height:
        return [strip([(line, ink.text)], width) for line in text.wrap(text.plain(frame.report.loop_note), width, height)]
    return [strip(row, width) for row in rows]


def _rows(answer: NoteAnswer, width: int, ink: Ink) -> list[list[Part]]:
    label = text.fit(answer.label, LABEL)
    wrapped = text.wrap(text.plain(answer.text), width - LABEL)
    parts: list[list[Part]] = [
        [(label if i == 0 else " " * LABEL, ink.muted), (row, ink.text)] for i, row in enumerate(wrapped)
    ]
    known = _known(answer)
    if known is not None and parts:
        parts[0][0] = (text.fit(f"{GLYPHS[known]} {answer.label}", LABEL), ink.answer(known))
    return parts


def _known(answer: NoteAnswer) -> Answer | None:
    given = answer.facts.get("answer")
    return "yes" if given == "yes" else "no" if given == "no" else "not visible" if given == "not visible" else None


class LoopNote(Panel):
    BORDER_TITLE = "the run as a whole"

    def basis(self, frame: Frame) -> object:
        return frame.report.note, frame.report.loop_note

    def paint(self, frame: Frame, width: int, height: int, ink: Ink) -> list[Strip]:
        return lines(frame, width, height, ink)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As high as the labelled answers are; the container cuts what does not fit."""
        if self.frame is None:
            return 1
        if width < NARROWEST or not self.frame.report.note:
            return len(text.wrap(text.plain(self.frame.report.loop_note), width))
        return sum(len(text.wrap(text.plain(answer.text), width - LABEL)) for answer in self.frame.report.note)
