"""An alarm of another tool, and how one rule's alarms are put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.accuracy.peers.trace import Trace


@dataclass(frozen=True)
class Alarm:
    """What a tool said, with what that claims in the terms of our symptom table."""

    tool: str
    rule: str
    step: int
    "Optimizer step at which it was first said."
    text: str
    symptoms: frozenset[str] = frozenset()
    "Rows of the symptom table that it claims to see; empty where it says only that something is unusual."
    causes: frozenset[str] = frozenset()
    "Causes that it names. Empty for most rules: they report a sight, and leave its cause to the reader."
    times: int = 1
    "How often it was said in the run."

    @property
    def kind(self) -> tuple[str, frozenset[str], frozenset[str]]:
        return self.rule, self.symptoms, self.causes


Rule = Callable[[Trace], list[Alarm]]


def said_once(alarms: list[Alarm]) -> list[Alarm]:
    """The first alarm of each kind, with how many there were of it: a log of a thousand equal lines is one alarm to a person."""
    first: dict[tuple[str, frozenset[str], frozenset[str]], Alarm] = {}
    for alarm in sorted(alarms, key=lambda alarm: alarm.step):
        before = first.get(alarm.kind)
        first[alarm.kind] = alarm if before is None else replace(before, times=before.times + 1)
    return list(first.values())


def entries(shape: tuple[int, ...]) -> int:
    """How many numbers a tensor of this shape has; 1 for a scalar."""
    count = 1
    for size in shape:
        count *= size
    return max(1, count)
