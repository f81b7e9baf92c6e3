"""What a look takes is told from the steps beside it, on a machine that slows down and in a loop whose epochs take time of their own."""

from __future__ import annotations

import pytest

from tests.benchmarks.bursts import Step, bursts

PLAIN_S, OURS_S = 0.01, 0.001
EVERY, EPOCH = 30, 97


def stretch(count: int, factor: float) -> list[Step]:
    """Bursts of two steps, each of which takes `factor` times what our clock says; rows of the loss alone; epochs that wake us."""
    found = []
    for number in range(count):
        plain_s = PLAIN_S * (1 + 1e-4 * number)
        if number % EPOCH == 0:
            found.append(Step(3 * plain_s, OURS_S, is_observed=True, begins_epoch=True))
        elif number % EVERY < 2:
            found.append(Step(plain_s + factor * OURS_S, OURS_S, is_observed=True))
        elif number % EVERY == 15:
            found.append(Step(plain_s + 0.1 * OURS_S, 0.1 * OURS_S, is_observed=False))
        else:
            found.append(Step(plain_s, 0.0, is_observed=False))
    return found


@pytest.mark.parametrize("factor", [1.0, 1.3])
def test_the_extra_time_of_a_burst_is_found_whatever_goes_on_beside_it(factor: float) -> None:
    steps = stretch(3000, factor)
    found = bursts(steps, asleep_share=0.001)
    assert found is not None
    assert 80 < found.factor.count <= 100
    assert found.extra_s.value == pytest.approx(2 * factor * OURS_S, rel=0.02)
    assert found.nothing_s.value == pytest.approx(0.0, abs=0.05 * OURS_S)
    assert found.factor.value == pytest.approx(factor, rel=0.02)
    spent_s = sum(step.spent_s for step in steps)
    share = spent_s / (sum(step.took_s for step in steps) - spent_s)
    assert found.ratio.value == pytest.approx(1.001 + factor * share, rel=1e-3)
    assert found.ratio.low <= found.ratio.value <= found.ratio.high


def test_where_every_step_is_looked_at_there_is_nothing_beside_it() -> None:
    assert bursts([Step(PLAIN_S, OURS_S, is_observed=True)] * 200, asleep_share=0.0) is None
