"""Which steps are observed in full, so that the probes stay within their budget. A function of measured costs alone."""

from __future__ import annotations

import math

FIRST_STEPS = 32
"""Steps observed in full at first: a person who attaches wants to see numbers, and a fault shows early."""
LONGEST_INTERVAL = 1000
BURST = 2
"""Neighbouring steps observed together: whether a step reuses gradients shows only beside the step before it."""
LOSS_SHARE = 0.5
"""Part of the budget that rows with the loss alone may take."""
SMOOTHING = 0.1


class Schedule:
    """Observes `BURST` neighbouring steps out of every `interval`; the interval follows from what steps and callbacks take.

    `budget` is the share of step time that may be spent in the probes; 0 or less observes every step.
    """

    def __init__(self, budget: float) -> None:
        self.budget = budget
        self.interval = 1
        self._seen = 0
        self._since = 0
        self._step_s = 0.0
        self._light_s = 0.0
        self._full_s = 0.0
        self._loss_s = 0.0
        self._since_loss = 0

    def wants_loss(self) -> bool:
        """Whether a step that is not observed should still give its loss; asked once for each such step."""
        self._since_loss += 1
        allowed = LOSS_SHARE * self.budget * self._step_s
        if self._since_loss * allowed < self._loss_s:
            return False
        self._since_loss = 0
        return True

    def loss_row_took(self, probe_s: float) -> None:
        """What a step with a row of its loss alone cost."""
        self._loss_s = _mean(self._loss_s, probe_s)

    def next_is_observed(self, step_s: float, probe_s: float, observed: bool) -> bool:
        """Note what the step that just ended took, the probes' part of it included, and say whether to observe the next."""
        self._seen += 1
        self._since += 1
        self._step_s = _mean(self._step_s, max(step_s - probe_s, 0.0))
        if observed:
            self._full_s = _mean(self._full_s, probe_s)
        else:
            self._light_s = _mean(self._light_s, probe_s)
        if self.budget <= 0 or self._seen <= FIRST_STEPS:
            self._since = BURST
            return True
        self.interval = self._affordable_interval()
        if self._since >= self.interval:
            self._since = 0
        return self._since < BURST

    def _affordable_interval(self) -> int:
        """Smallest k >= BURST with (BURST * full + (k - BURST) * light) / (k * step) <= budget; 1 where all can be observed."""
        allowed = self.budget * self._step_s
        if self._full_s <= allowed:
            return 1
        spare = allowed - self._light_s
        extra = BURST * (self._full_s - self._light_s)
        if extra >= spare * LONGEST_INTERVAL:
            return LONGEST_INTERVAL
        # Odd, so that it does not fall in step with epochs and other cycles of the loop, which are mostly even.
        return max(BURST + 1, math.ceil(extra / spare)) | 1


def _mean(old: float, new: float) -> float:
    return new if old == 0.0 else old + SMOOTHING * (new - old)
