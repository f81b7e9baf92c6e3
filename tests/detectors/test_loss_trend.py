"""loss-oscillates and loss-climbs: two lines of evidence make an alarm, noise and harder data never do."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from forgemon.detectors.candidate import Candidate
from forgemon.detectors.each_training import each_training
from forgemon.detectors.loss_trend import LossTrend
from tests.detectors.runs import Values, candidates_of_any_split, chunk, gradient_rows, step_rows

Curve = npt.NDArray[Any]


def learned(rows: int = 400, end: float = 0.1, seed: int = 0) -> Curve:
    """A loss that falls from 2.3 to `end` with a tenth of noise."""
    noise = np.exp(np.random.default_rng(seed).normal(0, 0.1, rows))
    return (end + (2.3 - end) * np.exp(-np.arange(rows) / 50)) * noise


def judged(loss: Values, norm: Values | float, gradients: Any = (), **columns: Any) -> Candidate | None:
    detector = each_training(LossTrend)()
    detector.feed(chunk(step_rows(loss, gradient_norm=norm, **columns), gradients=gradients))
    found = detector.candidates()
    return found[0] if found else None


def test_zig_zag_that_climbs_above_the_untrained_loss() -> None:
    swing = np.where(np.arange(400) % 2, 12.0, 3.0) * np.linspace(1, 2, 400)
    found = judged(np.concatenate([learned(), swing]), np.repeat([0.5, 8.0], 400))
    assert found is not None
    assert (found.symptom, found.level, found.cause) == ("loss-oscillates", "alarm", "learning-rate-too-high")
    assert found.first_step == 401 and found.stands


def test_smooth_runaway_climbs() -> None:
    growth = 0.1 * np.exp(np.arange(250) / 40)
    norm = np.concatenate([np.full(400, 0.5), 0.5 * np.exp(np.arange(250) / 40)])
    found = judged(np.concatenate([learned(), growth]), norm)
    assert found is not None and (found.symptom, found.level) == ("loss-climbs", "alarm")


def test_dead_gradients_explain_a_loss_back_where_it_began() -> None:
    loss = np.concatenate([learned(200), np.full(200, 2.3)])
    names = ["a.weight", "a.bias", "b.weight", "b.bias"]
    norms = [[0.3, 0.1, 0.4, 0.1]] * 200 + [[0.0, 0.0, 0.0, 0.1]] * 200
    norm = np.repeat([0.5, 0.1], 200)
    alive = judged(loss, norm)
    assert alive is not None and alive.level == "watch"
    found = judged(loss, norm, [gradient_rows(range(1, 401), norms, names)])
    assert found is not None and (found.level, found.first_step) == ("alarm", 201)
    assert "2 of 2 weights have been zero since step 201" in found.summary


@pytest.mark.parametrize("rate", [1e-3, np.nan], ids=["a rate", "its rate is not visible"])
def test_other_data_that_the_loop_learns_are_told_and_no_more(rate: float) -> None:
    loss = np.concatenate([learned(), 1.8 * learned(400, 1.0, 3) / 2.3 + 0.2])
    found = judged(loss, np.repeat([0.5, 2.5], 400), learning_rate=rate)
    assert found is not None and (found.symptom, found.level, found.cause) == ("loss-climbs", "info", "data-changed")
    assert found.first_step == 401 and "It falls since" in found.summary


@pytest.mark.parametrize(
    ("later", "cause"),
    [
        (np.full(400, 1.2), "data-changed"),  # nothing is learned of the new data
        (0.1 + 1.1 * np.minimum(np.arange(400) / 12, 1), "unknown"),  # a climb over twelve rows
        (np.where(np.arange(400) < 150, 1.2, 1.6), "data-changed"),  # and it rises once more
        (2.3 + 1.5 * np.exp(-np.arange(400) / 30), "data-changed"),  # labels that are mixed up: back to a guess, from above
    ],
)
def test_what_does_not_fall_after_a_jump_is_to_watch(later: Curve, cause: str) -> None:
    noise = np.exp(np.random.default_rng(2).normal(0, 0.02, 400))
    found = judged(np.concatenate([learned(), later * noise]), np.repeat([0.5, 1.0], 400))
    assert found is not None and (found.symptom, found.level, found.cause) == ("loss-climbs", "watch", cause)


def test_a_rate_that_rose_before_a_jump_speaks_against_the_data() -> None:
    loss = np.concatenate([learned(), 1.8 * learned(400, 1.0, 3) / 2.3 + 0.2])
    rate = np.repeat([1e-3, 5e-3], [398, 402])
    found = judged(loss, np.repeat([0.5, 2.5], 400), learning_rate=rate)
    assert found is None or found.cause != "data-changed"


def test_gradients_that_grew_before_a_jump_speak_against_the_data() -> None:
    loss = np.concatenate([learned(), 1.8 * learned(400, 1.0, 3) / 2.3 + 0.2])
    norm = np.repeat([0.5, 2.5], 400)
    norm[397:400] = 2.0
    found = judged(loss, norm)
    assert found is not None and (found.level, found.cause) == ("watch", "unknown")


@pytest.mark.parametrize("seed", range(10))
def test_other_labels_make_the_loss_jump_far_above_untrained_and_fall_again(seed: int) -> None:
    relearnt = 0.5 + 8 * np.exp(-np.arange(500) / 120)
    noise = np.exp(np.random.default_rng(seed).normal(0, 0.3, 500))
    norm = np.repeat([0.2, 4.0], [400, 500])
    for rows in range(100, 501, 50):  # as it stands after each of these rows
        found = judged(np.concatenate([learned(), (relearnt * noise)[:rows]]), norm[: 400 + rows])
        below_a_guess = relearnt[rows - 1] < 2.3
        assert found is not None and found.level in (("watch", "info") if below_a_guess else ("watch",))
    assert found is not None and (found.level, found.cause) in {("info", "data-changed"), ("watch", "unknown")}


def test_classes_in_sorted_order_make_jumps_and_no_alarm() -> None:
    one_class = np.concatenate([3 * np.exp(-np.arange(200) / 40), np.full(200, 1e-3)])
    loss = np.concatenate([learned(), np.tile(one_class, 5)])
    found = judged(loss, np.sqrt(loss))
    assert found is None or found.level == "watch"


def test_a_climb_that_came_back_is_no_alarm_any_more() -> None:
    swing = np.where(np.arange(200) % 2, 12.0, 3.0) * np.linspace(1, 4, 200)
    loss = np.concatenate([learned(), swing, np.full(400, 0.1)])
    found = judged(loss, np.repeat([0.5, 8.0, 0.5], [400, 200, 400]))
    assert found is not None and (found.level, found.stands, found.last_step) == ("watch", False, 600)


def test_worse_than_its_very_first_loss_ever_since() -> None:
    loss = np.concatenate([[1.1], np.random.default_rng(0).normal(40, 4, 300)])
    found = judged(loss, [1.0, *[20.0] * 300])
    assert found is not None and found.level == "watch" and found.evidence["second_line"] == "worse from the start"


@pytest.mark.parametrize("seed", range(50))
def test_a_first_row_that_is_low_by_luck_is_never_an_alarm(seed: int) -> None:
    """The squared error of one sample: a twentieth of such losses lie below a hundredth of their median."""
    loss = np.random.default_rng(seed).normal(0, 1, 600) ** 2
    first = np.argsort(loss)[5 + seed % 5]  # among the lowest hundredth
    loss[[0, first]] = loss[[first, 0]]
    found = judged(loss, np.sqrt(loss))
    assert found is None or found.level == "watch"


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("spread", [0.05, 0.5, 2.0])
def test_noise_on_a_plateau_is_silent(seed: int, spread: float) -> None:
    chance = np.random.default_rng(seed)
    loss = learned(300) + 0
    plateau = 0.1 * np.exp(chance.normal(0, spread, 5000))
    assert judged(np.concatenate([loss, plateau]), np.exp(chance.normal(0, spread, 5300))) is None


def test_warm_restarts_are_compared_with_their_own_learning_rate() -> None:
    rate = np.tile(np.linspace(1.0, 0.01, 200), 5)
    loss = 0.05 + 0.6 * rate + 2 * np.exp(-np.arange(1000) / 30)
    assert judged(loss, 0.2 + rate, learning_rate=rate) is None


def test_silent_with_two_optimizers_and_for_losses_below_zero() -> None:
    swing = np.where(np.arange(400) % 2, 12.0, 3.0)
    loss = np.concatenate([learned(), swing])
    assert judged(loss, np.repeat([0.5, 8.0], 400), optimizer=np.arange(800) % 2) is None
    assert judged(loss - 3, np.repeat([0.5, 8.0], 400)) is None


def test_any_split_sees_the_same_jump() -> None:
    loss = np.concatenate([learned(), 1.8 * learned(400, 1.0, 3) / 2.3 + 0.2])
    (found,) = candidates_of_any_split(LossTrend, chunk(step_rows(loss, gradient_norm=np.repeat([0.5, 2.5], 400))))
    assert found.cause == "data-changed"
