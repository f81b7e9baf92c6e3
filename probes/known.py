"""One optimizer we have met, and what was measured of the step that it is taking."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch

from . import discover
from .asleep import Mark
from .reuse import GradientReuse, Reuse
from .window import NAN, Window

Parameters = list[torch.Tensor]


class Known:
    """One optimizer we have met."""

    def __init__(
        self, index: int, optimizer: torch.optim.Optimizer, steps_so_far: int, gone: Callable[[object], None] | None = None
    ) -> None:
        self.index = index
        self.optimizer = weakref.ref(optimizer, gone)
        self.counted = discover.own_step_count(optimizer)
        # One that comes when others have long been stepping takes their place (models rebuilt, a later phase) and counts on.
        self.steps = self.counted or (steps_so_far if steps_so_far > 1 else 0)
        self.last_end = NAN
        self.row: Mark | None = None
        "At its last full row."
        self.began = 0.0
        self.now = Observation()
        self.evaluates_again = False
        "Whether its closure goes over one batch several times a step (LBFGS)."
        self.accumulates: int | None = None
        "By how many micro-batches the loop divides its losses, 1 for not at all: as its first step of several shows."
        self.has_shares = False
        "Whether the losses of a step's micro-batches are shares in the mean over all its items."
        self.passes: tuple[int, ...] = ()
        "Numbers of backward passes that its steps had."
        self.counts_last: int | None = None
        "How many of a step's backward passes went into it, the newest time; None where all did."
        self.notes: dict[str, Any] = {}
        "What a probe wants to remember of it, under the probe's own name."
        self.looked_for = False
        "Whether the model of its parameters was looked for."
        self.root: Callable[[], torch.nn.Module | None] = _nowhere
        "The model of its parameters, held weakly."
        self.has_no_root = False
        "Among the models known so far."
        self.refresh(optimizer)

    def recount(self, optimizer: torch.optim.Optimizer) -> None:
        """Take over its own count again, where it keeps one."""
        counted = discover.own_step_count(optimizer)
        self.steps = self.steps if counted is None else counted

    def refresh(self, optimizer: torch.optim.Optimizer) -> None:
        """Its parameters, anew: groups were added or replaced."""
        self.layout = layout_of(optimizer)
        self._take([p for group in optimizer.param_groups for p in group["params"]])
        self.has_no_root = False

    def let_go(self) -> None:
        """It is gone: keep none of its parameters alive."""
        self._take([])
        self.now = Observation()

    def _take(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.identities = tuple(map(id, parameters))
        self.reuse = GradientReuse(parameters)
        self.columns: tuple[int, ...] = ()
        self.table = -1
        "In which it has those columns."


def _nowhere() -> None:
    """In place of a weak reference to a model that was not met yet."""


class Observation:
    """What the pre-hook of one step measured."""

    __slots__ = ("closure", "indices", "learning_rate", "made_of", "norms", "reuse", "window")

    def __init__(self) -> None:
        self.closure = False
        "Whether forward and backward ran inside step(), so that the gradients of its beginning say nothing."
        self.window: Window | None = None
        self.reuse: Reuse | None = None
        self.learning_rate = NAN
        self.indices: list[int] = []
        self.norms: list[torch.Tensor] = []
        self.made_of: Any = None
        "What the probe of the first non-finite value noted of the step's inputs and loss."


def layout_of(optimizer: torch.optim.Optimizer) -> tuple[tuple[int, int], ...]:
    """What changes when parameters come or go; cheap enough for every observed step."""
    return tuple([(id(group["params"]), len(group["params"])) for group in optimizer.param_groups])
