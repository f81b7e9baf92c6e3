"""Whether a loss trends down: said with numbers, and only where the noise lets it be told."""

from __future__ import annotations

import numpy as np
import pytest

from forgemon.loss_direction import loss_direction
from tests.detectors.runs import step_rows

NOISE = np.random.default_rng(0).normal(0, 1, 1000)


def test_a_falling_loss_trends_down_with_its_numbers() -> None:
    found = loss_direction(step_rows(np.linspace(2, 1, 20) + 0.05 * NOISE[:20]))
    assert (found.direction, found.steps) == ("down", 20)
    assert found.first == pytest.approx(1.84, abs=0.05) and found.last == pytest.approx(1.16, abs=0.05)
    assert found.noise == pytest.approx(0.05, rel=0.6)
    assert found.sentence.startswith("The loss trends down: 1.8") and "(median of steps 15 to 20)" in found.sentence


def test_a_rising_loss_trends_up() -> None:
    assert loss_direction(step_rows(np.linspace(1, 2, 20) + 0.05 * NOISE[:20])).direction == "up"


def test_where_noise_hides_it_the_steps_are_too_few() -> None:
    found = loss_direction(step_rows(np.linspace(2, 1.98, 20) + 0.3 * NOISE[:20]))
    assert found.direction == "too few steps"
    assert found.sentence.startswith("Too few steps to tell whether the loss trends down: ")


def test_noise_alone_is_called_a_trend_in_about_one_of_a_hundred_runs() -> None:
    noise = np.random.default_rng(1).normal(2, 0.3, (1000, 20))
    told = [loss_direction(step_rows(losses)).direction for losses in noise]
    assert told.count("down") + told.count("up") <= 20


def test_one_enormous_loss_decides_nothing() -> None:
    losses = np.linspace(2, 1, 20)
    losses[-1] = 1e9
    assert loss_direction(step_rows(losses)).direction == "down"


@pytest.mark.parametrize(
    ("losses", "direction", "said"),
    [
        ([0.693] * 20, "none", "The loss does not move: 0.693 at each of 20 steps."),
        ([0.7], "too few steps", "it was 0.7 at the one step seen."),
        (2 + 0.3 * NOISE, "none", "The loss shows no trend over 1000 steps"),
        ([float("nan")] * 5, "not visible", "no finite loss was seen"),
        ([2.0, 1.0, float("inf")], "too few steps", "2 (step 1) to 1 (step 2)"),
    ],
)
def test_what_else_can_be_said(losses: list[float], direction: str, said: str) -> None:
    found = loss_direction(step_rows(losses))
    assert (found.direction, said in found.sentence) == (direction, True), found.sentence


def test_of_several_optimizers_no_trend_is_judged() -> None:
    rows = step_rows(np.linspace(2, 1, 20))
    rows["optimizer"][::2] = 1
    assert loss_direction(rows).direction == "not visible"
