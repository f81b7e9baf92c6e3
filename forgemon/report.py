"""A check's result as one JSON object and as text for a terminal of 80 columns or a pipe."""

from __future__ import annotations

import math
import os
import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import click

from forgemon.diagnosis import Report
from forgemon.findings import Answer, Check, Finding, Level, Where
from forgemon.loss_direction import LossDirection
from forgemon.symptoms import SYMPTOMS, UNKNOWN
from forgemon.telemetry import Snapshot
from probes.record import encode_json

WIDTH = 80
NO_PASS = "No validation pass came within these steps; to have it judged too, ask for more steps than an epoch has."
MOST_HIDDEN = 12
"""Signals that are named when they were not visible."""
LEVEL_COLOURS: Mapping[Level, str] = {"alarm": "red", "watch": "yellow", "info": "blue"}
ANSWER_COLOURS: Mapping[Answer, str] = {"yes": "green", "no": "red", "not visible": "bright_black"}
ENDED_STATES = frozenset({"finished", "exception", "killed", "exited", "gone", "detached"})


@dataclass(frozen=True)
class Trial:
    """How a run went that was started for so many steps (`forgemon check --steps`)."""

    steps_wanted: int
    steps_taken: int
    stopped_with: str | None
    "The signal that ended it in the end; None where it ended by itself."
    exit_code: int | None
    "None where it was stopped or died of a signal."
    failed: bool
    "The command failed by itself or stood still, whatever the findings are."
    sentence: str
    loss: LossDirection

    def as_json(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "loss"} | {
            "loss": asdict(self.loss)
        }


@dataclass(frozen=True)
class Checked:
    """What was read of one run, and what is said about it."""

    run: str
    rank_count: int
    snapshot: Snapshot
    report: Report
    trial: Trial | None = None

    @property
    def ended(self) -> str | None:
        """How the run ended, None while it goes on."""
        return self.snapshot.state if self.snapshot.state in ENDED_STATES else None


def as_json(checked: Checked) -> dict[str, Any]:
    """The object that `forgemon check --json` prints. Numbers that are not finite are texts, missing ones null."""
    snapshot = checked.snapshot
    best = snapshot.best
    value: dict[str, Any] = encode_json(
        {
            "run": checked.run,
            "rank_count": checked.rank_count,
            "steps": snapshot.step,
            "ended": checked.ended,
            "findings": [finding.as_json() for finding in checked.report.findings],
            "checklist": [
                {"id": c.id, "question": c.question, "answer": c.answer, "since_step": c.since_step, "detail": c.detail}
                for c in checked.report.checklist
            ],
            "loop_note": checked.report.loop_note,
            "loop_note_answers": {answer.id: answer.as_json() for answer in checked.report.note},
            "signals": dict(snapshot.signals),
            "order_of_calls": list(snapshot.calls),
            "skipped_steps": snapshot.skipped_steps,
            "best_checkpoint": None
            if best is None
            else {
                "metric": best.metric,
                "value": best.value,
                "step": best.step,
                "path": best.path,
                "exists": best.exists(),
            },
            "probe_cost": None if math.isnan(snapshot.probe_cost) else snapshot.probe_cost,
            "dropped_rows": snapshot.dropped_rows,
            "trial": None if checked.trial is None else checked.trial.as_json(),
        }
    )
    return value


def as_text(checked: Checked, colour: bool) -> str:
    """The report a person reads."""
    return "\n".join(_Lines(colour).report(checked))


def finding_text(finding: Finding, colour: bool) -> str:
    """One finding, with its source lines and its fix."""
    return "\n".join(_Lines(colour).finding(finding))


