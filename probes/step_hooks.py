"""Torch's hooks around every optimizer step. While asleep they count and do nothing else."""

from __future__ import annotations

from _thread import get_ident
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from .asleep import counting
from .dynamo import skip
from .guard import ASLEEP, AWAKE
from .moment import step_running

if TYPE_CHECKING:
    from .guard import Guard
    from .steps import Steps

Hook = Callable[[torch.optim.Optimizer, Any, Any], None]


class StepHooks:
    """To be put in and taken out while no step iterates over them."""

    def __init__(self, steps: Steps, guard: Guard) -> None:
        self._steps, self._guard = steps, guard
        self._handles: list[Any] = []

    def put_in(self) -> None:
        """Between the hooks of a step that runs, or while none does."""
        self._steps.ends_a_step_begun_before_us = step_running()
        before, after = self._hooks()
        self._handles = [register_optimizer_step_pre_hook(before), register_optimizer_step_post_hook(after)]

    def removals(self) -> list[Callable[[], None]]:
        """What takes each of them out."""
        return [handle.remove for handle in self._handles]

    def _hooks(self) -> tuple[Hook, Hook]:
        steps, guard, countdown = self._steps, self._guard, self._steps.slept.countdown
        begins, ends, awakes = (guard(hook, always=True, trains=True) for hook in (steps.begins, steps.ends, steps.awakes))

        def before(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
            if not countdown.of and guard.mode == AWAKE:
                begins(optimizer)

        def not_slept_through(optimizer: torch.optim.Optimizer) -> None:
            try:
                if guard.thread.ident != get_ident() and guard.active and guard.thread.is_another(trains=True):
                    return
                if guard.mode != ASLEEP:
                    ends(optimizer)
                elif steps.wakes_us(optimizer):
                    awakes(optimizer)
            except Exception as error:
                guard.swallow_ours(not_slept_through, error)

        skip([before.__code__, not_slept_through.__code__])
        return before, counting(countdown, not_slept_through)
