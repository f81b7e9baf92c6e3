"""Gradients that no optimizer will use: it holds other tensors than the model that is trained, or a part of the model is in none.

Before this is said, every optimizer of the process is looked for (one may not have stepped yet), and it is made sure that the values
stand still: somebody may optimise them by hand.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, cast

import torch

from .known import Known, Observation
from .modules import parameters
from .probe import MODULES_EVERY, QUIET, Probe

if TYPE_CHECKING:
    from .instruments import Instruments
    from .session import Session

FACT = "optimizer-mismatch"
IN_A_ROW = 3
NAMED = 8
LISTED_EVERY = 64
MOST_OUTSIDE = 32
"""Parameters outside all optimizers that are looked at in each observed step."""
SAMPLED = 4
ENTRIES = 256
"""Parameters, and values of each, that are compared from one step to the next."""


class Suspicion:
    """That some parameters get gradients and no optimizer uses them."""

    def __init__(self) -> None:
        self.times = 0
        self.confirm_at = IN_A_ROW
        "When all optimizers of the process are looked for next."
        self.values: list[torch.Tensor] = []
        "Copies of a few values at the step before."
        self.valued: list[int] = []
        "ids of the parameters they are of."

    def moved(self, parameters: list[torch.Tensor]) -> list[torch.Tensor]:
        """Flags, on the device, of parameters whose values are not those of the step before; and remembers the new ones."""
        identities, values = [id(p) for p in parameters], [_some_values(p) for p in parameters]
        flags = []
        if identities == self.valued:
            pairs = zip(values, self.values, strict=True)
            flags = [(new != old).any().float() if new.shape == old.shape else torch.ones(()) for new, old in pairs]
        self.values, self.valued = values, identities
        return flags


class OptimizerMismatch(Probe):
    """Rests while every parameter is in an optimizer."""

    told_at_rest = ("late_modules", "without_gradients")

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._outside: list[weakref.ref[torch.Tensor]] = []
        "Trainable parameters of models in training mode that are in no optimizer we know."
        self._count_outside = 0
        self._steps = 0
        self._list_at = 0
        "The step at which those outside are listed anew."
        self._steps_inside = 0
        "In a row: steps that found gradients while no parameter was outside."
        self._steps_without = 0
        self._suspicions: dict[int | str, Suspicion] = {}
        self._before: list[tuple[int, int]] = []
        self._reached: set[int] = set()
        "ids of those outside that backward() has reached since the last step."
        self._now: Observation | None = None

    def awoke(self) -> None:
        self._reached.clear()

    def backward_begins(self, root: Any) -> None:
        self._before = [_mark(reference()) for reference in self._outside]

    def backward_ended(self, root: Any) -> None:
        if len(self._before) != len(self._outside):
            return
        for reference, before in zip(self._outside, self._before, strict=True):
            parameter = reference()
            if parameter is not None and _mark(parameter) != before:
                self._reached.add(id(parameter))

    def step_begins(self, known: Known) -> None:
        self._now = known.now

    def step_ended(self, known: Known) -> None:
        now, self._now = self._now, None
        if now is not None and not now.closure:
            found = [p for p in (reference() for reference in self._outside) if p is not None and id(p) in self._reached]
            key: int | str = "in no optimizer" if now.indices else known.index
            if found:
                if key not in self._suspicions:
                    self._begin_suspicion(key)
                self._suspect(known, key, self._suspicions[key], found)
            else:
                self.session.facts.absent(FACT, key)
            if not now.indices:
                self._look_for_models()
        self._reached.clear()
        self._steps_inside = 0 if self._outside else self._steps_inside + 1
        self._goes_on(1)
        if self._steps_inside >= QUIET:
            self.rest()

    # At rest

    def late_modules(self, instruments: Instruments) -> None:
        if self.rests:
            self._goes_on(MODULES_EVERY)
            if self._outside:
                self.resume()

    def without_gradients(self, known: Known) -> None:
        self._steps_inside = 0
        if self.rests:
            self.resume()

    # What is in no optimizer

    def _goes_on(self, steps: int) -> None:
        """List them anew now and then, for models and optimizers that have come or gone, and for what was wrapped or unfrozen."""
        self._steps += steps
        if self._steps >= self._list_at:
            self._list_at = self._steps + min(self._steps, LISTED_EVERY)
            self._list_outside()

    def _list_outside(self) -> None:
        roots, optimizers = self.session.roots(), self.session.optimizers.living()
        held = _held(optimizers)
        trained = [p for root in roots if root.training for p in parameters(root)]
        outside = list({id(p): p for p in trained if p.requires_grad and id(p) not in held}.values())
        self._count_outside = len(outside)
        self._outside = [weakref.ref(p) for p in outside[:: max(1, -(-len(outside) // MOST_OUTSIDE))]]

    def _look_for_models(self) -> None:
        """A step without any gradient: the model that is trained may have come after the optimizer."""
        self._steps_without += 1
        if self._steps_without & (self._steps_without - 1) == 0:
            self.session.look_again()

    # A suspicion

    def _begin_suspicion(self, key: int | str) -> None:
        alive = {known.index for known in self.session.optimizers.everyone()}
        self._suspicions = {one: entry for one, entry in self._suspicions.items() if type(one) is str or one in alive}
        self._suspicions[key] = Suspicion()

    def _suspect(self, known: Known, key: int | str, suspicion: Suspicion, reached: list[torch.Tensor]) -> None:
        sample = [p for p in reached if id(p) in suspicion.valued]
        moved = suspicion.moved(sample if len(sample) == len(suspicion.valued) and sample else reached[:SAMPLED])
        suspicion.times += 1
        if suspicion.times >= suspicion.confirm_at:
            suspicion.confirm_at *= 2
            if not self._in_no_optimizer({id(p) for p in reached}):
                self._suspicions.pop(key)
                self._steps = self._list_at = 0  # so that they are listed anew, without those just found
                return
        index, names = known.index, self.session.steps.parameters
        evidence = {
            "where": self.session.user_line() if suspicion.times >= IN_A_ROW else None,
            "at_step": known.steps,
            "holds_other_tensors": key == index,
            "optimizer": type(known.optimizer()).__name__,
            "parameters_of_optimizer": len(known.parameters),
            "parameters_in_no_optimizer": self._count_outside,
            "names": [names.name_of(p) or str(list(p.shape)) for p in reached[:NAMED]],
        }

        def deliver(numbers: list[float]) -> None:
            if any(numbers):  # optimised by hand
                suspicion.times = 0
                suspicion.confirm_at = IN_A_ROW
                self.session.facts.absent(FACT, key)
            elif suspicion.times >= IN_A_ROW:
                self.session.facts.seen(FACT, key, **evidence)

        if moved:
            self.session.transfer.submit(moved, deliver)
        else:
            deliver([])

    def _in_no_optimizer(self, parameters: set[int]) -> bool:
        """Whether none of all the process's optimizers holds them; one that does is known from now on."""
        found = self.session.looks.live_objects()
        if found is None:
            return False  # there may be one
        holders = [optimizer for optimizer in found[0] if parameters & _held([optimizer])]
        for optimizer in holders:
            self.session.steps.know(optimizer)
        return not holders


def _held(optimizers: list[torch.optim.Optimizer]) -> set[int]:
    return {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}


def _mark(parameter: torch.Tensor | None) -> tuple[int, int]:
    gradient = parameter.grad if parameter is not None else None
    return (0, 0) if gradient is None else (id(gradient), gradient._version)


@torch.no_grad()
def _some_values(parameter: torch.Tensor) -> torch.Tensor:
    values = parameter.detach()
    local: Any = getattr(values, "_local_tensor", values)  # DTensor
    flat = local.reshape(-1) if local.is_contiguous() else local[(0,) * (local.dim() - 1)]
    return cast(torch.Tensor, flat[:: max(1, flat.numel() // ENTRIES)].clone())
