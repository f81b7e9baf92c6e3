"""missing-zero-grad: an optimizer's step() applies gradients that its earlier step() has already used."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from forgemon.chunk import Chunk, Event, Rows
from forgemon.detectors.candidate import Candidate
from forgemon.detectors.in_a_row import InARow
from forgemon.journal import number, text, where_of, whole

SHARE = 0.5
"""Share of the checked parameters that must hold used gradients."""
IN_A_ROW = 2
MANY = 4
"""Reports of the probe that need no neighbours: so many steps are no accident."""
MOST_OPTIMIZERS = 64

REFUTE = (
    "A zero_grad(), `grad = None` or `grad.zero_()` on these parameters between the two steps. Accumulation over several "
    "backwards to one step, cleared afterwards, is not this and was told apart."
)


class _Reuse:
    """The checked rows of one optimizer: since when two in a row reused their gradients, and until when."""

    def __init__(self) -> None:
        self.first_step: int | None = None
        self.last_step = 0
        self.clear_step = -1
        "Newest checked step whose gradients were fresh."
        self.reused_rows = 0
        self.checked_rows = 0
        self._in_a_row = InARow()

    def feed(self, rows: Rows) -> None:
        reused = rows["gradients_reused"] >= SHARE
        self.checked_rows += len(rows)
        self.reused_rows += int(reused.sum())
        if not reused.all():
            self.clear_step = int(rows["step"][~reused][-1])
        lengths, begins = self._in_a_row.feed(rows["step"], reused)
        hits = np.flatnonzero(lengths >= IN_A_ROW)
        if len(hits):
            self.first_step = int(begins[hits[0]]) if self.first_step is None else self.first_step
            self.last_step = int(rows["step"][hits[-1]])


class _Facts:
    """What the probe reported of one optimizer, between observed rows too: at its 1st, 2nd, 4th, 8th … such step."""

    def __init__(self, first: Event) -> None:
        self.first = first
        self.first_step = int(first["step"])
        self.last_step = self.first_step
        self.in_a_row = False
        self._previous_step = -2

    def feed(self, event: Event) -> None:
        self.last_step = int(event["step"])
        self.in_a_row = self.in_a_row or self.last_step == self._previous_step + 1 or (whole(event, "times") or 0) >= MANY
        self._previous_step = self.last_step


class MissingZeroGrad:
    """Exact: the probe compares each gradient with the one the same optimizer used before. Two steps in a row make an alarm."""

    symptoms: ClassVar[tuple[str, ...]] = ("missing-zero-grad",)

    def __init__(self) -> None:
        self._optimizers: dict[int, _Reuse] = {}
        self._names: dict[int, str] = {}
        self._facts: dict[int, _Facts] = {}

    def feed(self, chunk: Chunk) -> None:
        rows = chunk.steps[np.isfinite(chunk.steps["gradients_reused"])]
        for optimizer in np.unique(rows["optimizer"]).tolist():
            if optimizer in self._optimizers or len(self._optimizers) < MOST_OPTIMIZERS:
                self._optimizers.setdefault(optimizer, _Reuse()).feed(rows[rows["optimizer"] == optimizer])
        for event in chunk.events:
            if event["kind"] == "fact" and text(event, "fact") == "missing-zero-grad":
                self._add_fact(whole(event, "optimizer") or 0, event)
            elif event["kind"] == "optimizer" and len(self._names) < MOST_OPTIMIZERS:
                self._names.setdefault(whole(event, "index") or 0, text(event, "class"))

    def _add_fact(self, index: int, event: Event) -> None:
        if index in self._facts or len(self._facts) < MOST_OPTIMIZERS:
            self._facts.setdefault(index, _Facts(event)).feed(event)

    def candidates(self) -> list[Candidate]:
        found = [self._candidate(index) for index in sorted({*self._optimizers, *self._facts})]
        return sorted((c for c in found if c is not None), key=lambda c: c.first_step)

    def _candidate(self, index: int) -> Candidate | None:
        rows, facts = self._optimizers.get(index, _Reuse()), self._facts.get(index)
        firsts = [] if rows.first_step is None else [rows.first_step]
        if facts is not None and facts.in_a_row:
            firsts.append(facts.first_step)
        if not firsts:
            return None
        first = min(firsts)
        last = max(rows.last_step, facts.last_step if facts is not None else 0)
        fact = facts.first if facts is not None else {}
        stands = last > rows.clear_step
        return Candidate(
            symptom="missing-zero-grad",
            cause="missing-zero-grad",
            level="alarm",
            first_step=first,
            last_step=last,
            summary=self._summary(index, first, rows, fact) + ("" if stands else f" It stood until step {last}."),
            refute=REFUTE,
            evidence=_evidence(index, rows, fact),
            where=where_of(fact),
            stands=stands,
        )

    def _summary(self, index: int, first: int, rows: _Reuse, fact: Event) -> str:
        where, name = where_of(fact), text(fact, "parameter")
        checked, reused = number(fact, "parameters_checked"), number(fact, "parameters_reused")
        of = ""
        if np.isfinite(checked) and np.isfinite(reused):
            of = f" ({reused:.0f} of {checked:.0f} parameters checked{f', {name} first' if name else ''})"
        line = f"; backward() at {where.location} adds onto them" if where is not None else ""
        seen = f" So in {rows.reused_rows} of {rows.checked_rows} checked steps." if rows.checked_rows else ""
        return (
            f"At step {first} {self._who(index)} applied gradients that its step before had already used{of}: nothing clears "
            f"them between{line}.{seen}"
        )

    def _who(self, index: int) -> str:
        name = self._names.get(index) or "the optimizer"
        return f"{name} (optimizer {index})" if len({*self._optimizers, *self._names}) > 1 else name


def _evidence(index: int, rows: _Reuse, fact: Event) -> dict[str, float | int | str]:
    evidence: dict[str, float | int | str] = {
        "optimizer": index,
        "steps_checked": rows.checked_rows,
        "steps_with_used_gradients": rows.reused_rows,
    }
    for name in ("parameters_checked", "parameters_reused", "previous_step"):
        value = whole(fact, name)
        if value is not None:
            evidence[name] = value
    if text(fact, "parameter"):
        evidence["parameter"] = text(fact, "parameter")
    return evidence
