"""SageMaker Debugger's rules fire where their definition says so, and not beside it."""

from __future__ import annotations

import numpy as np

from tests.accuracy.peers.built import built, evaluations, gradients, updates
from tests.accuracy.peers.sagemaker import (
    compared,
    exploding_tensor,
    loss_not_decreasing,
    overfit,
    overtraining,
    stalled_training,
    unchanged_tensor,
    vanishing_gradient,
    weight_update_ratio,
)
from tests.accuracy.peers.sagemaker import every_500th_step as shipped
from tests.accuracy.peers.sagemaker import every_logged_step as every

FALLING = np.geomspace(2, 0.1, 60)


def test_a_gradient_vanishes_below_a_mean_of_1e7() -> None:
    # 100 entries: a norm of 1e-6 is a root mean square of 1e-7.
    assert [a.step for a in vanishing_gradient(built(FALLING, gradients=gradients([1, 0.9e-6, 0.9e-6])), every)] == [2]
    assert not vanishing_gradient(built(FALLING, gradients=gradients([1, 1.1e-6, np.nan])), every)


def test_a_tensor_explodes_when_it_is_not_finite_and_was_measured() -> None:
    losses = [1.0, np.inf, np.nan]
    [alarm] = exploding_tensor(built(losses), every)
    assert (alarm.step, alarm.times) == (2, 2) and alarm.symptoms == {"loss-nonfinite"}
    assert not exploding_tensor(built(losses, loss_known=np.array([True, False, False])), every)
    assert exploding_tensor(built(norms=[1, np.nan]), every)[0].symptoms == {"gradient-nonfinite"}
    assert not exploding_tensor(built([1e30, -1e30]), every)


def test_an_update_is_too_large_above_ten_and_too_small_below_1e8() -> None:
    large, small = weight_update_ratio(built(FALLING, updates=updates([1, 1, 1], [1, 10.1, 0.9e-8])), every)
    assert large.step == 2 and large.causes == {"learning-rate-too-high"}
    assert small.step == 3 and small.causes == {"learning-rate-too-low"}
    assert not weight_update_ratio(built(FALLING, updates=updates([1, 1, 0], [9.9, 1.1e-8, 1])), every)
    assert not weight_update_ratio(built(FALLING, updates=updates([1], [20], name="fc.bias")), every)


def test_a_loss_has_to_fall_by_a_thousandth_in_ten_steps() -> None:
    assert not loss_not_decreasing(built(FALLING), every)
    [alarm] = loss_not_decreasing(built(np.full(25, 1.0)), every)
    assert (alarm.step, alarm.times) == (11, 2)
    rising = np.ones(11)
    rising[10] = 1.04
    assert not loss_not_decreasing(built(rising), every)
    rising[10] = 1.06
    assert loss_not_decreasing(built(rising), every)


def test_the_loss_is_compared_as_the_guides_example_is() -> None:
    steps = np.arange(9, 40, 3)
    assert [(steps[a], steps[b]) for a, b in compared(steps, at_least=10)] == [(21, 9), (33, 21)]


def test_five_hundred_steps_apart_a_short_run_shows_nothing() -> None:
    losses = np.full(500, 1.0)
    assert loss_not_decreasing(built(losses), every) and not loss_not_decreasing(built(losses), shipped)
    assert [a.step for a in loss_not_decreasing(built(np.full(501, 1.0)), shipped)] == [501]


def test_a_model_is_overfit_a_tenth_above_its_training_loss() -> None:
    assert [a.step for a in overfit(built(FALLING, evaluations=evaluations([1.0, 1.11], [1.0, 1.0])), every)] == [20]
    assert not overfit(built(FALLING, evaluations=evaluations([1.0, 1.09, 9.0], [1.0, 1.0, np.nan])), every)


def test_overtraining_waits_for_ten_passes_and_for_the_training_loss() -> None:
    values = [1.0, *[0.995] * 10]
    flat = np.full(200, 1.0)
    [alarm] = overtraining(built(flat, evaluations=evaluations(values, values)), every)
    assert (alarm.step, alarm.times) == (110, 1)
    assert not overtraining(built(flat, evaluations=evaluations(values[:10], values)), every)
    assert not overtraining(built(np.linspace(50, 1, 200), evaluations=evaluations(values, values)), every)
    slowly = built(np.linspace(1, 0, 200), evaluations=evaluations(values, values))  # by delta only every second step, at most
    assert not overtraining(slowly, every)
    slower = built(np.linspace(1, 0.9, 200), evaluations=evaluations(values, values))  # every twentieth
    assert overtraining(slower, every)


def test_a_loss_is_unchanged_over_three_saved_steps() -> None:
    assert [a.step for a in unchanged_tensor(built([3, 2, 2, 2 + 1e-5]), every)] == [4]
    assert not unchanged_tensor(built([2, 2, 2.001, np.nan, np.nan, np.nan]), every)


def test_training_stalls_after_half_an_hour() -> None:
    assert [a.step for a in stalled_training(built([1, 1, 1], times=np.array([0, 1800, 3601.0])), every)] == [3]
    assert not stalled_training(built([1, 1], times=np.array([0, 1800.0])), every)
