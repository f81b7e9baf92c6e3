"""A finding: what is wrong with a run, since which step, on which line, and how to mend it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["alarm", "watch", "info"]
Answer = Literal["yes", "no", "not visible"]


@dataclass(frozen=True)
class Where:
    """A line of the user's own code."""

    file: str
    line: int
    function: str = ""
    source: tuple[str, ...] = ()
    "The line as it stood when the process ran it, with its neighbours."
    source_first_line: int = 0
    "Line number of source[0]."

    @property
    def location(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def text(self) -> str:
        """The line itself, stripped; empty when its source could not be read."""
        index = self.line - self.source_first_line
        return self.source[index].strip() if 0 <= index < len(self.source) else ""


@dataclass(frozen=True)
class Finding:
    """One row of the symptom table that holds for this run."""

    symptom: str
    cause: str
    level: Level
    first_step: int
    last_step: int
    summary: str
    "One sentence with the numbers: what is seen and why that is the cause."
    evidence: Mapping[str, float | int | str]
    refute: str
    "What would show this finding to be wrong."
    where: Where | None
    fix: str
    stands: bool = True
    "False once later rows showed that it is over: it stood until `last_step`."

    def as_json(self) -> dict[str, Any]:
        where = self.where
        return {
            "symptom": self.symptom,
            "cause": self.cause,
            "level": self.level,
            "first_step": self.first_step,
            "last_step": self.last_step,
            "stands": self.stands,
            "summary": self.summary,
            "evidence": dict(self.evidence),
            "refute": self.refute,
            "where": None
            if where is None
            else {
                "location": where.location,
                "file": where.file,
                "line": where.line,
                "function": where.function,
                "source": list(where.source),
                "source_first_line": where.source_first_line,
            },
            "fix": self.fix,
        }


@dataclass(frozen=True)
class Check:
    """One question of the checklist: can this loop be trusted?"""

    id: str
    question: str
    answer: Answer
    since_step: int | None
    "Step since which the answer is known."
    detail: str
    "Why, in a few words: the finding's summary for a no, what is missing for a not visible."


@dataclass(frozen=True)
class NoteAnswer:
    """One answer of the loop note, in words and in numbers."""

    id: str
    label: str
    "A word or two before it."
    text: str
    facts: Mapping[str, float | int | str | None]
    "What the text rests on, by name; empty where that is not visible."

    def as_json(self) -> dict[str, Any]:
        return {"text": self.text, **self.facts}
