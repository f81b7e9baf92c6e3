"""The schedule keeps the probes' share of step time within the budget."""

from __future__ import annotations

import pytest

from probes.schedule import BURST, FIRST_STEPS, LONGEST_INTERVAL, Schedule


def spent_share(budget: float, step_s: float, full_s: float, light_s: float, steps: int = 20_000) -> tuple[float, int]:
    """Share of time in the probes and number of observed steps after the first ones."""
    schedule = Schedule(budget)
    observed, spent, total, seen = True, 0.0, 0.0, 0
    for step in range(steps):
        cost = full_s if observed else light_s
        if step >= 2 * FIRST_STEPS:
            spent, total, seen = spent + cost, total + step_s + cost, seen + observed
        observed = schedule.next_is_observed(step_s + cost, cost, observed)
    return spent / total, seen


@pytest.mark.parametrize("step_s", [0.001, 0.01, 0.1])
@pytest.mark.parametrize("budget", [0.01, 0.05])
def test_the_budget_is_kept_and_used(step_s: float, budget: float) -> None:
    share, seen = spent_share(budget, step_s, full_s=0.0004, light_s=0.000004)
    assert share <= 1.1 * budget
    assert seen > 0
    if share < 0.4 * budget:  # a budget that is hardly used must mean that every step is observed
        assert seen >= 20_000 - 2 * FIRST_STEPS


def test_no_budget_observes_every_step() -> None:
    assert spent_share(0.0, 0.001, 0.001, 0.0)[1] == 20_000 - 2 * FIRST_STEPS


def test_light_callbacks_beyond_the_budget_thin_out_to_the_longest_interval() -> None:
    _, seen = spent_share(0.01, 0.0001, 0.0004, 0.00001)
    assert seen == pytest.approx(20_000 / LONGEST_INTERVAL * BURST, abs=4)
