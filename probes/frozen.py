"""Trainable parameters of an optimizer that no gradient ever reaches, while others of it get theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from .known import Known, Observation
from .owners import Owners
from .probe import Probe

if TYPE_CHECKING:
    from .session import Session

FACT = "frozen-parameters"
STEPS = 20
"""Observed steps without a gradient after which a parameter counts as frozen."""
NAMED = 8


class Reached:
    """Which parameters of an optimizer have had a gradient."""

    def __init__(self) -> None:
        self.layout: object = None
        self.steps = 0
        self.never: set[int] = set()
        "Positions of those that have had none, and required one at every observed step."
        self.now: Observation | None = None


class FrozenParameters(Probe):
    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._reached = Owners(Reached)

    def step_begins(self, known: Known) -> None:
        self._reached.of(known).now = known.now

    def step_ended(self, known: Known) -> None:
        reached = self._reached.of(known)
        now, reached.now = reached.now, None
        if now is None or not now.indices:
            return
        if reached.layout != known.layout:
            reached.layout, reached.steps = known.layout, 0
            reached.never = set(range(len(known.parameters)))
        reached.steps += 1
        if reached.never:
            reached.never.difference_update(now.indices)
            reached.never = {i for i in reached.never if _can_be_reached(known.parameters[i])}
        if reached.steps >= STEPS:
            self._judge(known, reached)

    def _judge(self, known: Known, reached: Reached) -> None:
        if not reached.never:
            self.session.facts.absent(FACT, known.index)
        elif reached.steps % STEPS == 0:
            positions = sorted(reached.never)
            names = self.session.steps.parameters
            self.session.facts.seen(
                FACT,
                known.index,
                where=self.session.user_line(),
                optimizer=type(known.optimizer()).__name__,
                parameters=len(positions),
                of_parameters=len(known.parameters),
                names=[names.name_of(known.parameters[i]) or f"optimizer{known.index}, number {i}" for i in positions[:NAMED]],
                steps_observed=reached.steps,
            )


def _can_be_reached(parameter: torch.Tensor) -> bool:
    """Whether it asks for a gradient and this rank has some of it: of a sharded model it may have nothing."""
    local: Any = getattr(parameter, "_local_tensor", parameter)  # DTensor
    return parameter.requires_grad and local.numel() > 0
