"""The most important thing in one to three lines, wherever the findings panel itself is not on the screen."""

from __future__ import annotations

from textual.strip import Strip

from forgemon.tui import text
from forgemon.tui.frame import Frame
from forgemon.tui.ink import GLYPHS, Ink
from forgemon.tui.panel import Panel
from forgemon.tui.strips import Part, joined, strip, width_of
from forgemon.tui.widgets.findings import begins_here, cause, first_later, name, nothing, since, source


def _one_line(frame: Frame, width: int, ink: Ink) -> Strip:
    findings = frame.report.findings
    finding = findings[0]
    more: list[Part] = [(f"+{len(findings) - 1} more", ink.muted)] if len(findings) > 1 else []
    where: list[Part] = source(finding, 40, ink) if finding.where is not None else []
    fix: list[Part] = [("fix ", ink.good), (text.plain(finding.fix), ink.text)]
    groups = [name(finding, ink), cause(finding, ink), [(since(finding), ink.muted)], where[:1], more]
    parts = joined(groups, ("  ", ink.text), width - 1)
    room = width - width_of(parts) - 3
    if room > 20:
        parts = [*parts, ("  ", ink.text), fix[0], (text.fit(fix[1][0], room - 5).rstrip(), ink.text)]
    return strip(parts, width)


def serious(frame: Frame) -> bool:
    """Whether there is an alarm or a watch."""
    return any(f.level != "info" for f in frame.report.findings)


def lines(frame: Frame, width: int, height: int, ink: Ink) -> list[Strip]:
    """The worst finding with its line and its fix; without one, how much was visible."""
    findings = frame.report.findings
    if not serious(frame):
        return [_calm(frame, width, ink)]
    if height < 3:
        return [_one_line(frame, width, ink)]
    finding = findings[0]
    more: list[Part] = [(f"+{len(findings) - 1} more", ink.muted)] if len(findings) > 1 else []
    groups = [name(finding, ink), cause(finding, ink), [(since(finding), ink.muted)], more]
    head = joined(groups, ("  ", ink.text), width - 1)
    told: list[Part] = (
        source(finding, width - 9, ink)
        if finding.where is not None
        else [(text.fit(text.plain(finding.summary), width - 9).rstrip(), ink.text)]
    )
    fix = text.fit(text.plain(finding.fix), width - 9).rstrip()
    label = "   line " if finding.where is not None else "   why  "
    rows: list[list[Part]] = [head, [(label, ink.muted), *told], [("   fix  ", ink.good), (fix, ink.text)]]
    return [strip(parts, width) for parts in rows]


def _calm(frame: Frame, width: int, ink: Ink) -> Strip:
    said = nothing(frame, ink)
    if frame.report.findings:
        finding = frame.report.findings[0]
        summary = text.fit(text.plain(finding.summary), width - 10).rstrip()
        said = [(f"{text.plain(finding.symptom)}: {summary}", ink.info)]
    if len(said) == 1 and len(frame.snapshot.steps):
        yes = sum(c.answer == "yes" for c in frame.report.checklist)
        said.append((f"{GLYPHS['yes']} {yes} of {len(frame.report.checklist)} questions answered yes", ink.muted))
    if begins_here(frame) is None and not frame.following and (later := first_later(frame)) is not None and len(said) < 3:
        said.append((f"the first one comes at step {text.count(later)}: press n", ink.watch))
    return strip([(" ", ink.text), *joined([[part] for part in said], ("  ·  ", ink.faint), width - 1)], width)


class Verdict(Panel):
    def basis(self, frame: Frame) -> object:
        return (
            frame.report.findings,
            frame.report.checklist,
            len(frame.snapshot.steps) > 0,
            begins_here(frame),
            first_later(frame),
        )

    def paint(self, frame: Frame, width: int, height: int, ink: Ink) -> list[Strip]:
        return lines(frame, width, height, ink)
