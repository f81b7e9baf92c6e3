"""The steps between observed ones: how many are left, and what they cost although nothing is looked at."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .known import Known
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
        self.main: Any = self
        "The optimizer (a Known) whose steps are slept through; while awake this object, which is none."
        self.until = 0
        "Its step after which we wake."
        self.then_loss_only = False
        self.spent_s = 0.0
        "Seconds that sleeping steps have cost so far: an estimate from `step_s`."
        self.step_s = 0.0
        "What torch's call of our two hooks costs a step."
        self._began_at = 0
        self._others = self._others_in_a_row = 0
        "Steps of other optimizers in this stretch, and since the main one's newest step."
        self._main_at = 0
        "The main one's step when another stepped last."

    def begin(self, plan: Plan, main: Known) -> None:
        self.main, self._began_at, self.until = main, main.steps, main.steps + plan.asleep
        self.then_loss_only = plan.loss_only
        self._others = self._others_in_a_row = 0

    def other_stepped(self) -> bool:
        """Whether so many steps of other optimizers came in a row that the main one rests: then they end the sleep."""
        self._others += 1
        self._others_in_a_row = self._others_in_a_row + 1 if self._main_at == self.main.steps else 1
        self._main_at = self.main.steps
        return self._others_in_a_row >= MOST_OTHERS

    def account(self) -> None:
        """Add up what this stretch has cost so far."""
        if self.main is not self:
            self.spent_s += self.step_s * (self.main.steps - self._began_at + self._others)
            self._began_at, self._others = self.main.steps, 0

    def wakes(self) -> None:
        self.account()
        self.main = self

    def calibrate(self, calls: int = 2000) -> None:
        """Measure the two hooks' cost with functions of their kind and size."""
        clock = time.perf_counter
        one = _Stepping()
        known, asleep = {id(self): one}, 0

        def hook(optimizer: object, args: object, kwargs: object) -> None:
            found = known.get(id(optimizer))
            if found is one and found.mode == asleep:
                found.steps = steps = found.steps + 1
                if steps > found.most:
                    found.most = steps

        best_s = float("inf")
        for _ in range(3):
            began = clock()
            for _ in range(calls):
                for each in (hook,):
                    each(self, (), {})
            best_s = min(best_s, clock() - began)
        self.step_s = 1.5 * best_s / calls  # the hook before the step does a good deal less than the one after it


class _Stepping:
    def __init__(self) -> None:
        self.steps = self.most = self.mode = 0
