"""The schedule keeps the probes' share of time within the budget."""

from __future__ import annotations

import pytest

from probes.schedule import BURST, FIRST_STEPS, LONGEST_SLEEP, OBSERVE, SEEN_BY_OURSELVES, Schedule

FULL_S, LOSS_S, IDLE_S = 0.0004, 0.00006, 0.000001


def spent(budget: float, step_s: float, steps: int = 40_000, roused_every: int = 0) -> tuple[float, int, int]:
    """Share of time in the probes, observed steps, and rows of the loss alone, after the first steps."""
    schedule = Schedule(budget)
    plan, step, cost_s, seen, losses = OBSERVE, 0, 0.0, 0, 0
    while step < steps:
        counts = step >= 2 * FIRST_STEPS
        asleep = plan.asleep
        if roused_every and asleep:
            asleep = min(asleep, roused_every - step % roused_every)
        roused = asleep < plan.asleep
        this_s = FULL_S if roused or not plan.loss_only else LOSS_S
        elapsed_s = (asleep + 1) * (step_s + IDLE_S) + this_s
        step += asleep + 1
        if counts:
            cost_s += this_s + (asleep + 1) * IDLE_S
            seen += not plan.loss_only and not roused
            losses += plan.loss_only and not roused
        after = schedule.after_roused if roused else schedule.after_loss if plan.loss_only else schedule.after_observed
        plan = after(elapsed_s, asleep + 1, this_s + asleep * IDLE_S)
    return cost_s / ((steps - 2 * FIRST_STEPS) * step_s), seen, losses


@pytest.mark.parametrize("step_s", [0.0005, 0.001, 0.01, 0.1])
@pytest.mark.parametrize("budget", [0.01, 0.05])
def test_the_budget_is_kept_and_used(step_s: float, budget: float) -> None:
    share, seen, losses = spent(budget, step_s)
    assert share <= 1.02 * SEEN_BY_OURSELVES * budget
    assert (losses > 0) == (seen < 39_000)
    if seen < 39_000:  # a budget that is hardly used must mean that every step is observed
        assert share >= 0.9 * SEEN_BY_OURSELVES * budget


def test_no_budget_observes_every_step() -> None:
    assert spent(0.0, 0.001)[1] == 40_000 - 2 * FIRST_STEPS


def test_rare_calls_that_wake_the_probes_are_paid_for_by_fewer_observed_steps() -> None:
    calm_share, calm, _ = spent(0.01, 0.005)
    share, seen, _ = spent(0.01, 0.005, roused_every=20)
    assert share <= 0.01
    assert seen < calm
    assert calm_share <= 1.02 * SEEN_BY_OURSELVES * 0.01


def test_a_loop_too_fast_for_the_budget_is_looked_at_all_the_same() -> None:
    _, seen, losses = spent(0.01, 0.00005)
    assert seen + losses >= 40_000 // LONGEST_SLEEP - BURST


def test_observed_steps_come_in_bursts_of_neighbours() -> None:
    schedule = Schedule(0.01)
    plans = [schedule.after_observed(0.001, 1, FULL_S) for _ in range(FIRST_STEPS + 40)]
    burst = [plan == OBSERVE for plan in plans[FIRST_STEPS:]]
    assert burst == [index % BURST == 0 for index in range(len(burst))] or burst == [
        index % BURST == 1 for index in range(len(burst))
    ]


def test_what_another_optimizer_takes_over_is_paid_for_first() -> None:
    schedule = Schedule(0.01)
    for _ in range(FIRST_STEPS):
        assert not schedule.is_overdrawn(0.0, 1.0)  # the first steps are on credit
        schedule.after_observed(0.001, 1, FULL_S)
    assert not schedule.is_overdrawn(10.0, 0.0)
    assert schedule.is_overdrawn(0.001, 10 * FULL_S)
    assert schedule.is_overdrawn(0.001, 3 * FULL_S) and not schedule.is_overdrawn(0.001, 3 * FULL_S, by=4)
    assert schedule.after_rest(50 * 0.001, 50, 2 * FULL_S) != OBSERVE
    assert schedule.after_rest(20.0, LONGEST_SLEEP, 0.0) == OBSERVE
    assert not Schedule(0.0).is_overdrawn(0.001, 1.0)
