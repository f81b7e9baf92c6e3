"""When the program begins to train another model: with an optimizer that holds nothing of what was trained before."""

from __future__ import annotations

import bisect
import weakref
from typing import TYPE_CHECKING, Any

import torch

from .modules import parameters
from .probe import Probe

if TYPE_CHECKING:
    from .instruments import Instruments
    from .known import Known
    from .session import Session

MOST_MODELS = 64
MOST_BEGINNINGS = 10_000


class NewModels(Probe):
    """Tells of each when its optimizer is made, or steps for the first time where it was made before training began (`another_model`).

    Whether it takes the place of what was trained before (a fold, a cell that runs again) or is trained beside it shows only as they
    step: `number_at` says it of results.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._trained: dict[int, weakref.ref[torch.nn.Module]] = {}
        "By the number of the optimizer; it may be gone when another one is made for the same model."
        self._beginnings: list[int] = []
        "Steps after which another model took the place of those before."
        self._begins_at: int | None = None
        "The same of one of which it does not show yet."
        self._before: dict[int, int] = {}
        "Counts that the optimizers of then had, by their numbers."
        self._shows_after = 0
        "Step from which on it can be decided."
        self.is_awaited = False
        "Whether such an optimizer was made and has not stepped yet: calls may be those of its model, which is not known."

    def install(self, instruments: Instruments) -> None:
        instruments.always(torch.optim.Optimizer.__init__, None, self._made)

    def step_begins(self, known: Known) -> None:
        self.is_awaited = self.is_awaited and known.index in self._before
        root = None if known.index in self._trained else self.session.steps.root_of(known)
        if root is not None:
            if len(self._trained) >= MOST_MODELS:
                del self._trained[next(iter(self._trained))]
            self._trained[known.index] = weakref.ref(root)

    def number_at(self, step: int) -> int:
        """Of the model that a validation pass at `step` judges, counted from 0; those that are trained side by side are one."""
        self._decide()
        return bisect.bisect_left(self._beginnings, step)

    def has_rested(self, known: Known) -> bool:
        """Whether another model took its place, and it has not stepped since."""
        self._decide()
        if self._begins_at is not None or not self._beginnings:
            return False
        return self._before.get(known.index) == self.session.steps.count_of(known)

    def _made(self, values: tuple[Any, ...], _: Any) -> None:
        if self.session.step_now() and not self._holds_trained(values[0]):
            self.is_awaited = True
            self._decide()
            self._may_begin(0)
            self.session.probes.tell("another_model")

    def steps_first(self, optimizer: torch.optim.Optimizer) -> bool:
        """It is not known yet, and is about to step or has just done so. Whether something was trained before, of which it holds none."""
        self._decide()
        if self.session.steps.pace.main is None or self._holds_trained(optimizer):
            return False
        if self._begins_at is None:
            self._may_begin(1)  # where each has its turn, that of the others comes after it
            self.session.probes.tell("another_model")
        return True

    def _may_begin(self, turns: int) -> None:
        """`turns`: its own steps, that say nothing of whether others rest."""
        if self._begins_at is None and len(self._beginnings) < MOST_BEGINNINGS:
            self._begins_at, self._before = self.session.step_now(), self._counts()
            self._shows_after = self._begins_at + turns

    def _decide(self) -> None:
        """Once optimizers have stepped: whether those of before are among them."""
        if self._begins_at is None or self.session.step_now() <= self._shows_after:
            return
        if not any(count > self._before.get(index, count) for index, count in self._counts().items()):
            self._beginnings.append(self._begins_at)
        self._begins_at = None

    def _counts(self) -> dict[int, int]:
        return {known.index: self.session.steps.count_of(known) for known in self.session.optimizers.everyone()}

    def _holds_trained(self, optimizer: torch.optim.Optimizer) -> bool:
        made = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        if any(not made.isdisjoint(known.identities) for known in self.session.optimizers.everyone()):
            return True
        models = {id(root): root for root in (trained() for trained in self._trained.values()) if root is not None}
        return any(id(parameter) in made for root in models.values() for parameter in parameters(root))
