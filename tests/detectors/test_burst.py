"""A loss thrown far above where it began, and back within a few rows: a fault where a step was too large, nothing alone."""

from __future__ import annotations

import numpy as np
import pytest

from forgemon.chunk import Chunk
from forgemon.detectors.loss_trend import LossTrend
from tests.detectors.runs import Values, candidates_of_any_split, chunk, step_rows, update_rows

CALM = [0.05, 0.04, 0.03, 0.02, 0.01, 0.01]


def run(burst: Values, ratio: float = 1.2, start: int = 160, rate_rises_at: int = 1000, sampled_at: int | None = None) -> Chunk:
    """A loop that learned, the rows of `burst` from `start` + 1 on, and the level before again; `ratio` of the update just before,
    or of that of step `sampled_at`."""
    noise = np.exp(np.random.default_rng(0).normal(0, 0.1, 400))
    loss = (0.05 + 0.45 * np.exp(-np.arange(400) / 30)) * noise
    loss[start : start + len(burst)] = burst
    ratios = [*CALM, ratio, 0.02]
    updates = update_rows(
        [*range(20, 140, 20), sampled_at or start, start + 20], [[1.0]] * 8, [[each] for each in ratios], ["a.weight"]
    )
    rates = np.where(np.arange(400) < rate_rises_at, 0.01, 1.0)
    return chunk(step_rows(loss, learning_rate=rates, gradient_norm=0.5), updates=[updates])


THROWN_UP = [*np.linspace(0.3, 6, 4), *6 * np.exp(-np.arange(12) / 5)]


def test_a_step_that_was_too_large_and_a_loss_thrown_above_its_beginning_are_an_alarm() -> None:
    (found,) = candidates_of_any_split(LossTrend, run(THROWN_UP))
    assert (found.symptom, found.cause, found.level, found.stands) == (
        "loss-climbs",
        "learning-rate-too-high",
        "alarm",
        False,
    )
    assert (found.first_step, found.last_step) == (162, 176)
    assert "up to 6" in found.summary and "step 160 changed the weights by 1.2 of themselves" in found.summary
    assert found.summary.endswith("It stood until step 176.")


@pytest.mark.parametrize(
    ("burst", "ratio"),
    [
        (THROWN_UP, 0.05),  # other data for a while
        ([6.0] * 5, 1.2),  # too short: one batch and what it did
        ([0.4] * 10, 1.2),  # no worse than untrained
    ],
)
def test_one_of_the_two_alone_is_nothing(burst: list[float], ratio: float) -> None:
    assert candidates_of_any_split(LossTrend, run(burst, ratio)) == []


def test_three_rows_are_enough_after_a_rate_that_rose_and_a_large_update_before_them() -> None:
    (found,) = candidates_of_any_split(LossTrend, run([6.0] * 3, rate_rises_at=159))
    assert (found.symptom, found.cause, found.first_step, found.last_step) == (
        "loss-climbs",
        "learning-rate-too-high",
        161,
        163,
    )
    assert candidates_of_any_split(LossTrend, run([6.0] * 2, rate_rises_at=159)) == []
    # A batch that makes such a loss makes a large update too, only later.
    assert candidates_of_any_split(LossTrend, run([6.0] * 5, rate_rises_at=159, sampled_at=161)) == []


def test_a_loop_that_had_learned_nothing_can_lose_nothing() -> None:
    assert candidates_of_any_split(LossTrend, run(THROWN_UP, start=26)) == []
