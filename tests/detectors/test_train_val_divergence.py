"""train-val-divergence: overfitting is two lines, and the best evaluation is named with its checkpoint."""

from __future__ import annotations

import numpy as np
import pytest

from forgemon.detectors.candidate import Candidate
from forgemon.detectors.train_val_divergence import TrainValDivergence
from tests.detectors.runs import Values, chunk, evaluations, event


def judged(values: Values, train: Values | None) -> Candidate | None:
    detector = TrainValDivergence()
    detector.feed(chunk(None, evaluations(values, train)))
    found = detector.candidates()
    return found[0] if found else None


TRAIN = 2 * np.exp(-np.arange(20) / 5)
VALIDATION = np.concatenate([np.linspace(2, 1, 6), np.linspace(1.05, 1.8, 14)])


def test_names_the_best_step_its_checkpoint_and_both_curves() -> None:
    detector = TrainValDivergence()
    passes = evaluations(VALIDATION, TRAIN)
    saved = event("checkpoint", 600, path="/out/best.pt", metric="cross_entropy", value=1.0, evaluation_step=600)
    detector.feed(chunk(None, [*passes[:6], saved, *passes[6:]]))
    (found,) = detector.candidates()
    assert (found.level, found.cause, found.first_step, found.last_step) == ("alarm", "overfitting", 600, 2000)
    assert "best at step 600 with 1;" in found.summary and "saved in /out/best.pt" in found.summary
    assert found.evidence["best_step"] == 600


@pytest.mark.parametrize("kind", ["checkpoint", "checkpoint_deleted"])
def test_a_checkpoint_that_was_overwritten_or_deleted_is_not_called_saved(kind: str) -> None:
    detector = TrainValDivergence()
    passes = evaluations(VALIDATION, TRAIN)
    saved = event("checkpoint", 600, path="/out/last.pt", evaluation_step=600)
    lost = event(kind, 1000, path="/out/last.pt", evaluation_step=1000)
    detector.feed(chunk(None, [*passes[:6], saved, *passes[6:10], lost, *passes[10:]]))
    (found,) = detector.candidates()
    assert "was saved in /out/last.pt, which was overwritten or deleted since" in found.summary
    assert "checkpoint" not in found.evidence


def test_without_a_visible_training_loss_it_is_one_line() -> None:
    found = judged(VALIDATION, None)
    assert found is not None and found.level == "watch"


def test_training_that_stopped_falling_is_another_fault() -> None:
    assert judged(VALIDATION, np.concatenate([TRAIN[:6], np.linspace(0.7, 3, 14)])) is None


def test_of_a_training_loss_that_rose_two_values_are_enough() -> None:
    seen = np.full(len(TRAIN), np.nan)
    seen[5], seen[16] = 0.17, 1.09
    assert judged(VALIDATION, seen) is None
    seen[16] = 0.1
    found = judged(VALIDATION, seen)
    assert found is not None and found.level == "watch" and "went from 0.17 to 0.1" in found.summary


@pytest.mark.parametrize("count", range(1, 9))
def test_silent_before_there_are_enough_evaluations(count: int) -> None:
    assert judged(VALIDATION[:count], TRAIN[:count]) is None


@pytest.mark.parametrize("seed", range(30))
def test_a_noisy_plateau_is_silent(seed: int) -> None:
    values = 0.5 + np.random.default_rng(seed).normal(0, 0.004, 60)
    assert judged(np.concatenate([np.linspace(2, 0.5, 10), values]), np.linspace(2, 0.3, 70)) is None


def test_a_rise_that_quickens_is_no_noise() -> None:
    measured = [1.033, 0.865, 0.831, 0.822, 0.822, 0.826, 0.837, 0.859, 0.895, 0.93, 0.974, 1.025]
    found = judged(np.array(measured), 2 * np.exp(-np.arange(12) / 8))
    assert found is not None and (found.level, found.first_step) == ("alarm", 400)


@pytest.mark.parametrize("seed", range(40))
def test_noise_on_a_level_is_no_rise(seed: int) -> None:
    level = np.concatenate([np.linspace(1.5, 0.45, 6), np.full(24, 0.45)]) + np.random.default_rng(seed).normal(0, 0.045, 30)
    assert judged(level, 2 * np.exp(-np.arange(30) / 8)) is None


def test_a_best_that_comes_again_ends_it() -> None:
    assert judged([*VALIDATION, 0.9], [*TRAIN, 0.01]) is None


def test_passes_over_training_data_and_values_that_are_not_finite_are_left_out() -> None:
    detector = TrainValDivergence()
    detector.feed(chunk(None, evaluations(VALIDATION, TRAIN, metric="cross_entropy (training data)")))
    detector.feed(chunk(None, evaluations([float("nan")] * 9, TRAIN)))
    assert detector.candidates() == []
