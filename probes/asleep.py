"""The steps between observed ones: how many are left, and what they cost although nothing is looked at."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from .dynamo import skip
from .turns import Turns

if TYPE_CHECKING:
    from .known import Known
    from .schedule import Plan

FILLS_CACHES = 1 << 21
"""Bytes read between two calls that are timed."""
BOTH_HOOKS = 3.0
"""What torch's call of our two hooks took in a loop, in times of what the body of the one takes: 2.0 to 0.6 microseconds measured."""


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


class Countdown:
    """What a step that is slept through looks at, in one place: the loop has pushed all of ours out of the caches by then, so that
    each object costs more than what is done with it."""

    __slots__ = ("left", "of")

    def __init__(self) -> None:
        self.of = 0
        "id of the optimizer whose steps are slept through; 0 while there is none."
        self.left = 0
        "Steps until we wake."


class Asleep:
    """One stretch of steps not looked at after the other."""

    def __init__(self) -> None:
        self.main: Any = self
        "The optimizer (a Known) whose steps are slept through; while awake this object, which is none."
        self.countdown = Countdown()
        self.then_loss_only = False
        self.spent_s = 0.0
        "Seconds that sleeping steps have cost so far: an estimate from `step_s`."
        self.step_s = 0.0
        "What torch's call of our two hooks costs a step."
        self._until = 0
        "The main one's step after which we wake."
        self._accounted = 0
        self._others = 0
        "Steps of other optimizers in this stretch."
        self._turns = Turns()
        self._main_at = 0
        "The main one's step when another stepped last."

    def begin(self, plan: Plan, main: Known) -> None:
        self._accounted, self._until, self.then_loss_only = main.steps, main.steps + plan.asleep, plan.loss_only
        self._others = 0
        self._turns.clear()
        optimizer, self.countdown.left = main.optimizer(), plan.asleep
        self.main = main
        self.countdown.of = id(optimizer) if optimizer is not None else 0

    @property
    def step(self) -> int:
        """That of the main one; 0 while awake, when it counts itself."""
        return 0 if self.main is self else self._until - self.countdown.left

    def other_stepped(self, other: int) -> None:
        """A step of another than the main one came."""
        self._others += 1
        if self._main_at != self.step:
            self._main_at = self.step
            self._turns.clear()
        self._turns.stepped(other)

    def main_rests(self, living: int) -> bool:
        """Whether of `living` optimizers others stepped so often since the main one's newest step that it does."""
        return self._main_at == self.step and self._turns.main_rests(living)

    def account(self) -> None:
        """Add up what this stretch has cost so far, and give the main one its count."""
        if self.main is not self:
            self.main.steps = step = self.step
            self.spent_s += self.step_s * (step - self._accounted + self._others)
            self._accounted, self._others = step, 0

    def wakes(self) -> None:
        self.account()
        self.countdown.of = 0
        self.main = self

    def gone(self, optimizer: Known) -> None:
        """It lives no more: another may come to its address."""
        if self.main is optimizer:
            self.countdown.of = 0

    def calibrate(self, calls: int = 50) -> None:
        """Measure what a call of the hook costs that most steps come by, after something else has filled the caches."""
        clock, countdown = time.perf_counter, Countdown()
        countdown.of = id(self)
        hook, fill = counting(countdown, lambda optimizer: None), b"\1" * FILLS_CACHES
        took = []
        for _ in range(calls):
            fill.find(0)
            began = clock()
            between = clock()
            hook(self, (), {})
            took.append(clock() - between - (between - began))
        self.step_s = BOTH_HOOKS * max(0.0, sorted(took)[calls // 2])


def counting(countdown: Countdown, otherwise: Callable[[Any], None]) -> Callable[[Any, Any, Any], None]:
    """torch's hook after every optimizer step: counts down those slept through, `otherwise(optimizer)` at all others."""

    def after(optimizer: Any, args: Any, kwargs: Any) -> None:
        if id(optimizer) == countdown.of:
            countdown.left = left = countdown.left - 1
            if left > 0:
                return
        otherwise(optimizer)

    skip([after.__code__])
    return after
