"""Detectors that judge one optimizer, in a program that trains one model after the other: each training has a detector of its own.

A cell that runs again, the folds of a cross-validation and a search over learning rates go on in one process: there the next optimizer
has new weights, and those before it never step again. Several optimizers in turn (a GAN), and a later one of the same weights (training
in phases), are no trainings of their own: of them nothing is said.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, TypeVar, get_args

import numpy as np

from forgemon.chunk import Chunk, Gradients, ParameterTable, Rows, Updates
from forgemon.detectors.candidate import Candidate, Detector
from forgemon.findings import Level
from forgemon.journal import flag, whole

MOST_TRAININGS = 64
"""Optimizers with a higher number share one detector, which says nothing where they are several."""

Measured = TypeVar("Measured", Gradients, Updates)


class EachTraining:
    """For one kind of detector."""

    kind: ClassVar[type[Detector]]
    symptoms: ClassVar[tuple[str, ...]]

    def __init__(self) -> None:
        self._untrained = self.kind()
        "Has seen every event and nothing else: what the detector of another training begins as."
        self._detectors: dict[int, Detector] = {}
        "By the number of the optimizer."
        self._stepped: list[int] = []
        "Numbers of those that did, in the order of their first steps."
        self._apart = True
        "Whether none stepped after a later one had, and not too many did."
        self._with_new_weights: set[int] = set()

    def feed(self, chunk: Chunk) -> None:
        if self._apart:
            self._add_order(chunk.steps)
        if not self._apart:  # and it stays so
            self._detectors.clear()
            return
        self._add_events(chunk)
        for place, measured in _by_place(chunk).items():
            if place not in self._detectors:
                self._detectors[place] = copy.deepcopy(self._untrained)
            self._detectors[place].feed(measured)

    def _add_events(self, chunk: Chunk) -> None:
        if chunk.events:
            events = Chunk(chunk.steps[:0], events=chunk.events)
            for detector in (self._untrained, *self._detectors.values()):
                detector.feed(events)
        for event in chunk.events:
            if event["kind"] == "optimizer" and flag(event, "new_weights") and len(self._with_new_weights) <= MOST_TRAININGS:
                self._with_new_weights.add(whole(event, "index") or 0)

    def _add_order(self, rows: Rows) -> None:
        numbers = rows["optimizer"].astype(np.int64)
        for number in numbers[np.flatnonzero(np.diff(numbers, prepend=-1))].tolist():
            newest = self._stepped[-1] if self._stepped else -1
            if number > newest:
                self._stepped.append(number)
            if number < newest or newest >= MOST_TRAININGS < number != newest:
                self._apart = False
                return

    def candidates(self) -> list[Candidate]:
        """Of each symptom the gravest, and of several the newest; what an earlier training showed is over."""
        if not (self._apart and self._with_new_weights.issuperset(self._stepped[1:])):
            return []
        found: dict[str, Candidate] = {}
        for number in self._stepped:
            is_newest = number == self._stepped[-1]
            for candidate in self._detectors[_place(number)].candidates():
                before = found.get(candidate.symptom)
                if before is None or _gravity(candidate) <= _gravity(before):
                    found[candidate.symptom] = candidate if is_newest else replace(candidate, stands=False)
        return list(found.values())


def each_training(kind: type[Detector]) -> type[EachTraining]:
    """A detector of that kind for each training of the process."""
    return type(kind.__name__, (EachTraining,), {"kind": kind, "symptoms": kind.symptoms})


def _gravity(candidate: Candidate) -> int:
    return get_args(Level).index(candidate.level)


def _place(number: int) -> int:
    return min(number, MOST_TRAININGS)


def _by_place(chunk: Chunk) -> Mapping[int, Chunk]:
    """What was measured at the steps of each optimizer."""
    steps, places = chunk.steps, np.minimum(chunk.steps["optimizer"], MOST_TRAININGS)
    gradients = [part for table in chunk.gradients for part in _parts(table)]
    updates = [part for table in chunk.updates for part in _parts(table)]
    of_tables = {_of(part.table) for part in gradients} | {_of(part.table) for part in updates}
    return {
        place: Chunk(
            steps=steps[places == place],
            gradients=tuple(part for part in gradients if _of(part.table) == place),
            updates=tuple(part for part in updates if _of(part.table) == place),
        )
        for place in sorted({*np.unique(places).tolist(), *of_tables})
    }


def _of(table: ParameterTable) -> int:
    """The place of the optimizer that has all its columns."""
    return _place(table.optimizers[0]) if table.optimizers else 0


def _parts(measured: Measured) -> list[Measured]:
    """The columns of each optimizer apart, with the rows in which it has a number: those of its own steps."""
    table = measured.table
    numbers = sorted(set(table.optimizers))
    if len(numbers) < 2:
        return [measured]
    parts = []
    for number in numbers:
        columns = [column for column, optimizer in enumerate(table.optimizers) if optimizer == number]
        rows = _columns(measured.rows, columns)
        seen = np.zeros(len(rows), bool)
        for name in (rows.dtype.names or ())[1:]:
            seen |= ~np.isnan(rows[name]).all(axis=1)
        parts.append(replace(measured, table=_table(table, columns), rows=rows[seen]))
    return parts


def _columns(rows: Rows, columns: list[int]) -> Rows:
    """Of fields `step` (N,) and others (N, P)."""
    names = rows.dtype.names or ()
    kept = np.empty(
        len(rows), [(name, rows.dtype[name].base, (len(columns),) if rows.dtype[name].shape else ()) for name in names]
    )
    for name in names:
        kept[name] = rows[name][:, columns] if rows.dtype[name].shape else rows[name]
    return kept


def _table(table: ParameterTable, columns: list[int]) -> ParameterTable:
    return replace(
        table,
        names=tuple(table.names[column] for column in columns),
        shapes=tuple(table.shapes[column] for column in columns),
        dtypes=tuple(table.dtypes[column] for column in columns),
        optimizers=tuple(table.optimizers[column] for column in columns),
    )
