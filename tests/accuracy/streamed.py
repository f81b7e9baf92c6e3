"""What a person who follows a run would have been told, and when: the log read step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from forgemon.chunk import Chunk, Rows
from forgemon.diagnosis import Diagnosis
from forgemon.findings import Finding
from tests.accuracy.setting import STEPS

PIECE_STEPS = 25
"""Steps after which a report is looked at; around the first report of a finding, each step."""


@dataclass(frozen=True)
class First:
    """The first report that had a finding of some symptom at some level."""

    step: int
    finding: Finding


Wanted = Callable[[Finding], str | None]
"""The name under which the first report of a finding is kept, None where it does not matter."""


def until(log: Chunk, step: int, after: int = -1) -> Chunk:
    """Rows and events of the steps after `after` up to `step`. An event belongs to the step that had ended when it was written."""

    def cut(rows: Rows) -> Rows:
        return rows[(rows["step"] > after) & (rows["step"] <= step)]

    return Chunk(
        steps=cut(log.steps),
        gradients=tuple(replace(g, rows=cut(g.rows)) for g in log.gradients),
        updates=tuple(replace(u, rows=cut(u.rows)) for u in log.updates),
        metrics={name: cut(rows) for name, rows in log.metrics.items()},
        events=tuple(e for e in log.events if after < e["step"] <= step),
    )


def first_reports(log: Chunk, wanted: Wanted) -> dict[str, First]:
    """By name: the first report with the finding. Reports are made of prefixes of the log, cut after a step: first every
    PIECE_STEPS, then, in the piece where something new came, after each step."""
    found: dict[str, First] = {}
    diagnosis, last = Diagnosis(), -1
    for step in _ends(log):
        before = dict(found)
        diagnosis.feed(until(log, step, last))
        _look(diagnosis, step, wanted, found)
        if found.keys() != before.keys():
            found = found | _closer(log, last, step, wanted, before)
        last = step
    return found


def _closer(log: Chunk, last: int, end: int, wanted: Wanted, found: dict[str, First]) -> dict[str, First]:
    """The same piece, step by step."""
    found = dict(found)
    diagnosis = Diagnosis()
    diagnosis.feed(until(log, last))
    for step in range(last + 1, end + 1):
        diagnosis.feed(until(log, step, step - 1))
        _look(diagnosis, step, wanted, found)
    return found


def _look(diagnosis: Diagnosis, step: int, wanted: Wanted, found: dict[str, First]) -> None:
    for finding in diagnosis.report().findings:
        name = wanted(finding)
        if name is not None and name not in found:
            found[name] = First(step, finding)


def _ends(log: Chunk) -> Iterator[int]:
    """The last step of each piece; the very last one takes all that is left."""
    steps = [int(log.steps["step"][-1])] if len(log.steps) else [0]
    steps += [int(event["step"]) for event in log.events]
    last = max(steps)
    yield from range(PIECE_STEPS, min(last, 50 * STEPS), PIECE_STEPS)
    yield last
