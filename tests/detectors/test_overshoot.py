"""Whether steps that were too large led to a blow-up or a climb: updates and curves together, against what one batch does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from forgemon.chunk import Chunk, Event, Updates
from forgemon.detectors.candidate import Candidate, Detector
from forgemon.detectors.gradient_nonfinite import GradientNonfinite
from forgemon.detectors.loss_nonfinite import LossNonfinite
from forgemon.detectors.loss_trend import LossTrend
from forgemon.detectors.update_history import MOST_SAMPLES, UpdateHistory
from tests.detectors.runs import Values, chunk, event, step_rows, update_rows

NAN, INF = float("nan"), float("inf")
NAMES = ("a.weight", "a.bias", "b.weight")


def updates(steps: Sequence[int], ratios: Values) -> Updates:
    return update_rows(steps, [[1.0] * 3] * len(steps), [[float(r)] * 3 for r in ratios], NAMES)


def watched(loss: Values, ratios: Values | float, norm: Values | float, events: Sequence[Event] = (), **columns: Any) -> Chunk:
    rows = step_rows(loss, gradient_norm=norm, **columns)
    steps = rows["step"].tolist()
    sampled = updates(steps, np.broadcast_to(ratios, len(steps)).tolist())
    return replace(chunk(rows, events), updates=(sampled,))


def found_by(detector: Detector, run: Chunk) -> Candidate:
    detector.feed(run)
    (found,) = detector.candidates()
    return found


def nonfinite(step: int, stage: str, value: float, *finite: str) -> Event:
    order = [{"stage": s, "name": s, "finite": True} for s in finite]
    first = {"stage": stage, "name": "ce", "finite": False, "value": value}
    return event("nonfinite", step, first_seen_step=step, first=first, order=[*order, first])


def test_two_rows_are_enough_where_the_updates_were_too_large() -> None:
    found = found_by(LossNonfinite(), watched([1.0, 1.4, NAN], [0.9, 7.0, NAN], [1.0, 1.5, NAN]))
    assert found.cause == "learning-rate-too-high"
    assert "Step 2 changed the weights by 7 of themselves (median over a.weight, b.weight)" in found.summary


def test_a_single_batch_that_breaks_a_calm_run_is_not_the_rate() -> None:
    """Its loss is huge and so is the step it leads to; the steps before were ordinary."""
    quiet = np.random.default_rng(0).normal(1, 0.05, 30)
    run = watched(
        [*quiet, 1e8, NAN], [*[1e-3] * 30, 1e6, NAN], [*quiet, 1e7, NAN], [nonfinite(32, "loss", NAN, "input", "weight")]
    )
    found = found_by(LossNonfinite(), run)
    assert found.cause == "numeric-overflow"
    assert "At step 31 the loss had jumped to 1e+08 in a single step" in found.summary


def test_the_same_jump_after_the_rate_rose_is_the_rate() -> None:
    quiet = np.random.default_rng(0).normal(1, 0.05, 30)
    rate = [*[0.01] * 29, 1.0, 1.0, 1.0]
    run = watched([*quiet, 1e8, NAN], [*[1e-3] * 29, 5.0, 1e6, NAN], [*quiet, 1e7, NAN], learning_rate=rate)
    found = found_by(LossNonfinite(), run)
    assert found.cause == "learning-rate-too-high"


def test_small_updates_clear_the_rate_whatever_noise_did_to_the_loss() -> None:
    events = [nonfinite(3, "loss", INF, "input", "weight")]
    found = found_by(LossNonfinite(), watched([0.003, 0.05, INF], 1e-3, [1.0, 2.0, 2.0], events))
    assert found.cause == "numeric-overflow"
    assert found_by(LossNonfinite(), chunk(step_rows([0.003, 0.05, INF]), events)).cause == "learning-rate-too-high"


def test_an_infinite_loss_over_finite_weights_is_an_overflow_and_nan_is_not_told() -> None:
    rows = step_rows([INF, INF])
    assert found_by(LossNonfinite(), chunk(rows, [nonfinite(1, "loss", INF, "weight")])).cause == "numeric-overflow"
    rows = step_rows([1.0, 1.0, NAN, INF])
    assert found_by(LossNonfinite(), chunk(rows, [nonfinite(3, "loss", NAN, "weight")])).cause == "unknown"


def test_nan_before_any_update_over_finite_weights_came_with_the_batch() -> None:
    """The batch of the very first step is not seen: nothing tells the probe yet which model is trained."""
    events = [event("signals", 1, signals={"loss": "seen"}), nonfinite(1, "loss", NAN, "weight")]
    assert found_by(LossNonfinite(), chunk(step_rows([NAN, NAN]), events)).cause == "nonfinite-input"


def test_weights_that_have_exploded_make_their_updates_look_small() -> None:
    loss, ratio = [1.0, *[1e14] * 30, NAN], [9.0, 5.0, *[1e-6] * 29, NAN]
    found = found_by(LossNonfinite(), watched(loss, ratio, 1.0, [nonfinite(32, "layer", NAN, "input", "weight")]))
    assert found.cause == "learning-rate-too-high" and "from 1 to 1e+14" in found.summary


@pytest.mark.parametrize(("first_update", "cause"), [(40.0, "learning-rate-too-high"), (1e-3, "numeric-overflow")])
def test_an_explosion_at_the_first_step_long_before_the_end_in_infinity(first_update: float, cause: str) -> None:
    """The loss never came back near its first value: the steps just before inf were small, the first one was not."""
    losses, ratios = [12.0, 1e14, *[5e8] * 80, INF], [first_update, *[1e-4] * 82]
    run = watched(losses, ratios, [500.0, 1e15, *[1e5] * 80, INF], [nonfinite(83, "loss", INF, "input", "weight")])
    assert found_by(LossNonfinite(), run).cause == cause


def test_a_loss_that_was_infinite_again_and_again_stays_an_alarm() -> None:
    loss = [1.0] * 20 + [INF, 1.0, INF, 1.0, INF] + [1.0] * 20
    found = found_by(LossNonfinite(), chunk(step_rows(loss)))
    assert (found.level, found.stands, found.last_step) == ("alarm", False, 25)


def test_gradients_that_overflow_after_large_updates() -> None:
    found = found_by(GradientNonfinite(), watched([1.0, 2.0, 2.5], [0.5, 3.0, NAN], [1.0, 8.0, INF]))
    assert found.cause == "learning-rate-too-high" and "changed the weights by 3" in found.summary


def learned(rows: int = 300) -> npt.NDArray[Any]:
    noise = np.exp(np.random.default_rng(0).normal(0, 0.1, rows))
    return (0.1 + 2.2 * np.exp(-np.arange(rows) / 50)) * noise


def test_a_climb_beside_one_large_update_is_an_alarm() -> None:
    loss = np.concatenate([learned(), 1.5 * learned(100) / learned(100)])
    calm = LossTrend()
    calm.feed(watched(loss, 1e-3, 0.5))
    assert [c.level for c in calm.candidates()] == ["watch"]
    found = found_by(LossTrend(), watched(loss, [*[1e-3] * 300, 1.5, *[1e-3] * 99], 0.5))
    assert (found.level, found.cause, found.first_step) == ("alarm", "learning-rate-too-high", 301)
    assert "step 301 changed the weights by 1.5" in found.summary
    assert found.evidence["second_line"] == "large updates"


def test_such_a_climb_that_came_back_was_a_fault_and_says_until_when() -> None:
    loss = np.concatenate([learned(), np.full(100, 1.5), np.full(200, 0.1)])
    found = found_by(LossTrend(), watched(loss, [*[1e-3] * 300, 1.5, *[1e-3] * 299], 0.5))
    assert (found.level, found.stands, found.last_step) == ("alarm", False, 400)


@pytest.mark.parametrize("ratio", [1e-3, 0.05])
def test_a_curriculum_jump_with_larger_gradients_is_told_and_no_alarm(ratio: float) -> None:
    loss = np.concatenate([learned(), 0.5 + 1.5 * np.exp(-np.arange(300) / 80)])
    detector = LossTrend()
    detector.feed(watched(loss, [*[1e-3] * 300, *[ratio] * 300], np.repeat([0.5, 5.0], 300)))
    assert [(c.symptom, c.cause, c.level) for c in detector.candidates()] == [("loss-climbs", "data-changed", "info")]


def test_no_jump_is_lost_where_samples_are_thinned() -> None:
    history, steps = UpdateHistory(), range(5 * MOST_SAMPLES)
    history.feed(updates(steps, [3.0 if step == 777 else 1e-3 for step in steps]))
    found = history.largest(700, 800)
    assert found is not None and (found.step, found.ratio) == (777, 3.0)
    assert len(history.steps) <= MOST_SAMPLES and history.largest(778, 10**6) is not None


def test_a_matrix_that_began_at_zero_and_vectors_have_no_part_in_it() -> None:
    history = UpdateHistory()
    weight = [[1.0, 0.0, 0.0], [1.0, 0.1, 0.1], [1.0, 0.2, 0.2]]
    history.feed(update_rows([1, 2, 3], weight, [[0.01, 0.1, 0.1]] * 3, NAMES))
    assert history.ratios.tolist() == pytest.approx([0.01, 0.01, 0.01])
