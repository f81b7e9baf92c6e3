"""Which steps are observed, so that the probes stay within their budget. A ledger of measured costs alone."""

from __future__ import annotations

import math
from typing import NamedTuple

FIRST_STEPS = 32
"""Steps observed in full at first: a person who attaches wants to see numbers, and a fault shows early. Beyond the budget."""
FIRST_ROUSED = 8
"""Rare calls (a validation pass, a checkpoint) after which a burst comes at once, on credit: what a pass leaves behind, such as a model
in evaluation mode, shows in the first step after it."""
LONGEST_SLEEP = 1000
BURST = 2
"""Neighbouring steps observed together: whether a step reuses gradients shows only beside the step before it."""
SEEN_BY_OURSELVES = 0.7
"""Part of the budget that may be spent by our own clock. What it cannot see came to as much as four tenths more when the whole was
measured (README, What it costs): calls on their way to us, and the loop's code and data that we push out of the caches."""
LOSS_SHARE = 0.4
"""Part of the budget for rows with the loss alone."""
SMOOTHING = 0.1


class Plan(NamedTuple):
    """What comes after a step."""

    asleep: int
    "Steps not to look at."
    loss_only: bool
    "Whether of the step after them the loss alone is wanted."


OBSERVE = Plan(0, False)


class Schedule:
    """Bursts of observed steps and, between them, rows with the loss alone, as far as the budget allows.

    `budget` is the share of time that may be spent in the probes; 0 or less observes every step.
    """

    def __init__(self, budget: float) -> None:
        self.budget = budget
        self._observed = 0
        self._roused = 0
        self._in_burst = 0
        self._since_observed = 0
        self._income_s = 0.0
        self._full = _Account()
        self._loss = _Account()

    def after_observed(self, elapsed_s: float, steps: int, spent_s: float) -> Plan:
        """An observed step ended. `elapsed_s`, `steps` and `spent_s` (in the probes): since the plan before."""
        self._observed += 1
        if self.budget <= 0:
            return OBSERVE
        self._full.note(spent_s)
        if self._observed < FIRST_STEPS:
            self._earn(elapsed_s, steps, spent_s, forgiven=True)
            return OBSERVE
        self._full.credit_s -= spent_s
        self._earn(elapsed_s, steps, spent_s)
        self._since_observed = 0
        self._in_burst += 1
        if self._in_burst < BURST:
            return OBSERVE
        self._in_burst = 0
        return self._plan()

    def after_loss(self, elapsed_s: float, steps: int, spent_s: float) -> Plan:
        """A step ended of which the loss alone was wanted."""
        self._loss.note(spent_s)
        self._loss.credit_s -= spent_s
        self._earn(elapsed_s, steps, spent_s)
        return self._plan()

    def after_roused(self, elapsed_s: float, steps: int, spent_s: float) -> Plan:
        """A step ended in the middle of which a rare call had woken the probes: nobody planned its cost."""
        self._earn(elapsed_s, steps, spent_s, unplanned_s=spent_s)
        self._roused += 1
        if self._roused <= FIRST_ROUSED:
            self._in_burst = 0
            return OBSERVE
        return self._plan()

    def after_rest(self, elapsed_s: float, steps: int, spent_s: float) -> Plan:
        """The optimizer whose steps were counted rests; while asleep another has taken its place."""
        self._full.credit_s -= spent_s
        self._earn(elapsed_s, steps, spent_s)
        return self._plan()

    def is_overdrawn(self, elapsed_s: float, spent_s: float, by: float = 0.0) -> bool:
        """Whether more was spent by now than there was, and `by` so many observed steps more; both since the last plan."""
        if self.budget <= 0 or self._observed < FIRST_STEPS:
            return False
        income_s = (1 - LOSS_SHARE) * self._income(elapsed_s, spent_s)
        return self._full.credit_s + income_s - spent_s < -by * self._full.cost_s

    def _income(self, elapsed_s: float, spent_s: float) -> float:
        """Seconds that may be spent in the probes for so many of the loop's own."""
        return SEEN_BY_OURSELVES * self.budget * max(0.0, elapsed_s - spent_s)

    def _earn(self, elapsed_s: float, steps: int, spent_s: float, unplanned_s: float = 0.0, forgiven: bool = False) -> None:
        self._since_observed += steps
        income_s = self._income(elapsed_s, spent_s)
        # However often the loop wakes us (epochs of a few steps), half is left to look at what it does between.
        income_s -= min(unplanned_s, 0.5 * income_s)
        self._income_s = _mean(self._income_s, income_s / max(1, steps), min(0.5, SMOOTHING * steps))
        if forgiven:
            return
        unused_s = self._loss.earn(LOSS_SHARE * income_s)
        self._full.earn((1 - LOSS_SHARE) * income_s + unused_s)

    def _plan(self) -> Plan:
        full = self._full.steps_until(BURST, (1 - LOSS_SHARE) * self._income_s)
        loss = self._loss.steps_until(1, LOSS_SHARE * self._income_s)
        full = min(full, max(0, LONGEST_SLEEP - self._since_observed))
        if loss < full:
            return Plan(loss, True)
        # Odd, so that bursts do not fall in step with epochs and other cycles of the loop, which are mostly even.
        return Plan(full | 1, False) if full else OBSERVE


class _Account:
    """What one kind of step costs, and what may be spent on it by now."""

    def __init__(self) -> None:
        self.cost_s = 0.0
        self.credit_s = 0.0

    def note(self, spent_s: float) -> None:
        self.cost_s = _mean(self.cost_s, spent_s)

    def earn(self, income_s: float) -> float:
        """Add to the credit; returns what it cannot hold, so that no fortune is gathered over a pause and spent at once."""
        total_s = self.credit_s + income_s
        self.credit_s = min(total_s, 2 * BURST * self.cost_s)
        return total_s - self.credit_s

    def steps_until(self, bought: int, income_s: float) -> int:
        """Steps until `bought` of it can be paid for."""
        missing_s = bought * self.cost_s - self.credit_s
        if missing_s <= 0:
            return 0
        if missing_s >= LONGEST_SLEEP * income_s:
            self.credit_s = min(0.0, max(self.credit_s, -LONGEST_SLEEP * max(0.0, income_s)))
            return LONGEST_SLEEP
        return math.ceil(missing_s / income_s)


def _mean(old: float, new: float, weight: float = SMOOTHING) -> float:
    return new if old == 0.0 else old + weight * (new - old)
