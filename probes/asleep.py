"""The steps between observed ones: how many are left, and what they cost although nothing is looked at."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .schedule import Plan

MOST_OTHERS = 50
"""Steps of other optimizers in a row after which the main one is taken to rest."""


class Mark(NamedTuple):
    """A moment at the end of a step, to take differences from."""

    time: float = float("nan")
    steps: int = 0
    spent_in_callbacks_s: float = 0.0
    spent_asleep_s: float = 0.0

    @property
    def spent_s(self) -> float:
        return self.spent_in_callbacks_s + self.spent_asleep_s

    def spent_a_step(self, later: Mark) -> float:
        """Mean cost of a step since then; NaN when this is no mark yet."""
        if self.time != self.time:
            return float("nan")
        return (later.spent_s - self.spent_s) / max(1, later.steps - self.steps)


class Asleep:
    """One stretch of steps not looked at after the other."""

    def __init__(self) -> None:
        self.left = 0
        "Steps of the main optimizer until we wake."
        self.slept = 0
        "Steps of all optimizers in this stretch."
        self.others = 0
        "Steps of other optimizers since the main one's."
        self.then_loss_only = False
        self.spent_s = 0.0
        "Seconds that sleeping steps have cost so far: an estimate from `step_s`."
        self.step_s = 0.0
        "What torch's call of our two hooks costs a step."

    def begin(self, plan: Plan) -> None:
        self.left = plan.asleep
        self.then_loss_only = plan.loss_only
        self.slept = self.others = 0

    def step(self, is_main: bool) -> None:
        """A step ended. Those of other optimizers end the sleep only when there are many in a row: the main one rests."""
        self.slept += 1
        if is_main:
            self.left -= 1
            self.others = 0
        else:
            self.others += 1
            if self.others >= MOST_OTHERS:
                self.left = 0

    def wakes(self) -> None:
        self.spent_s += self.step_s * self.slept
        self.slept = 0

    def calibrate(self, calls: int = 2000) -> None:
        """Measure the two hooks' cost with functions of their kind and size."""
        clock = time.perf_counter
        known = {id(self): self}
        is_asleep = True

        def hook(optimizer: object, args: object, kwargs: object) -> None:
            if is_asleep:
                known[id(optimizer)].step(True)

        best_s = float("inf")
        for _ in range(3):
            began = clock()
            for _ in range(calls):
                for one in (hook,):
                    one(self, (), {})
            best_s = min(best_s, clock() - began)
        self.left = self.slept = 0
        self.step_s = 1.5 * best_s / calls  # the hook before the step does a good deal less than the one after it
