"""Which models were trained since one looked the last time: of several that live, those that rest have the weights of an earlier step."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from .known import Known
    from .session import Session

MOST_MODELS = 16
"""Of an ensemble, told at a time."""


class TrainedSince:
    """By the counts of the optimizers: the one that paces the probes may rest long before that shows."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._counts: dict[int, int] = {}
        "Steps of the optimizers when looked at the last time, by their numbers."
        self._newest: list[weakref.ref[torch.nn.Module]] = []
        "Models of those that had stepped then."

    def look(self) -> list[torch.nn.Module]:
        """The models trained since the last look; those of the last where none was."""
        stepped = self._stepped()
        if stepped or not self._newest:
            self._newest = [weakref.ref(root) for root in self._models_of(stepped)]
        self._counts = {known.index: self._session.steps.count_of(known) for known in self._session.optimizers.everyone()}
        return self._living_newest()

    def newest(self) -> torch.nn.Module | None:
        """The model that was trained last: the main one where it is among several."""
        stepped = self._stepped()
        found = self._models_of(stepped) if stepped else self._living_newest()
        main = self._session.steps.main_root()
        if any(root is main for root in found) or not (found or self._newest):
            return main
        return next(iter(found), None)  # None where it is gone

    def _stepped(self) -> list[Known]:
        count_of = self._session.steps.count_of
        return [known for known in self._session.optimizers.everyone() if count_of(known) > self._counts.get(known.index, 0)]

    def _models_of(self, stepped: list[Known]) -> list[torch.nn.Module]:
        steps = self._session.steps
        found = [steps.root_of(known) for known in stepped] or [steps.main_root()]
        return list({id(root): root for root in found if root is not None}.values())[:MOST_MODELS]

    def _living_newest(self) -> list[torch.nn.Module]:
        return [root for root in (reference() for reference in self._newest) if root is not None]
