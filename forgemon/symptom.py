"""One row of the symptom table: its id, what a person sees, its causes and their fixes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from forgemon.findings import Level

Section = Literal["A", "B", "C"]

UNKNOWN = "unknown"
"""The cause where the evidence names none."""

SECTIONS: Mapping[Section, str] = {
    "A": "What the curves and gradients say",
    "B": "What the order of calls and the tensors say (exact)",
    "C": "What the machine and the ranks say",
}


@dataclass(frozen=True)
class Cause:
    """One reason for a symptom, with what mends it."""

    id: str
    fix: str


@dataclass(frozen=True)
class Symptom:
    """One row of the table."""

    id: str
    section: Section
    seen: str
    "What a person sees, or what is wrong."
    causes: tuple[Cause, ...]
    "Most likely first."
    fix: str
    "What to do while the cause is unknown."
    level: Level = "alarm"
    "The highest level it can have."

    def fix_for(self, cause: str) -> str:
        return next((c.fix for c in self.causes if c.id == cause), self.fix)
