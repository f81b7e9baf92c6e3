"""Where the picture stands in the recording, with marks for what happened; a click goes there."""

from __future__ import annotations

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.message import Message
from textual.strip import Strip

from forgemon.tui import text
from forgemon.tui.frame import Frame, Mark
from forgemon.tui.ink import Ink
from forgemon.tui.panel import Panel
from forgemon.tui.strips import Part, joined, spread, width_of

EDGE = 1
"""Blank cells at both ends of the track."""
GLYPHS = {"evaluation": "┴", "checkpoint": "◆", "nonfinite": "×", "finding": "!"}


def column_of(step: int, frame: Frame, track: int) -> int:
    length = max(frame.end_step - frame.first_step, 1)
    share = (min(max(step, frame.first_step), frame.end_step) - frame.first_step) / length
    return round(share * (track - 1))


def step_at(column: int, frame: Frame, track: int) -> int:
    """The step under a cell of the track."""
    share = min(max(column, 0), track - 1) / max(track - 1, 1)
    return round(frame.first_step + share * (frame.end_step - frame.first_step))


def _shown(frame: Frame, track: int) -> dict[int, Mark]:
    placed: dict[int, Mark] = {}
    ranks = list(GLYPHS)
    for mark in frame.marks:
        column = column_of(mark.step, frame, track)
        if column not in placed or ranks.index(mark.kind) >= ranks.index(placed[column].kind):
            placed[column] = mark
    return placed


def _mark_style(mark: Mark, ink: Ink) -> Style:
    return {"checkpoint": ink.good, "evaluation": ink.validation}.get(mark.kind, ink.level(mark.level))


def track(frame: Frame, width: int, ink: Ink) -> Strip:
    """`━━━━━━●───!──◆──`"""
    length = max(width - 2 * EDGE, 1)
    at = column_of(frame.cursor, frame, length)
    marks = _shown(frame, length)
    segments = [Segment(" " * EDGE, ink.text)]
    for column in range(length):
        mark = marks.get(column)
        if column == at:
            segments.append(Segment("●", ink.key))
        elif mark is not None:
            segments.append(Segment(GLYPHS[mark.kind], _mark_style(mark, ink)))
        else:
            segments.append(Segment("━" if column < at else "─", ink.smooth if column < at else ink.faint))
    return Strip(segments, width - EDGE).adjust_cell_length(width).simplify()


def motion(frame: Frame, ink: Ink) -> Part:
    """Playing, paused, following: a glyph and a word."""
    if frame.playing:
        return (f"▶ playing {frame.speed:g}×", ink.good)
    if frame.following:
        return ("● following" if frame.live else "■ at the end", ink.good if frame.live else ink.muted)
    return ("‖ paused" + (f" · {frame.speed:g}×" if frame.speed else ""), ink.watch)


def status(frame: Frame, width: int, ink: Ink) -> Strip:
    left: list[Part] = [
        (" ", ink.text),
        motion(frame, ink),
        ("   step ", ink.muted),
        (text.count(frame.cursor), ink.strong),
        (f" of {text.count(frame.end_step)}", ink.muted),
    ]
    found = [m for m in frame.marks if m.kind == "finding" and m.level != "info"]
    seen = sum(m.step <= frame.cursor for m in found)
    ahead = len(found) - seen
    groups: list[list[Part]] = []
    if ahead:
        worst = min((m for m in found if m.step > frame.cursor), key=lambda m: ("alarm", "watch", "info").index(m.level))
        plural = "findings" if ahead > 1 else "finding"
        groups.append([(f"{ahead} {plural} ahead", ink.level(worst.level)), (" n", ink.key)])
    groups.append(
        [
            ("!", ink.alarm),
            (" finding  ", ink.faint),
            ("◆", ink.good),
            (" checkpoint  ", ink.faint),
            ("┴", ink.validation),
            (" evaluation ", ink.faint),
        ]
    )
    right = joined(groups, ("   ", ink.text), width - width_of(left) - 2)
    return spread(left, right, width, ink.text)


def lines(frame: Frame, width: int, height: int, ink: Ink) -> list[Strip]:
    return [track(frame, width, ink), status(frame, width, ink)][:height]


class Timeline(Panel):
    class Sought(Message):
        """A place on the track was clicked or dragged to."""

        def __init__(self, step: int) -> None:
            super().__init__()
            self.step = step

    def paint(self, frame: Frame, width: int, height: int, ink: Ink) -> list[Strip]:
        return lines(frame, width, height, ink)

    def _seek(self, x: int) -> None:
        if self.frame is not None:
            track_width = max(self.size.width - 2 * EDGE, 1)
            if x >= self.size.width - EDGE - 1:
                self.post_message(self.Sought(self.frame.end_step))
            else:
                self.post_message(self.Sought(step_at(x - EDGE, self.frame, track_width)))

    def on_mouse_down(self, event: events.MouseDown) -> None:
        if event.y == 0:
            self.capture_mouse()
            self._seek(event.x)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self.app.mouse_captured is self:
            self._seek(event.x)

    def on_mouse_up(self) -> None:
        self.release_mouse()
