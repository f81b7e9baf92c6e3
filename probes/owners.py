"""Which optimizer a parameter belongs to, and what a probe notes of each optimizer from one of its steps to the next."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch

from .known import Known

SPREAD = 16
"""Parameters of a list that are looked at to find out whose it is."""

MARKED = 4
"""Gradients of an optimizer that tell whether somebody wrote them."""

T = TypeVar("T")


class Owners(Generic[T]):
    """One `T` for each optimizer that was seen to step, found by any of its parameters. Keeps no tensor alive."""

    def __init__(self, new: Callable[[], T]) -> None:
        self._new = new
        self._notes: dict[int, tuple[weakref.ref[Known], T]] = {}
        self._layouts: dict[int, object] = {}
        self._owner: dict[int, int] = {}

    def of(self, known: Known) -> T:
        """What is noted of `known`, which is about to step."""
        if self._layouts.get(known.index) != known.layout:
            self._enter(known)
        return self._notes[known.index][1]

    def _enter(self, known: Known) -> None:
        """It is new, or has other parameters than before."""
        if known.index not in self._notes:
            self._notes[known.index] = (weakref.ref(known), self._new())
        for index in [index for index, (reference, _) in self._notes.items() if reference() is None]:
            del self._notes[index], self._layouts[index]
        self._layouts[known.index] = known.layout
        gone = self._owner.items()
        self._owner = {identity: index for identity, index in gone if index != known.index and index in self._notes}
        self._owner.update((id(parameter), known.index) for parameter in known.parameters)

    def all(self) -> list[T]:
        return [notes for _, notes in self._notes.values()]

    def items(self) -> list[tuple[Known, T]]:
        return [(known, notes) for reference, notes in self._notes.values() if (known := reference()) is not None]

    def of_parameters(self, parameters: Any) -> list[tuple[Known, T]]:
        """Of the optimizers to which `parameters` belong; where they cannot be read (a spent generator) of the only optimizer."""
        listed = listed_parameters(parameters)
        if listed is None:
            only = self.items()
            return only if len(only) == 1 else []
        found = {self._owner.get(id(p)) for p in listed[:: max(1, len(listed) // SPREAD)]}
        return [(known, notes) for known, notes in self.items() if known.index in found]


def listed_parameters(parameters: Any) -> Sequence[torch.Tensor] | None:
    """`parameters` where reading them does no harm; None for a generator and for what would run code of the user's."""
    if isinstance(parameters, torch.Tensor):
        return [parameters]
    return parameters if type(parameters) in (list, tuple) else None


def gradient_marks(known: Known) -> list[tuple[int, int]]:
    """What changes when somebody writes or replaces one of the first gradients."""
    found = []
    for parameter in known.parameters:
        gradient = parameter.grad
        if gradient is not None:
            found.append((id(gradient), gradient._version))
            if len(found) == MARKED:
                break
    return found
