"""TheDeepChecker's rules fire where its code does, and not beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.accuracy.peers.built import built, gradients, updates
from tests.accuracy.peers.deepchecker_loss import checks, diverging, fluctuating, loss_not_finite, non_decreasing
from tests.accuracy.peers.deepchecker_weights import (
    diverging_weights,
    exploding,
    gradient_not_finite,
    unstable_learning,
    vanishing,
)

FLAT = np.ones(41)


def test_the_curve_is_the_first_loss_and_then_the_means_of_ten() -> None:
    found = list(checks(np.arange(1, 22), np.arange(1, 22, dtype=float)))
    assert [step for step, _ in found] == [1, 11, 21]
    assert found[-1][1].tolist() == [1, 6.5, 16.5]


def test_a_loss_stagnates_when_no_period_of_four_gains_five_per_cent() -> None:
    assert [a.step for a in non_decreasing(built(FLAT))] == [41]
    assert not non_decreasing(built(FLAT[:40]))
    one_fall = FLAT.copy()
    one_fall[31:] = 0.94
    assert not non_decreasing(built(one_fall))


def test_a_loss_diverges_when_it_doubles_in_each_of_four_periods() -> None:
    steps = np.arange(41)
    doubling = 2.0 ** np.ceil(steps / 10)
    assert [a.step for a in diverging(built(doubling))] == [41]
    assert not diverging(built(1.9 ** np.ceil(steps / 10)))
    assert not non_decreasing(built(0.5 ** np.ceil(steps / 10)))


def test_a_loss_fluctuates_when_it_turns_in_more_than_half_of_the_periods() -> None:
    periods = np.arange(20)
    every_period = np.repeat(1 + 0.1 * (periods % 2), 10)
    every_second = np.repeat(1 + 0.1 * (periods // 2 % 2) + 0.01 * periods, 10)
    assert fluctuating(built(every_period))
    assert not fluctuating(built(every_second))


def test_a_loss_or_gradient_that_is_not_finite_is_said_at_its_step() -> None:
    assert [a.step for a in loss_not_finite(built([1, np.nan, 1]))] == [2]
    assert [a.step for a in gradient_not_finite(built(norms=[1, 1, np.inf]))] == [3]
    assert not loss_not_finite(built([1, 1e30])) and not gradient_not_finite(built(norms=[1, 1e30]))


def test_a_gradient_vanishes_by_its_size_or_by_halving() -> None:
    small = np.ones(11)
    small[10] = 0.9e-5  # of 100 entries
    assert [a.step for a in vanishing(built(FLAT, gradients=gradients(small)))] == [11]
    assert not vanishing(built(FLAT, gradients=gradients(small[:10])))
    assert not vanishing(built(FLAT, gradients=gradients(small, name="fc.bias", shape=(100,))))
    assert vanishing(built(FLAT, gradients=gradients(0.5 ** np.arange(11))))
    assert not vanishing(built(FLAT, gradients=gradients(0.6 ** np.arange(11))))
    [halving] = gradients(0.5 ** np.arange(11))
    assert not vanishing(built(FLAT, gradients=(replace(halving, steps=4 * halving.steps),)))


def test_a_gradient_explodes_by_its_size_or_by_doubling() -> None:
    large = np.ones(11)
    large[10] = 1.1e7
    assert [a.step for a in exploding(built(FLAT, gradients=gradients(large)))] == [11]
    large[10] = 0.9e7
    assert not exploding(built(FLAT, gradients=gradients(large)))
    assert exploding(built(FLAT, gradients=gradients(2.0 ** np.arange(11))))
    assert not exploding(built(FLAT, gradients=gradients(1.9 ** np.arange(11))))


def test_weights_change_too_quickly_too_slowly_or_not_at_all() -> None:
    def said(change: float) -> list[frozenset[str]]:
        return [a.causes for a in unstable_learning(built(FLAT, updates=updates(np.ones(10), np.full(10, change))))]

    assert said(0.11) == [{"learning-rate-too-high"}]
    assert said(0.9e-4) == [{"learning-rate-too-low"}]
    assert said(0.09) == said(1.1e-4) == []
    [untrained] = unstable_learning(built(FLAT, updates=updates(np.ones(10), np.zeros(10))))
    assert "frozen-parameters" in untrained.symptoms
    assert not unstable_learning(built(FLAT, updates=updates(np.zeros(10), np.ones(10))))


def test_weights_diverge_by_their_size_or_by_doubling() -> None:
    huge = np.full(11, 1.1e9)
    assert [a.rule for a in diverging_weights(built(FLAT, updates=updates(huge, huge)))] == ["Weight.Diverging"]
    assert not diverging_weights(built(FLAT, updates=updates(0.8 * huge, huge)))
    doubling = 2.0 ** np.arange(11)
    bias = updates(doubling, doubling, name="fc.bias", shape=(10,))
    assert [a.rule for a in diverging_weights(built(FLAT, updates=bias))] == ["Bias.Diverging"]
