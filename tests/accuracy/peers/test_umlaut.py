"""UMLAUT's rules fire where its code does, and not beside it."""

from __future__ import annotations

import numpy as np

from tests.accuracy.peers.built import built, evaluations
from tests.accuracy.peers.trace import Trace
from tests.accuracy.peers.umlaut import learning_rate, nan_in_input, overfitting, validation_accuracy

ONES = np.ones(50)


def test_a_learning_rate_is_judged_at_the_end_of_an_epoch() -> None:
    rates = np.full(50, 1e-3)
    rates[:9] = 1.0
    assert not learning_rate(built(ONES, learning_rates=rates, epochs=(10, 20)))
    assert [(a.rule, a.step) for a in learning_rate(built(ONES, learning_rates=rates, epochs=(9, 20)))] == [("LRHigh", 9)]
    assert not learning_rate(built(ONES, learning_rates=np.full(50, 0.01)))
    assert [(a.rule, a.step) for a in learning_rate(built(ONES, learning_rates=np.full(50, 0.9e-7)))] == [("LRLow", 50)]


def test_one_epoch_of_falling_training_and_rising_validation_loss_is_overfitting() -> None:
    assert [a.step for a in overfitting(built(ONES, evaluations=evaluations([1, 1.01], [1, 1])))] == [20]
    assert not overfitting(built(ONES, evaluations=evaluations([1, 1.01, 1.0], [1, 1.1, 0.9])))


def test_a_validation_accuracy_is_suspicious_from_the_fourth_epoch_on() -> None:
    def said(validation: list[float], train: float = 0.9) -> list[int]:
        steps = np.arange(10, 10 * len(validation) + 1, 10)
        logged = {"val_acc": (steps, np.array(validation)), "train_acc": (steps, np.full(len(steps), train))}
        trace: Trace = built(ONES, epochs=tuple(steps.tolist()), metrics=logged)
        return [alarm.step for alarm in validation_accuracy(trace)]

    assert said([0.99, 0.99, 0.99, 0.94, 0.94]) == []
    assert said([0.9, 0.9, 0.9, 0.96, 0.96], train=0.95) == [40]
    assert said([0.9, 0.9, 0.9, 0.9, 0.9], train=0.84) == [40]
    assert said([90.0, 90.0, 90.0, 96.0, 96.0]) == []


def test_a_nan_loss_is_said_only_with_a_nan_in_the_input() -> None:
    losses = np.where(np.arange(50) < 12, 1.0, np.nan)
    bad_input = {"kind": "nonfinite", "step": 13, "time": 0.0, "first": {"stage": "input", "name": "x", "dtype": "float32"}}
    assert [a.step for a in nan_in_input(built(losses, epochs=(10, 20), nonfinite=(bad_input,)))] == [20]
    assert not nan_in_input(built(losses, nonfinite=({**bad_input, "first": {"stage": "layer"}},)))
    assert not nan_in_input(built(ONES, nonfinite=(bad_input,)))
