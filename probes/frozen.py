"""Trainable parameters of an optimizer that no gradient ever reaches, while others of it get theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from .cut_graph import Cut, CutGraph
from .known import Known, Observation
from .owners import Owners
from .probe import Probe

if TYPE_CHECKING:
    from .session import Session

FACT = "frozen-parameters"
STEPS = 20
"""Observed steps without a gradient after which a parameter counts as frozen."""
LOOK_AFTER = 2
"""Observed steps without a gradient after which the program is asked, for the next, where the graph is cut."""
MOST_LOOKS = 3
NAMED = 8


class Reached:
    """Which parameters of an optimizer have had a gradient."""

    def __init__(self) -> None:
        self.layout: object = None
        self.steps = 0
        self.never: set[int] = set()
        "Positions of those that have had none, and required one at every observed step."
        self.cut: dict[int, Cut] = {}
        "Where it was seen, by position."
        self.looks = 0
        self.now: Observation | None = None


class FrozenParameters(Probe):
    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._reached = Owners(Reached)
        self._graph = CutGraph(session.lines)
        self._looking: Reached | None = None
        "Whose next step is looked at."
        session.taken_out.append(self._graph.end)

    def awoke(self) -> None:
        self._graph.end()
        self._looking = None

    def step_begins(self, known: Known) -> None:
        reached = self._reached.of(known)
        reached.now = known.now
        if self._looking is reached:
            self._looking, reached.cut = None, self._graph.end()

    def step_ended(self, known: Known) -> None:
        reached = self._reached.of(known)
        now, reached.now = reached.now, None
        if now is None or not now.indices:
            return
        if reached.layout != known.layout:
            reached.layout, reached.steps, reached.looks, reached.cut = known.layout, 0, 0, {}
            reached.never = set(range(len(known.parameters)))
        reached.steps += 1
        if reached.never:
            reached.never.difference_update(now.indices)
            reached.never = {i for i in reached.never if _can_be_reached(known.parameters[i])}
        self._judge(known, reached, reached.never if reached.steps >= STEPS else reached.never.intersection(reached.cut))
        if reached.never and not reached.cut and LOOK_AFTER <= reached.steps < STEPS:
            self._look(known, reached)

    def _look(self, known: Known, reached: Reached) -> None:
        """Ask where the graph is cut between this step and the next."""
        if self._looking is None and reached.looks < MOST_LOOKS:
            self._looking = reached
            reached.looks += 1
            self._graph.begin({id(known.parameters[i]): i for i in reached.never})

    def _judge(self, known: Known, reached: Reached, frozen: set[int]) -> None:
        if not frozen:
            self.session.facts.absent(FACT, known.index)
        elif reached.steps % STEPS == 0 or not self.session.facts.times(FACT, known.index):
            positions = sorted(frozen)
            names = self.session.steps.parameters
            cuts = [reached.cut[i] for i in positions if i in reached.cut]
            self.session.facts.seen(
                FACT,
                known.index,
                where=cuts[0].where if cuts else self.session.user_line(),
                cut_by=cuts[0].by if cuts else None,
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
