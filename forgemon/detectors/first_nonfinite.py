"""What the probe saw around the first value that was not finite: the stage it began at, and what was still finite then."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from forgemon.chunk import Chunk
from forgemon.findings import Where
from forgemon.journal import number, text, where_of, whole

KEPT = 64
MOST_ENTRIES = 32
MAX_NAME = 200
TARGET = "target of "
WORDS = {"input": "the input", "loss": "the loss", "weight": "the weights"}
RATE, INPUT, OVERFLOW, UNKNOWN = "learning-rate-too-high", "nonfinite-input", "numeric-overflow", "unknown"


@dataclass(frozen=True)
class Origin:
    """One `nonfinite` event."""

    step: int
    last_finite_step: int | None
    stage: str
    "input, layer, loss, gradient or weight."
    name: str
    place: str
    "Of an input, which sample of which batch, in words; else empty."
    finite: tuple[str, ...]
    "Stages that were seen and were finite."
    where: Where | None
    loaded: bool
    "Of an input, whether it is known to stand in a batch of a loader: what one model puts out may be the input of another."
    infinite: bool
    "inf and not nan: what was too large for its type, where the numbers that made it were finite."

    def cause(self, climbed: bool) -> str:
        """`climbed`: whether loss, gradient norm or updates had done so before."""
        if self.stage == "input":
            return INPUT
        if climbed or (self.stage == "weight" and self.last_finite_step == self.step - 1):
            return RATE
        made = "input" in self.finite or (self.infinite and "weight" in self.finite)
        return OVERFLOW if self.stage != "weight" and made else UNKNOWN

    @property
    def sentence(self) -> str:
        *others, last = [WORDS[stage] for stage in self.finite] or [""]
        finite = f"; {', '.join(others)}{' and ' if others else ''}{last} still finite" if last else ""
        if self.stage == "weight":
            return f" The weight {self.name} was not finite before that step began."
        return f" It began in the {self.stage} {self.name}{self.place}{finite}."


class FirstNonfinite:
    """Feed it every chunk; of several events for one step the newest says most."""

    def __init__(self) -> None:
        self._events: dict[int, Mapping[str, Any]] = {}

    def feed(self, chunk: Chunk) -> None:
        for event in chunk.events:
            step = whole(event, "first_seen_step") if event["kind"] == "nonfinite" else None
            if step is not None and (step in self._events or len(self._events) < KEPT):
                self._events[step] = event

    def at(self, step: int) -> Origin | None:
        """None where the probe said nothing of that step: it was not observed then, or a loss scale was in use."""
        event = self._events.get(step)
        if event is None:
            return None
        order = event.get("order")
        entries = [e for e in order if isinstance(e, Mapping)][:MOST_ENTRIES] if isinstance(order, list) else []
        first = event.get("first")
        stage, name = (text(first, "stage"), text(first, "name")[:MAX_NAME]) if isinstance(first, Mapping) else ("", "")
        if stage not in ("input", "layer", "loss", "gradient", "weight"):
            return None
        broken = {text(e, "stage") for e in entries if e.get("finite") is not True}
        # What a loss is compared with is no input of the model: where that was not seen, nothing is said of it.
        seen = dict.fromkeys(
            text(e, "stage") for e in entries if e.get("finite") is True and not text(e, "name").startswith(TARGET)
        )
        finite = tuple(s for s in seen if s not in broken and s in WORDS)
        bad = next((e for e in entries if text(e, "stage") == stage and e.get("finite") is False), {})
        place = _place(bad) if stage == "input" else ""
        return Origin(
            step,
            whole(event, "last_finite_step"),
            stage,
            name,
            place,
            finite,
            where_of(event),
            loaded=stage != "input" or whole(bad, "batch") is not None,
            infinite=math.isinf(number(bad, "value")),
        )


def _place(entry: Mapping[str, Any]) -> str:
    batch, micro_batch, sample = whole(entry, "batch"), whole(entry, "micro_batch"), whole(entry, "sample")
    parts = [f"sample {sample}"] * (sample is not None)
    if batch is not None:
        parts.append(f"batch {batch}")
    elif micro_batch:
        parts.append(f"micro-batch {micro_batch}")
    return f" ({' of '.join(parts)})" if parts else ""
