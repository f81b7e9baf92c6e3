"""loss-stuck and vanishing-gradients: the loss barely moves, and each reason is told from the others; ordinary loops are silent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from forgemon.chunk import Chunk
from forgemon.detectors.candidate import Candidate
from forgemon.detectors.each_training import each_training
from forgemon.detectors.loss_stuck import LossStuck
from forgemon.diagnosis import Diagnosis
from tests.detectors.runs import Values, candidates_of_any_split, chunk, event, gradient_rows, step_rows, update_rows

NAMES = ("a.weight", "a.bias", "b.weight", "b.bias", "c.weight", "d.weight", "e.weight", "f.weight")
Curve = npt.NDArray[Any]


def flat(rows: int = 400, level: float = 2.08, spread: float = 0.05, seed: int = 0) -> Curve:
    return level * np.exp(np.random.default_rng(seed).normal(0, spread, rows))


def run(
    loss: Values,
    ratio: float | Values = 1e-3,
    norms: float | Curve = 0.1,
    steps: Any = None,
    zero_matrices: int = 0,
    events: Any = (),
    **columns: Any,
) -> Chunk:
    rows = step_rows(loss, steps=steps, gradient_norm=0.5, **columns)
    count = len(rows)
    table = np.broadcast_to(norms, (count, len(NAMES))).tolist()
    weight = np.ones((count, len(NAMES)))
    update = np.broadcast_to(np.asarray(ratio, np.float64).reshape(-1, 1), weight.shape).copy()
    weight[:, 1:4:2] = 0.0  # biases, with ratios without a limit
    for matrix in [i for i, name in enumerate(NAMES) if name.endswith("weight")][:zero_matrices]:
        weight[:, matrix] = 0.5 * np.arange(count)
        update[:, matrix] = 0.5
    updates = update_rows(rows["step"].tolist(), weight.tolist(), update.tolist(), NAMES)
    gradients = gradient_rows(rows["step"].tolist(), table, NAMES)
    return replace(chunk(rows, gradients=[gradients], events=events), updates=(updates,))


def judged(whole: Chunk) -> Candidate | None:
    detector = each_training(LossStuck)()
    detector.feed(whole)
    found = detector.candidates()
    return found[0] if found else None


def test_a_rate_that_is_too_low() -> None:
    found = judged(run(flat(200), 1e-7))
    assert found is not None
    assert (found.symptom, found.cause, found.level) == ("loss-stuck", "learning-rate-too-low", "alarm")
    assert found.evidence["update_to_weight"] == pytest.approx(1e-7)
    assert "a.weight, b.weight, c.weight" in found.summary and "bias" not in found.summary


def test_gradients_that_were_zero_from_the_first_step_on_are_no_rate_that_is_too_low() -> None:
    norms = np.tile([0.0, 0.1, 0.0, 0.1, 0.0, 0.0, 0.0, 0.0], (200, 1))
    found = judged(run(flat(200), 0.0, norms))
    assert found is not None
    assert (found.symptom, found.cause, found.level) == ("loss-stuck", "vanishing-gradients", "alarm")
    norms[:, 7] = 1e-6  # one layer moves
    found = judged(run(flat(200), 0.0, norms))
    assert found is not None and found.cause != "vanishing-gradients"


def test_a_rate_that_is_low_but_moves_the_weights_is_to_watch() -> None:
    found = judged(run(flat(), 5e-5))
    assert found is not None and (found.cause, found.level) == ("learning-rate-too-low", "watch")


@pytest.mark.parametrize("ratio", [2e-4, 1e-3, 0.1])
@pytest.mark.parametrize("spread", [0.01, 0.5])
def test_a_floor_with_ordinary_updates_is_silent(ratio: float, spread: float) -> None:
    """Noise in the labels, or fine-tuning from weights that are as good as they get."""
    assert judged(run(flat(3000, 0.1, spread), ratio)) is None


def test_the_steps_of_a_warm_up_do_not_count() -> None:
    rate = np.minimum(1.0, np.arange(1, 601) / 500)
    assert judged(run(flat(600), 1e-5 * rate, learning_rate=rate)) is None


def test_the_end_of_a_schedule_does_not_count() -> None:
    rate = 0.5 * (1 + np.cos(np.linspace(0, np.pi, 1000)))
    assert judged(run(flat(1000), 1e-3 * rate**8, learning_rate=rate)) is None


def test_a_loss_that_moves_in_the_end_was_stuck_until_then() -> None:
    loss = np.concatenate([flat(300), flat(300) * np.linspace(1, 0.2, 300)])
    found = judged(run(loss, np.repeat([1e-6, 1e-3], 300)))
    assert found is not None and (found.level, found.stands) == ("watch", False)
    assert 300 < found.last_step < 400


def test_a_fall_by_chance_while_the_updates_move_nothing_does_not_hide_it() -> None:
    loss = flat(400)
    loss[50:100] *= 0.9
    found = judged(run(loss, 1e-7))
    assert found is not None and (found.cause, found.level, found.last_step) == ("learning-rate-too-low", "alarm", 400)
    assert judged(run(loss, 5e-6)) is None  # two per mille: what fine-tuning does with a model that is good already
    loss[100:] *= 0.9  # it stays there
    assert judged(run(loss, 1e-7)) is None


def test_silent_for_what_learns_slowly_with_small_updates() -> None:
    assert judged(run(flat(400) * np.linspace(1, 0.8, 400), 5e-5)) is None


def dead_after(rows: int, died: int) -> Curve:
    return np.where(np.arange(rows)[:, None] < died, 0.1, 0.0) * np.ones(len(NAMES))


def test_units_that_a_large_step_killed() -> None:
    loss = np.concatenate([[2.1, 300.0], flat(198, 2.1)])
    found = judged(run(loss, [12.0, 0.5, *[0.0] * 198], dead_after(200, 2)))
    assert found is not None
    assert (found.symptom, found.cause, found.level) == ("loss-stuck", "learning-rate-too-high", "alarm")
    assert found.evidence["largest_update_to_weight"] == 12.0 and found.first_step == 3


def test_units_that_died_after_the_loop_had_learned() -> None:
    loss = np.concatenate([flat(300) * np.linspace(1, 0.05, 300), flat(100, 0.3)])
    ratio = np.concatenate([np.full(300, 1e-3), [2.0], np.zeros(99)])
    found = judged(run(loss, ratio, dead_after(400, 301)))
    assert found is not None and (found.symptom, found.cause) == ("vanishing-gradients", "learning-rate-too-high")


def test_zero_gradients_without_a_large_step_are_not_blamed_on_the_rate() -> None:
    """A loop that fits its data perfectly: nothing is left to learn."""
    loss = flat(400) * np.exp(-np.arange(400) / 20)
    assert judged(run(loss, 1e-3, dead_after(400, 200))) is None


def profile(rows: int, fall: float) -> Curve:
    return np.tile(0.1 * fall ** np.arange(len(NAMES) - 1, -1, -1.0), (rows, 1))


def test_gradients_that_die_towards_the_first_layers() -> None:
    early = judged(run(flat(60), 1e-3, profile(60, 0.1)))
    assert early is not None and (early.symptom, early.level) == ("vanishing-gradients", "watch")
    found = judged(run(flat(), 1e-3, profile(400, 0.1)))
    assert found is not None
    assert (found.symptom, found.cause, found.level) == ("vanishing-gradients", "depth-or-activation", "alarm")
    assert "a.weight, b.weight" in found.summary


def test_a_profile_that_fades_as_the_last_layer_finds_its_place_still_stands() -> None:
    faded = np.where(np.arange(400)[:, None] < 100, profile(400, 0.1), 1e-9)
    found = judged(run(flat(), 1e-3, faded))
    assert found is not None and (found.symptom, found.level, found.first_step) == ("vanishing-gradients", "alarm", 1)
    grown = np.where(np.arange(400)[:, None] < 100, profile(400, 0.1), 0.01)
    assert judged(run(flat(), 1e-3, grown)) is None


def test_what_the_last_layer_can_do_alone_it_may_learn_in_a_moment() -> None:
    faded = np.where(np.arange(400)[:, None] < 4, profile(400, 0.05), 1e-9)
    found = judged(run(flat(), 0.0, faded))
    assert found is not None and (found.symptom, found.level, found.first_step) == ("vanishing-gradients", "alarm", 1)
    two_rows = np.where(np.arange(400)[:, None] < 2, profile(400, 0.05), 1e-9)
    other = judged(run(flat(), 0.0, two_rows))
    assert other is not None and other.symptom == "loss-stuck"


def test_vanishing_gradients_are_the_root_of_a_loss_that_stands() -> None:
    diagnosis = Diagnosis()
    diagnosis.feed(run(flat(), 1e-8, profile(400, 0.1)))
    (found,) = diagnosis.report().findings
    assert (found.symptom, found.cause) == ("vanishing-gradients", "depth-or-activation")
    assert "barely moved" in str(found.evidence["loss-stuck"])


def test_gradients_that_differ_between_layers_are_ordinary() -> None:
    assert judged(run(flat(), 1e-3, profile(400, 0.4))) is None
    assert judged(run(flat(), 1e-3, profile(400, 0.3))) is None
    cliff = np.where(np.arange(len(NAMES)) < 4, 1e-9, 0.1) * np.ones((400, 1))  # and no fall from layer to layer
    assert judged(run(flat(), 1e-3, cliff)) is None
    alone = np.where(np.arange(len(NAMES)) == 0, 1e-9, 0.1) * np.ones((400, 1))  # one layer at rest
    assert judged(run(flat(), 1e-3, alone)) is None


def test_a_jump_at_the_start_after_which_nothing_moves() -> None:
    found = judged(run(flat(200), [0.9, 0.7, *[0.02] * 198]))
    assert found is not None and (found.symptom, found.cause) == ("loss-stuck", "learning-rate-too-high")


def test_a_jump_at_the_start_from_which_the_loss_has_not_come_back() -> None:
    jump = 2.0 + np.where(np.arange(300) > 0, 1e4 * np.exp(-np.arange(300) / 20), 0)
    found = judged(run(jump, [0.9, 0.7, *[0.02] * 298]))
    assert found is not None and (found.symptom, found.cause, found.level) == ("loss-stuck", "learning-rate-too-high", "alarm")
    assert "no better than untrained since: 2 at first" in found.summary
    assert judged(run(np.where(np.arange(300) > 100, 1.5, jump), [0.9, 0.7, *[0.02] * 298])) is None
    late = judged(run(np.where(np.arange(300) >= 200, 1.5, jump), [0.9, 0.7, *[0.02] * 298]))
    assert late is not None and (late.level, late.stands, late.last_step) == ("alarm", False, 200)
    assert late.summary.endswith("It stood until step 200.")
    assert judged(run(jump, 0.02)) is None


def test_matrices_that_begin_at_zero_are_left_out() -> None:
    assert judged(run(flat(200), 2e-3, zero_matrices=4)) is None


@pytest.mark.parametrize("fact", ["optimizer-mismatch", "frozen-parameters"])
def test_what_keeps_the_weights_still_is_named(fact: str) -> None:
    found = judged(run(flat(), 0.0, events=[event("fact", 4, fact=fact, times=1)]))
    assert found is not None and (found.symptom, found.cause, found.level) == ("loss-stuck", fact, "alarm")


def test_off_with_two_optimizers_and_for_losses_below_zero() -> None:
    assert judged(run(flat(), 1e-8, optimizer=np.arange(400) % 2)) is None
    assert judged(run(flat() - 2.1, 1e-8)) is None


def test_a_run_joined_in_the_middle_may_have_converged() -> None:
    found = judged(run(flat(), 1e-7, events=[event("attached", 9, mode="attach")]))
    assert found is not None and found.level == "watch"


def test_few_rows_of_a_long_run_are_enough() -> None:
    steps = [*range(1, 33), *range(60, 5000, 100)]
    found = judged(run(flat(len(steps)), 1e-7, steps=steps))
    assert found is not None and (found.cause, found.level) == ("learning-rate-too-low", "alarm")


def test_nothing_is_said_where_nothing_is_visible_but_after_long() -> None:
    assert judged(chunk(step_rows(flat(400)))) is None
    found = judged(chunk(step_rows(flat(1100))))
    assert found is not None and (found.cause, found.level) == ("unknown", "watch")


@pytest.mark.parametrize("seed", range(5))
def test_any_split_gives_the_same(seed: int) -> None:
    ratio = np.exp(np.random.default_rng(seed).normal(-14, 1, 3000))
    whole = run(flat(3000), ratio, dead_after(3000, 2900))
    assert len(candidates_of_any_split(LossStuck, whole, seeds=2)) == 1
