"""Folds the `fact` events of section B: since when each stands, how often it was seen, and until when."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from forgemon.chunk import Chunk, Event
from forgemon.detectors.candidate import Candidate
from forgemon.findings import Level
from forgemon.journal import number, text, texts, where_of, whole

MOST_KEYS = 64
"""Optimizers, loaders or lines that are kept apart for one fact."""
MOST_OPTIMIZERS = 64
MOST_OTHERS = 4
MOST_NAMES = 8
LEVELS: Sequence[Level] = ("alarm", "watch", "info")

Key = int | str | None
Evidence = dict[str, float | int | str]


class Seen:
    """One fact of one key: the probe writes it at the 1st, 2nd, 4th, 8th … time of a stretch, and once when it is over."""

    def __init__(self, key: Key, first: Event) -> None:
        self.key = key
        self.first = first
        self.newest = first
        self.first_step = self.last_step = step_of(first)
        self.times = 0
        "How often it held in the stretch that goes on, or in the longest one before it, as far as was written."
        self.stands = True

    def add(self, event: Event) -> None:
        self.newest = event
        self.last_step = max(self.last_step, step_of(event))
        self.times = max(self.times, whole(event, "times") or 1)
        self.stands = True

    def end(self, event: Event) -> None:
        last = whole(event, "last_step")
        self.last_step = max(self.last_step, -1 if last is None else last)
        self.times = max(self.times, whole(event, "times") or 0)
        self.stands = False


class Facts:
    """Feed it every chunk; any split gives the same."""

    def __init__(self, names: Iterable[str]) -> None:
        self._seen: dict[str, dict[Key, Seen]] = {name: {} for name in names}
        self._optimizers: dict[int, str] = {}

    def feed(self, chunk: Chunk) -> None:
        for event in chunk.events:
            kind = event["kind"]
            if kind in ("fact", "fact_gone"):
                self._add(event, kind == "fact")
            elif kind == "optimizer" and len(self._optimizers) < MOST_OPTIMIZERS:
                self._optimizers.setdefault(whole(event, "index") or 0, text(event, "class"))

    def _add(self, event: Event, stands: bool) -> None:
        keys, key = self._seen.get(text(event, "fact")), _key(event)
        if keys is None:
            return
        if not stands:
            if key in keys:
                keys[key].end(event)
        elif key in keys or len(keys) < MOST_KEYS:
            keys.setdefault(key, Seen(key, event)).add(event)

    def of(self, name: str) -> list[Seen]:
        """By key, in the order in which they were first seen."""
        return list(self._seen[name].values())

    def optimizer(self, seen: Seen) -> str:
        """The optimizer that a fact is about, as a sentence names it."""
        index = seen.key if isinstance(seen.key, int) else None
        known = "" if index is None else self._optimizers.get(index, "")
        name = text(seen.newest, "optimizer") or known or "the optimizer"
        return name if index is None or len(self._optimizers) < 2 else f"{name} (optimizer {index})"


@dataclass(frozen=True)
class Verdict:
    """What one fact means."""

    level: Level
    summary: str
    refute: str
    evidence: Evidence = field(default_factory=dict)
    first_step: int | None = None
    "Where it began, if earlier than the first event."
    about: str = ""
    "Which optimizer, loader or metric, to name it beside others."


class FactDetector:
    """Turns facts into candidates: one a symptom, with the others of its kind as evidence. A subclass says what each means."""

    symptoms: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self.facts = Facts(self.symptoms)

    def feed(self, chunk: Chunk) -> None:
        self.facts.feed(chunk)

    def judge(self, symptom: str, seen: Seen) -> Verdict | None:
        """None while it is not certain, or where it turned out to be nothing."""
        raise NotImplementedError

    def candidates(self) -> list[Candidate]:
        found = []
        for symptom in self.symptoms:
            verdicts = [
                (seen, verdict) for seen in self.facts.of(symptom) if (verdict := self.judge(symptom, seen)) is not None
            ]
            if verdicts:
                found.append(_one(symptom, verdicts))
        return sorted(found, key=lambda candidate: candidate.first_step)


def _one(symptom: str, verdicts: list[tuple[Seen, Verdict]]) -> Candidate:
    """The gravest; one root cause shows at several optimizers, loaders or lines and is said once."""
    verdicts = sorted(verdicts, key=lambda v: (LEVELS.index(v[1].level), not v[0].stands, v[0].first_step))
    seen, verdict = verdicts[0]
    candidate = _candidate(symptom, seen, verdict)
    others = [v.about or _location(s) for s, v in verdicts[1:] if v.level == verdict.level]
    named = ", ".join(list(dict.fromkeys(o for o in others if o and o != verdict.about))[:MOST_OTHERS])
    return replace(candidate, evidence={**candidate.evidence, "also": named}) if named else candidate


def _candidate(symptom: str, seen: Seen, verdict: Verdict) -> Candidate:
    first = seen.first_step if verdict.first_step is None else min(verdict.first_step, seen.first_step)
    until = "" if seen.stands else f" It stood until step {seen.last_step}."
    return Candidate(
        symptom=symptom,
        cause=symptom,
        level=verdict.level,
        first_step=first,
        last_step=seen.last_step,
        summary=verdict.summary + until,
        refute=verdict.refute,
        evidence={"times_seen": seen.times, **verdict.evidence},
        where=where_of(seen.newest) or where_of(seen.first),
        stands=seen.stands,
    )


def step_of(event: Event) -> int:
    """The step that a fact is about; numbers of a GPU come some steps later."""
    step = whole(event, "at_step")
    return int(event["step"]) if step is None or step < 0 else step


def evidence(event: Event, *names: str) -> Evidence:
    """The named fields of an event that are there: numbers, texts, yes or no, and lists of texts as one text."""
    found: Evidence = {}
    for name in names:
        value = event.get(name)
        if isinstance(value, bool):
            found[name] = "yes" if value else "no"
        elif isinstance(value, list):
            found[name] = ", ".join(map(str, value[:MOST_NAMES]))[:500]
        elif whole(event, name) is not None:
            found[name] = whole(event, name) or 0
        elif not math.isnan(number(event, name)):
            found[name] = number(event, name)
        elif text(event, name):
            found[name] = text(event, name)[:500]
    return found


def names_in(event: Event, field_name: str = "names", most: int = 3) -> str:
    """The first names of a list, as a sentence says them."""
    names = texts(event, field_name)
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def _key(event: Event) -> Key:
    key = event.get("key")
    if isinstance(key, str):
        return key[:200]
    return key if isinstance(key, int) and not isinstance(key, bool) and abs(key) < 2**53 else None


def _location(seen: Seen) -> str:
    where = where_of(seen.newest)
    return "" if where is None else where.location
