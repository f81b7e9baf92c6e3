"""Which steps are observed in full, so that the probes stay within their budget. A function of measured costs alone."""

from __future__ import annotations

FIRST_STEPS = 32
"""Steps observed in full at first: a person who attaches wants to see numbers, and a fault shows early."""
LONGEST_INTERVAL = 1000
SMOOTHING = 0.1


class Schedule:
    """Observes every `interval`-th step; the interval follows from running means of what steps and callbacks take.

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

    def next_is_observed(self, step_s: float, probe_s: float, observed: bool) -> bool:
        """Note what the step that just ended took, the probes' part of it included, and say whether to observe the next."""
        self._seen += 1
        self._since = 0 if observed else self._since + 1
        self._step_s = _mean(self._step_s, max(step_s - probe_s, 0.0))
        if observed:
            self._full_s = _mean(self._full_s, probe_s)
        else:
            self._light_s = _mean(self._light_s, probe_s)
        if self.budget <= 0 or self._seen <= FIRST_STEPS:
            return True
        if observed:
            self.interval = self._affordable_interval()
        return self._since + 1 >= self.interval

    def _affordable_interval(self) -> int:
        """Smallest k with (full + (k - 1) * light) / (k * step) <= budget."""
        allowed = self.budget * self._step_s
        spare = allowed - self._light_s
        if self._full_s <= allowed:
            return 1
        if spare <= 0:
            return LONGEST_INTERVAL
        return min(LONGEST_INTERVAL, int((self._full_s - self._light_s) / spare) + 1)


def _mean(old: float, new: float) -> float:
    return new if old == 0.0 else old + SMOOTHING * (new - old)
