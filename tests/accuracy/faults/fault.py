"""A fault: what it does to a loop, and what a right finding of it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from forgemon.diagnosis import LEVEL_ORDER
from forgemon.findings import Finding, Level
from tests.accuracy.script import Script
from tests.accuracy.setting import Setting

Adapt = Callable[[Setting], Setting | None]


@dataclass(frozen=True)
class Fault:
    """One way to go wrong."""

    name: str
    section: str
    "A or B of the symptom table."
    symptoms: frozenset[str]
    "Any of these is a right finding."
    causes: frozenset[str]
    adapt: Adapt
    "The setting that can show it, made of another one; None where it cannot."
    apply: Callable[[Script], None]
    visible: str
    "From which step on it shows: a name of tests.accuracy.visible."
    level: Callable[[Setting], Level]
    "The level that the table promises, at least."
    beside: frozenset[str] = frozenset()
    "Symptoms that are right too in such a run."

    def is_shown_by(self, finding: Finding, setting: Setting) -> bool:
        """Whether `finding` names one of its symptoms, at its level or above."""
        return finding.symptom in self.symptoms and LEVEL_ORDER[finding.level] <= LEVEL_ORDER[self.level(setting)]


def structural(
    name: str,
    adapt: Adapt,
    apply: Callable[[Script], None],
    visible: str = "start",
    level: Level | Callable[[Setting], Level] = "alarm",
    beside: frozenset[str] = frozenset(),
    variant: str = "",
) -> Fault:
    """A row of section B: symptom and cause are one."""
    exact = frozenset({name})
    judged = level if callable(level) else _always(level)
    return Fault(f"{name}{variant}", "B", exact, exact, adapt, apply, visible, judged, beside)


def dynamic(
    name: str,
    symptoms: str,
    causes: str,
    adapt: Adapt,
    apply: Callable[[Script], None],
    visible: str = "start",
    level: Level = "alarm",
) -> Fault:
    """A fault of section A; symptoms and causes are words."""
    return Fault(name, "A", frozenset(symptoms.split()), frozenset(causes.split()), adapt, apply, visible, _always(level))


def _always(level: Level) -> Callable[[Setting], Level]:
    return lambda setting: level


def plain(setting: Setting) -> Setting:
    """Without what makes the healthy loop unusual."""
    return replace(setting, twist="")


def supervised(setting: Setting) -> Setting | None:
    return plain(setting) if setting.validates else None
