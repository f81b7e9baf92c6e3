"""What one detector sees on its own, before the diagnosis has compared it with what the others see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from forgemon.chunk import Chunk
from forgemon.findings import Level, Where


@dataclass(frozen=True)
class Candidate:
    """A finding without its fix, which the symptom table knows."""

    symptom: str
    cause: str
    level: Level
    first_step: int
    last_step: int
    summary: str
    "One sentence with the numbers."
    refute: str
    evidence: Mapping[str, float | int | str] = field(default_factory=dict)
    where: Where | None = None
    stands: bool = True
    "False once later rows showed that it is over; `last_step` says until when it stood."


class Detector(Protocol):
    """A pure fold over a run: fed any split of it, it gives the same candidates.

    Streams of a chunk (steps, each gradient table, events, machine events) are not ordered against each other, so a detector
    folds each stream on its own and compares them in `candidates` alone. Memory stays bounded however long the run is.
    """

    symptoms: ClassVar[tuple[str, ...]]
    "The rows of the symptom table that it can name."

    def feed(self, chunk: Chunk) -> None: ...

    def candidates(self) -> list[Candidate]: ...


def figure(value: float) -> str:
    """A number as it stands in a sentence: three significant digits."""
    return f"{value:.3g}"
