"""missing-zero-grad: an optimizer's step() applies gradients that its earlier step() has already used."""

from __future__ import annotations

from typing import ClassVar, TypeVar

import numpy as np

from forgemon.chunk import Chunk, Event, Rows
from forgemon.detectors.candidate import Candidate
from forgemon.detectors.in_a_row import InARow
from forgemon.journal import number, text, where_of, whole

T = TypeVar("T")

SHARE = 0.5
"""Share of the checked parameters that must hold used gradients."""
IN_A_ROW = 2
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
        self.reused_rows = 0
        self.checked_rows = 0
        self._in_a_row = InARow()

    @property
    def stands(self) -> bool:
        return self._in_a_row.length > 0

    def feed(self, rows: Rows) -> None:
        reused = rows["gradients_reused"] >= SHARE
        self.checked_rows += len(rows)
        self.reused_rows += int(reused.sum())
        lengths, begins = self._in_a_row.feed(rows["step"], reused)
        hits = np.flatnonzero(lengths >= IN_A_ROW)
        if len(hits):
            self.first_step = int(begins[hits[0]]) if self.first_step is None else self.first_step
            self.last_step = int(rows["step"][hits[-1]])


class MissingZeroGrad:
    """Exact: the probe compares each gradient with the one the same optimizer used before. Two rows in a row make an alarm."""

    symptoms: ClassVar[tuple[str, ...]] = ("missing-zero-grad",)

    def __init__(self) -> None:
        self._optimizers: dict[int, _Reuse] = {}
        self._names: dict[int, str] = {}
        self._facts: dict[int, Event] = {}
        "The first fact of each optimizer."

    def feed(self, chunk: Chunk) -> None:
        rows = chunk.steps[np.isfinite(chunk.steps["gradients_reused"])]
        for optimizer in np.unique(rows["optimizer"]).tolist():
            if optimizer in self._optimizers or len(self._optimizers) < MOST_OPTIMIZERS:
                self._optimizers.setdefault(optimizer, _Reuse()).feed(rows[rows["optimizer"] == optimizer])
        for event in chunk.events:
            if event["kind"] == "fact" and text(event, "fact") == "missing-zero-grad":
                self._remember(self._facts, whole(event, "optimizer") or 0, event)
            elif event["kind"] == "optimizer":
                self._remember(self._names, whole(event, "index") or 0, text(event, "class"))

    @staticmethod
    def _remember(known: dict[int, T], index: int, value: T) -> None:
        if len(known) < MOST_OPTIMIZERS:
            known.setdefault(index, value)

    def candidates(self) -> list[Candidate]:
        found = [(s.first_step, i, s) for i, s in self._optimizers.items() if s.first_step is not None]
        return [self._candidate(index, state, first) for first, index, state in sorted(found, key=lambda f: f[:2])]

    def _candidate(self, index: int, state: _Reuse, first: int) -> Candidate:
        fact = self._facts.get(index, {})
        where, name, previous = where_of(fact), text(fact, "parameter"), whole(fact, "previous_step")
        checked, reused = number(fact, "parameters_checked"), number(fact, "parameters_reused")
        evidence: dict[str, float | int | str] = {
            "optimizer": index,
            "steps_checked": state.checked_rows,
            "steps_with_used_gradients": state.reused_rows,
        }
        of = ""
        if np.isfinite(checked) and np.isfinite(reused):
            evidence |= {"parameters_checked": int(checked), "parameters_reused": int(reused)}
            of = f" ({int(reused)} of {int(checked)} parameters checked{f', {name} first' if name else ''})"
        if name:
            evidence["parameter"] = name
        if previous is not None:
            evidence["previous_step"] = previous
        line = f"; backward() at {where.location} adds onto them" if where is not None else ""
        until = "" if state.stands else f" It stood until step {state.last_step}."
        return Candidate(
            symptom="missing-zero-grad",
            cause="missing-zero-grad",
            level="alarm",
            first_step=first,
            last_step=state.last_step,
            summary=f"At step {first} {self._who(index)} applied gradients that its step before had already used{of}: nothing "
            f"clears them between{line}. So in {state.reused_rows} of {state.checked_rows} checked steps.{until}",
            refute=REFUTE,
            evidence=evidence,
            where=where,
            stands=state.stands,
        )

    def _who(self, index: int) -> str:
        name = self._names.get(index) or "the optimizer"
        return f"{name} (optimizer {index})" if len(self._optimizers) > 1 else name
