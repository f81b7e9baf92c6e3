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


@pytest.mark.parametrize(
    ("step", "evaluation_step", "holds", "is_saved"),
    [
        (2000, 2000, 600, True),
        (2000, 2000, None, False),
        (620, 600, 620, True),
        (600, 600, 500, False),
        (2000, 2000, 2000, False),
    ],
    ids=["a copy of it", "a copy of something", "soon after it", "a copy of an earlier one", "the last one"],
)
def test_a_file_is_of_the_best_step_by_the_weights_in_it(
    step: int, evaluation_step: int, holds: int | None, is_saved: bool
) -> None:
    detector = TrainValDivergence()
    passes = evaluations(VALIDATION, TRAIN)
    saved = event("checkpoint", step, path="/out/best.pt", evaluation_step=evaluation_step, holds_step=holds)
    before, after = [e for e in passes if e["step"] <= step], [e for e in passes if e["step"] > step]
    detector.feed(chunk(None, [*before, saved, *after]))
    (found,) = detector.candidates()
    assert found.evidence["best_step"] == 600
    assert found.evidence.get("checkpoint") == ("/out/best.pt" if is_saved else None)


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


@pytest.mark.parametrize(("newest_seen", "level"), [(4, None), (0, "watch")], ids=["soon before it", "long before it"])
def test_a_best_evaluation_without_a_training_loss_is_compared_with_that_soon_before(
    newest_seen: int, level: str | None
) -> None:
    """After the best one the data became harder: the training loss jumped, and falls from there."""
    seen = np.concatenate([0.2 + 0.1 * np.exp(-np.arange(6)), 1 - 0.02 * np.arange(14)])
    seen[newest_seen + 1 : 6] = np.nan
    found = judged(VALIDATION, seen)
    assert (None if found is None else found.level) == level


@pytest.mark.parametrize(("count", "level"), [(7, "watch"), (8, "alarm")])
def test_a_rise_that_sinks_a_little_and_stays_far_above_the_best(count: int, level: str) -> None:
    later = np.array([0.72, 0.88, 0.97, 0.96, 0.93, 0.9, 0.89, 0.88])[-count:]
    found = judged([0.585, *np.sort(later)[::-1]], [1.2, *np.linspace(0.7, 0.05, count)])
    assert found is not None and (found.level, found.first_step) == (level, 100)


def test_one_that_began_slowly_stays_far_above_the_best_all_the_same() -> None:
    """And is an alarm at every pass from the fifth on."""
    values, train = [0.78, 0.82, 0.9, 0.955, 0.985, 0.98, *np.linspace(0.97, 0.92, 14)], [1.0, *np.linspace(0.5, 0.04, 19)]
    for count in range(5, 21):
        found = judged(values[:count], train[:count])
        assert found is not None and (found.level, found.first_step) == ("alarm", 100), count


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


@pytest.mark.parametrize(("scale", "level"), [(0.1, "alarm"), (1e-4, None)])
def test_a_rise_that_is_nothing_beside_where_the_loss_began(scale: float, level: str | None) -> None:
    """Fitted all but exactly: the best of the losses doubles, and is a ten thousandth of the first one still."""
    values = [1.0, 0.3, *(scale * VALIDATION[5:])]
    train = [0.8, 0.2, *(scale * TRAIN[5:])]
    found = judged(values, train)
    assert (found.level if found else None) == level


def test_models_that_are_trained_one_after_the_other_are_judged_apart() -> None:
    falling, better = np.linspace(2, 0.5, 12), np.linspace(2, 0.2, 12)
    detector = TrainValDivergence()
    for model, values in enumerate(
        [better, falling, falling, falling]
    ):  # of every later one, each pass lies above the first one's best
        events = evaluations(values, values, model=model)
        detector.feed(chunk(events=[{**e, "step": e["step"] + 1200 * model} for e in events]))
    assert detector.candidates() == []

    for model in range(4, 80):  # the newest is judged however many there were
        detector.feed(chunk(events=evaluations(VALIDATION[:4], TRAIN[:4], model=model)))
    detector.feed(chunk(events=evaluations(VALIDATION, TRAIN, model=80)))
    assert [found.level for found in detector.candidates()] == ["alarm"]
