"""Our diagnosis beside the published rules of other tools, on the same logs: healthy runs with an alarm, and what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tests.accuracy.faults import FAULTS
from tests.accuracy.judging import Judged
from tests.accuracy.peers import TOOLS, Trace, alarms_of, trace_of

OURS = "forgemon"


@dataclass
class Tally:
    """One tool over all runs."""

    healthy: int = 0
    "Healthy runs with an alarm at any time."
    warned: int = 0
    "Faulty runs with an alarm of any kind."
    detected: int = 0
    "Faulty runs with an alarm that claims a symptom which is right there."
    diagnosed: int = 0
    "Faulty runs with an alarm that names the right cause."


def comparison(runs: list[Judged]) -> str:
    """The table as text. Faults that never showed, or that the table promises less than an alarm for, are left out for all."""
    faulty = [run for run in runs if run.fault and run.visible is not None and run.level == "alarm"]
    healthy = [run for run in runs if not run.fault]
    tallies = {OURS: _ours(healthy, faulty)}
    by_fault: dict[str, dict[str, int]] = {OURS: _count(run.fault for run in faulty if run.found)}
    for tool in TOOLS:
        tallies[tool], by_fault[tool] = _theirs(tool, healthy, faulty)
    head = f"{'tool':34}{'healthy runs with an alarm':>28}{'any alarm':>12}{'right symptom':>15}{'right cause':>13}"
    lines = [f"{len(healthy)} healthy runs, {len(faulty)} faulty ones", head, "-" * len(head)]
    for tool, tally in tallies.items():
        lines.append(
            f"{tool:34}{_of(tally.healthy, len(healthy)):>28}{_of(tally.warned, len(faulty)):>12}"
            f"{_of(tally.detected, len(faulty)):>15}{_of(tally.diagnosed, len(faulty)):>13}"
        )
    return "\n".join([*lines, "", *_by_fault(by_fault, _count(run.fault for run in faulty))])


def _by_fault(found: dict[str, dict[str, int]], runs: dict[str, int]) -> list[str]:
    """How many runs of each fault each tool saw with a right symptom."""
    head = f"{'right symptom':34}{'runs':>5}" + "".join(f"{tool[:22]:>24}" for tool in found)
    lines = [head, "-" * len(head)]
    return [
        *lines,
        *(f"{name:34}{n:5}" + "".join(f"{of.get(name, 0):24}" for of in found.values()) for name, n in runs.items()),
    ]


def _ours(healthy: list[Judged], faulty: list[Judged]) -> Tally:
    return Tally(
        healthy=sum(bool(run.alarms) for run in healthy),
        warned=sum(bool(run.alarms) for run in faulty),
        detected=sum(bool(run.found) for run in faulty),
        diagnosed=sum(run.cause_right for run in faulty),
    )


def _theirs(tool: str, healthy: list[Judged], faulty: list[Judged]) -> tuple[Tally, dict[str, int]]:
    tally, found = Tally(healthy=sum(bool(alarms_of(tool, _trace(run))) for run in healthy)), []
    for run in faulty:
        fault, alarms = FAULTS[run.fault], alarms_of(tool, _trace(run))
        tally.warned += bool(alarms)
        tally.diagnosed += any(alarm.causes & fault.causes for alarm in alarms)
        if any(alarm.symptoms & (fault.symptoms | fault.causes) for alarm in alarms):
            tally.detected += 1
            found.append(run.fault)
    return tally, _count(found)


@lru_cache(maxsize=4096)
def _trace_in(folder: str) -> Trace:
    return trace_of(Path(folder) / "run")


def _trace(run: Judged) -> Trace:
    return _trace_in(run.folder)


def _count(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names))


def _of(count: int, of: int) -> str:
    return f"{count} ({100 * count / of:.0f} %)" if of else "-"
