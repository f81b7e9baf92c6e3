"""Validation passes that begin with nothing rare: where a result shows of one that was slept through, the next is waited for awake.

A loop that forgets eval(), has no loader for validation and clips gradients (which enters no_grad() at every step) calls nothing in a
pass that it does not call in a training step. That there was one shows when the loop has its result.
"""

from __future__ import annotations

from .schedule import OBSERVE, Plan

MOST = 8
"""Passes waited for: what is wrong with them shows in the first."""
MARGIN = 2
"""Steps before and after the expected one: a number that the loop keeps may be seen a step late."""
SAME = 10
"""Steps in which another number is the result of the same pass."""


class ExpectedPass:
    """Takes the next pass to come as many steps after the newest as that one after the one before, once any was missed."""

    def __init__(self) -> None:
        self._any_missed = False
        self._newest = self._next = -SAME
        self._waited = 0

    def missed(self, step: int) -> None:
        """A result came of a pass after `step`, of which nothing was seen."""
        self._any_missed = True
        self.came(step)

    def came(self, step: int) -> None:
        """There was a pass after `step`."""
        if not self._any_missed or step <= self._newest + SAME:
            return
        if self._newest > 0 and self._waited < MOST:
            self._next = 2 * step - self._newest
            self._waited += 1
        self._newest = step

    def awake_for(self, plan: Plan, step: int) -> Plan:
        """`plan`, made after `step`, but so that the steps around the pass are observed."""
        ahead = self._next - MARGIN - step
        if step > self._next + MARGIN or ahead > plan.asleep:
            return plan
        return Plan(ahead - 1, False) if ahead > 1 else OBSERVE