class _Lines:
    """Builds lines; colour only where asked for, and never as the only carrier of a meaning."""

    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def _style(self, text: str, **style: Any) -> str:
        return click.style(text, **style) if self._colour else text

    def report(self, checked: Checked) -> Iterator[str]:
        yield from self._header(checked)
        if checked.trial is not None:
            yield from _wrapped(checked.trial.sentence)
            yield ""
            yield from _wrapped(checked.trial.loss.sentence)
            if not checked.snapshot.evaluations:
                yield from _wrapped(NO_PASS)
        for finding in checked.report.findings:
            if finding.symptom != "ended" or finding.level != "info":
                yield ""
                yield from self.finding(finding)
        if not checked.snapshot.step:
            yield ""
            yield "Nothing could be judged: no optimizer step was seen."
        elif not any(f.level != "info" for f in checked.report.findings):
            yield ""
            yield self._style("No alarm and nothing to watch in what could be seen.", fg="green")
        yield ""
        yield self._style("Can this loop be trusted?", bold=True)
        for check in checked.report.checklist:
            yield from self._check(check, checked.report.findings)
        yield ""
        yield self._style("The run as a whole", bold=True)
        for answer in checked.report.note:
            known = answer.facts.get("answer")
            yield from _hung(f"  {answer.label:15}  ", f"{known}: {answer.text}" if known else answer.text)
        if not checked.report.note:
            yield from _wrapped(checked.report.loop_note, 2)
        yield from self._order_of_calls(checked.snapshot)
        yield from self._not_visible(checked.snapshot)
        if checked.trial is not None:
            yield ""
            yield f"See it again: forgemon replay {printable(shlex.quote(checked.run))}"

    def _header(self, checked: Checked) -> Iterator[str]:
        snapshot = checked.snapshot
        yield self._style(printable(os.path.basename(os.path.normpath(checked.run))), bold=True)
        detail = f" ({printable(snapshot.state_detail)})" if snapshot.state_detail else ""
        ranks = f", {checked.rank_count} ranks" if checked.rank_count > 1 else ""
        if checked.trial is None or checked.trial.stopped_with is None:  # else its own sentence says how it ended
            yield from _wrapped(f"{snapshot.step} steps{ranks}, {snapshot.state}{detail}")
        elif checked.rank_count > 1:
            yield f"{checked.rank_count} ranks, of which the first is judged"
        for problem in snapshot.problems:
            yield from _wrapped(f"log: {printable(problem)}")

    def finding(self, finding: Finding) -> Iterator[str]:
        level = self._style(f"{finding.level.upper():5}", fg=LEVEL_COLOURS[finding.level], bold=True)
        cause = "" if finding.cause in (finding.symptom, UNKNOWN) else f": {finding.cause}"
        title, when = f"{level}  {self._style(finding.symptom + cause, bold=True)}", _when(finding)
        fits = 9 + len(finding.symptom + cause + when) <= WIDTH
        yield f"{title}  {when}" if fits else title
        if not fits:
            yield f"       {when}"
        yield from _wrapped(finding.summary, 7)
        if finding.where is not None:
            yield from self._source(finding.where)
        yield from _wrapped(f"Fix: {finding.fix}", 7, hang=5)
        if finding.level != "info":
            yield from _wrapped(f"Refuted by: {finding.refute}", 7, hang=12)
        taken = [name for name in finding.evidence if name in SYMPTOMS]
        if taken:
            yield from _wrapped(f"Explains too: {', '.join(taken)}.", 7, hang=14)

    def _source(self, where: Where) -> Iterator[str]:
        inside = f" in {printable(where.function)}" if where.function else ""
        yield f"       {self._style(printable(where.location), underline=True)}{inside}"
        for number, line in enumerate(where.source, where.source_first_line):
            marked = number == where.line
            text = f"     {'>' if marked else ' '} {number:>5} | {printable(line.expandtabs(4).rstrip())}"
            yield self._style(text, bold=True) if marked else text.rstrip()

    def _check(self, check: Check, findings: Sequence[Finding]) -> Iterator[str]:
        answer = self._style(f"{check.answer:11}", fg=ANSWER_COLOURS[check.answer])
        since = f"since step {check.since_step}" if check.since_step is not None else ""
        line = f"{check.question} {since}".rstrip()
        fits = 15 + len(line) <= WIDTH
        yield f"  {answer}  {line if fits else check.question}"
        told = next((f.symptom for f in findings if check.answer == "no" and check.detail == f.summary), None)
        said = f"see {told} above" if told else _short(check.detail)
        if check.answer != "yes" or check.id == "best-checkpoint":
            yield from _wrapped(": ".join(part for part in ("" if fits else since, said) if part), 15)

    def _order_of_calls(self, snapshot: Snapshot) -> Iterator[str]:
        if snapshot.calls:
            yield from _hung("  a step           ", ", ".join(snapshot.calls))
        if snapshot.skipped_steps:
            yield from _hung("  skipped steps    ", f"{snapshot.skipped_steps}, by a GradScaler")

    def _not_visible(self, snapshot: Snapshot) -> Iterator[str]:
        hidden = sorted(name for name, state in snapshot.signals.items() if state != "seen")
        if hidden:
            more = f" and {len(hidden) - MOST_HIDDEN} more (--json has all)" if len(hidden) > MOST_HIDDEN else ""
            yield from _hung("  not visible      ", f"{', '.join(hidden[:MOST_HIDDEN])}{more}")
        if snapshot.dropped_rows:
            yield from _hung("  rows lost        ", f"{snapshot.dropped_rows}, to a slow or full disk")


def printable(text: str) -> str:
    """Control characters of a log, which anyone may have written, as `?`: they must not reach a terminal."""
    return "".join(c if c.isprintable() or c == " " else "?" for c in text)


def _when(finding: Finding) -> str:
    """Since when it stands, or from when until when it stood."""
    first, last = finding.first_step, finding.last_step
    if not finding.stands:
        return f"(steps {first} to {last}, no longer)" if last > first else f"(step {first}, no longer)"
    return f"(since step {first}, last seen at step {last})" if last > first else f"(step {first})"


def _hung(label: str, text: str) -> list[str]:
    """The text filled to the width beside its label."""
    lines = _wrapped(text, len(label))
    return [label + lines[0][len(label) :], *lines[1:]] if lines else []


def _short(text: str, most: int = 160) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _wrapped(text: str, indent: int = 0, hang: int = 0) -> list[str]:
    """Filled to the width; paths are never broken, so that they can be copied."""
    return textwrap.wrap(
        printable(text),
        WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + hang),
        break_long_words=False,
        break_on_hyphens=False,
    )
