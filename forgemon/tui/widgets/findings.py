"""What is wrong: level, symptom, cause, since when, on which line, why, and how to mend it."""

from __future__ import annotations

from textual import events
from textual.message import Message
from textual.strip import Strip

from forgemon.findings import Finding
from forgemon.tui import text
from forgemon.tui.frame import Frame
from forgemon.tui.ink import Ink
from forgemon.tui.panel import ScrolledPanel
from forgemon.tui.strips import Part, centred, joined, strip, width_of

LEVELS = {"alarm": "ALARM", "watch": "WATCH", "info": "INFO"}


def name(finding: Finding, ink: Ink) -> list[Part]:
    """` ALARM  missing-zero-grad`."""
    return [
        (f" {LEVELS[finding.level]} ", ink.badge(finding.level)),
        (f" {text.plain(finding.symptom)}", ink.level(finding.level)),
    ]


def cause(finding: Finding, ink: Ink) -> list[Part]:
    """`← learning-rate-too-high`; nothing where the symptom is its own cause, or it is unknown."""
    if finding.cause in (finding.symptom, "unknown", ""):
        return []
    return [("← ", ink.muted), (text.plain(finding.cause), ink.strong)]


def since(finding: Finding) -> str:
    """Since when it stands, or from when until when it stood."""
    first, last = text.count(finding.first_step), text.count(finding.last_step)
    return f"since step {first}" if finding.stands else f"steps {first} to {last}, no longer"


def source(finding: Finding, width: int, ink: Ink) -> list[Part]:
    """`train.py:41  loss.backward()`; the file's own name first, for that is what fits."""
    where = finding.where
    if where is None:
        return [("no single line did it", ink.faint)]
    place = f"{text.plain(where.file).rpartition('/')[2]}:{where.line}"
    code = text.plain(where.text)
    return [(text.shorten(place, width), ink.key), ("  " + text.fit(code, max(width - len(place) - 2, 0)).rstrip(), ink.text)]


def block(finding: Finding, width: int, ink: Ink, summary_lines: int = 2) -> list[Strip]:
    """One finding in four lines or a few more."""
    inner = max(width - 3, 10)
    head, why, when = name(finding, ink), cause(finding, ink), [(since(finding), ink.muted)]
    space = ("  ", ink.text)
    if width_of(head) + width_of(why) + width_of(when) + 4 <= width:
        rows = [joined([head, why, when], space, width)]
    else:
        rows = [head, [("   ", ink.text), *joined([why, when], space, inner)]]
    rows += [[("   " + line, ink.text)] for line in text.wrap(text.plain(finding.summary), inner, summary_lines)]
    if finding.where is not None:
        rows.append([("   ", ink.text), *source(finding, inner, ink)])
    fix = text.wrap(text.plain(finding.fix), max(inner - 5, 10), summary_lines)
    rows += [[("   fix  " if i == 0 else "        ", ink.good), (line, ink.text)] for i, line in enumerate(fix)]
    return [strip(parts, width) for parts in rows]


def lines(frame: Frame, width: int, height: int, ink: Ink, selected: int = 0, marked: bool = False) -> list[Strip]:
    """The findings, scrolled so that the selected one is seen."""
    findings = frame.report.findings
    if not findings:
        return centred(nothing(frame, ink), width, height)
    selected = min(selected, len(findings) - 1)
    blocks = []
    for i, finding in enumerate(findings):
        strips = block(finding, width, ink, 2 if height < 24 else 4)
        if marked and i == selected:
            strips = [s.adjust_cell_length(width).apply_style(ink.selected) for s in strips]
        blocks.append([*strips, Strip.blank(width)])
    end = sum(len(b) for b in blocks[: selected + 1])
    start = end - len(blocks[selected])
    flat = [s for b in blocks for s in b][:-1]
    first = 0 if end <= height + 1 else min(start, max(len(flat) - height, 0))
    return flat[first : first + height]


def nothing(frame: Frame, ink: Ink) -> list[Part]:
    """What to say when there is no finding, which is not the same as being fine."""
    if not len(frame.snapshot.steps):
        return [("Nothing to judge yet", ink.muted)]
    hidden = sum(c.answer == "not visible" for c in frame.report.checklist)
    begun = begins_here(frame)
    said: list[Part] = [("✓ No findings so far", ink.good)]
    if begun is not None:
        said = [(f"{begun} begins here, shown by later steps: press →", ink.watch)]
    if hidden:
        said.append((f"{hidden} of {len(frame.report.checklist)} questions not visible", ink.muted))
    if begun is None and frame.marks and not frame.following and (later := first_later(frame)) is not None:
        said.append((f"the first one comes at step {text.count(later)}: press n", ink.watch))
    return said


def begins_here(frame: Frame) -> str | None:
    """The alarm or watch that begins at the cursor, where nothing up to there shows it yet."""
    if frame.following or any(f.first_step == frame.cursor for f in frame.report.findings):
        return None
    here = (m for m in frame.marks if m.kind == "finding" and m.level != "info" and m.step == frame.cursor)
    mark = next(here, None)
    return None if mark is None else text.plain(mark.text)


def first_later(frame: Frame) -> int | None:
    """Step of the next alarm or watch after the cursor."""
    later = (m.step for m in frame.marks if m.kind == "finding" and m.level != "info" and m.step > frame.cursor)
    return next(later, None)


class Findings(ScrolledPanel):
    """Up and down choose a finding, Enter or a click opens it."""

    BORDER_TITLE = "findings"

    selected = 0

    class Opened(Message):
        """A finding was chosen to be seen in full."""

        def __init__(self, finding: Finding) -> None:
            super().__init__()
            self.finding = finding

    def basis(self, frame: Frame) -> object:
        return (
            frame.report.findings,
            frame.report.checklist,
            len(frame.snapshot.steps) > 0,
            begins_here(frame),
            first_later(frame),
        )

    def paint(self, frame: Frame, width: int, height: int, ink: Ink) -> list[Strip]:
        return lines(frame, width, height, ink, self.selected, self.has_focus)

    def rows(self) -> int:
        return len(self.frame.report.findings) if self.frame else 0

    def scroll_rows(self, by: int) -> None:
        self.selected = max(min(self.selected + (1 if by > 0 else -1), self.rows() - 1), 0)
        self.repaint()

    def note(self, frame: Frame) -> str:
        findings = frame.report.findings
        counts = [(sum(f.level == level for f in findings), level) for level in LEVELS]
        return " · ".join(f"{n} {level}{'s' * (n > 1 and level == 'alarm')}" for n, level in counts if n)

    def chosen(self) -> Finding | None:
        findings = self.frame.report.findings if self.frame else ()
        return findings[min(self.selected, len(findings) - 1)] if findings else None

    def on_focus(self) -> None:
        self.repaint()

    def on_blur(self) -> None:
        self.repaint()

    def on_click(self, event: events.Click) -> None:
        if (finding := self.chosen()) is not None:
            self.post_message(self.Opened(finding))
