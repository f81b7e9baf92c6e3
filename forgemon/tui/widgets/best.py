"""The best checkpoint so far: by which metric, at which step, where it lies and whether it is still there."""

from __future__ import annotations

from textual.strip import Strip

from forgemon.tui import text
from forgemon.tui.frame import Frame
from forgemon.tui.ink import Ink
from forgemon.tui.panel import Panel
from forgemon.tui.strips import Part, strip


def presence(frame: Frame, ink: Ink) -> Part:
    """Whether the file is there, as a word."""
    best = frame.snapshot.best
    if best is None or best.path is None:
        how = "overwritten or deleted" if best is not None and best.lost else "not saved"
        return (f"no file holds it: it was {how}", ink.watch)
    if frame.best_exists is None:
        return ("? not visible", ink.muted)
    return ("✓ on disk", ink.good) if frame.best_exists else ("✗ missing on this host", ink.alarm)


def lines(frame: Frame, width: int, height: int, ink: Ink) -> list[Strip]:
    best = frame.snapshot.best
    if best is None:
        saved = len(frame.snapshot.checkpoints)
        said = "none yet: no evaluation has been seen" if not frame.snapshot.evaluations else "none yet: no finite value"
        if saved:
            said += f"; {saved} checkpoint{'s' if saved > 1 else ''} saved"
        return [strip([(line, ink.muted)], width) for line in text.wrap(said, width, height)]
    value: list[Part] = [
        (text.shorten(text.plain(best.metric), 24) + " ", ink.muted),
        (text.number(best.value), ink.strong),
        (" at step ", ink.muted),
        (text.count(best.step), ink.strong),
    ]
    where: list[Part] = [presence(frame, ink)]
    rows = [value]
    if best.path is not None:
        rows.append([(text.shorten(text.plain(best.path), width), ink.text)])
    else:
        said, style = where[0]
        rows += [[(line, style)] for line in text.wrap(said, width, 2)]
        return [strip(parts, width) for parts in rows[:height]]
    rows.append(where)
    if height == 2:
        rows = [[*value, ("  ", ink.text), *where], rows[1]]
    return [strip(parts, width) for parts in rows[:height]]


class Best(Panel):
    BORDER_TITLE = "best checkpoint"

    def basis(self, frame: Frame) -> object:
        return frame.snapshot.best, frame.best_exists, frame.snapshot.evaluations[-1:], len(frame.snapshot.checkpoints)

    def paint(self, frame: Frame, width: int, height: int, ink: Ink) -> list[Strip]:
        return lines(frame, width, height, ink)
