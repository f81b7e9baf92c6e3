"""Can this loop be trusted? Each question with yes, no or not visible, in words."""

from __future__ import annotations

from textual.strip import Strip

from forgemon.findings import Check
from forgemon.tui import text
from forgemon.tui.frame import Frame
from forgemon.tui.ink import GLYPHS, Ink
from forgemon.tui.panel import Panel
from forgemon.tui.strips import Part, centred, joined, spread, strip, width_of


def _rows(check: Check, width: int, ink: Ink, with_detail: bool) -> list[Strip]:
    """`✓ question      yes`, and the reason below."""
    style = ink.muted if check.answer == "not visible" else ink.text
    since = f"since step {text.count(check.since_step)}  " if check.since_step is not None and with_detail else ""
    right: list[Part] = [(since, ink.faint), (check.answer, ink.answer(check.answer))]
    question = text.fit(text.plain(check.question), max(width - 4 - width_of(right), 4)).rstrip()
    left: list[Part] = [(f"{GLYPHS[check.answer]} ", ink.answer(check.answer)), (question, style)]
    rows = [spread(left, right, width, ink.text)]
    if with_detail and check.detail:
        detail = text.wrap(text.plain(check.detail), max(width - 4, 10), 2)
        rows += [strip([("  " + line, ink.muted)], width) for line in detail]
    return rows


def lines(frame: Frame, width: int, height: int, ink: Ink) -> list[Strip]:
    """One line a question, with the reason below where there is room."""
    checks = frame.report.checklist
    if not checks:
        return centred([("Nothing to answer yet", ink.muted)], width, height)
    detailed = [row for check in checks for row in _rows(check, width, ink, True)] + _order(frame, width, ink)
    if len(detailed) <= height and width >= 50:
        return detailed
    return [row for check in checks for row in _rows(check, width, ink, False)][:height]


def _order(frame: Frame, width: int, ink: Ink) -> list[Strip]:
    """What a step of this loop calls, in its order."""
    calls = text.plain(", ".join(frame.snapshot.calls))
    rows = text.wrap(f"a step: {calls}", max(width - 4, 10), 3) if calls else []
    return [strip([("  " + line, ink.faint)], width) for line in rows]


def short_name(check: Check) -> str:
    return text.plain(check.id).replace("-", " ").replace("_", " ")


def brief(frame: Frame, width: int, height: int, ink: Ink) -> list[Strip]:
    """The answers in a line or two: every no by its name first, then what was not visible, then what is fine."""
    checks = sorted(frame.report.checklist, key=lambda c: ("no", "not visible", "yes").index(c.answer))
    if not checks:
        return []
    parts: list[Part] = [(" trust? ", ink.muted)]
    for name in ("yes", "no", "not visible"):
        number = sum(c.answer == name for c in checks)
        if number:
            parts += [(f" {GLYPHS[name]} {number} {name} ", ink.answer(name))]
    strips = [strip(parts, width)]
    left = [[(f"{GLYPHS[c.answer]} {short_name(c)}", ink.answer(c.answer))] for c in checks]
    while left and len(strips) < height:
        row = joined(left, ("  ", ink.text), width - 2)
        shown = {text_ for text_, _ in row}
        rest = [group for group in left if group[0][0] not in shown]
        if len(rest) == len(left):
            break
        strips.append(strip([(" ", ink.text), *row], width))
        left = rest
    return strips


class Checklist(Panel):
    BORDER_TITLE = "can this loop be trusted?"

    def basis(self, frame: Frame) -> object:
        return frame.report.checklist, frame.snapshot.calls

    def paint(self, frame: Frame, width: int, height: int, ink: Ink) -> list[Strip]:
        return brief(frame, width, height, ink) if height <= 3 else lines(frame, width, height, ink)
