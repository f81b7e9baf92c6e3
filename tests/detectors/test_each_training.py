"""Several optimizers in one process: trainings one after the other, each judged alone, and others of which nothing is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from forgemon.chunk import Chunk, Event, Gradients, Updates
from forgemon.detectors.candidate import Candidate
from forgemon.detectors.each_training import MOST_TRAININGS, each_training
from forgemon.detectors.exploding_gradients import ExplodingGradients
from forgemon.detectors.gradient_spike import GradientSpike
from forgemon.detectors.loss_stuck import LossStuck
from forgemon.detectors.loss_trend import LossTrend
from tests.detectors.runs import candidates_of_any_split, chunk, event, gradient_rows, step_rows, update_rows

KINDS = [each_training(kind) for kind in (LossTrend, ExplodingGradients, GradientSpike, LossStuck)]
ROWS = 600


def learned(seed: int) -> Any:
    noise = np.exp(np.random.default_rng(seed).normal(0, 0.1, ROWS))
    return (0.1 + 2.2 * np.exp(-np.arange(ROWS) / 50)) * noise


def runaway(seed: int) -> Any:
    return np.where(np.arange(ROWS) < 300, learned(seed), 0.1 * np.exp((np.arange(ROWS) - 300) / 40))


def optimizers(with_new_weights: Sequence[bool]) -> list[Event]:
    """Each steps for the first time ROWS steps after the one before."""
    return [event("optimizer", ROWS * i, index=i, new_weights=new) for i, new in enumerate(with_new_weights)]


def run(losses: Sequence[Any], with_new_weights: Sequence[bool], numbers: Any = None, first: int = 0) -> Chunk:
    """One training after the other, or as the `numbers` of the optimizers say."""
    loss = np.concatenate(losses)
    numbers = first + np.repeat(np.arange(len(losses)), ROWS) if numbers is None else numbers
    norm = np.where(loss > 3, 8.0, 0.5)
    return chunk(step_rows(loss, gradient_norm=norm, optimizer=numbers), optimizers(with_new_weights))


def found(whole: Chunk) -> list[Candidate]:
    return candidates_of_any_split(each_training(LossTrend), whole)


def test_what_the_first_training_showed_is_over_and_stays() -> None:
    (first,) = found(run([runaway(0)], [False]))
    (both,) = found(run([runaway(0), learned(1)], [False, True]))
    assert first.symptom == "loss-climbs" and first.stands
    assert both == replace(first, stands=False)


def test_a_later_training_is_judged_by_itself() -> None:
    (second,) = found(run([learned(0), runaway(1)], [False, True]))
    assert (second.symptom, second.level, second.stands) == ("loss-climbs", "alarm", True)
    assert second.first_step > ROWS and float(second.evidence["best_loss"]) < 0.2

    (newest,) = found(run([runaway(0), runaway(1)], [False, True]))
    assert newest == second


def test_healthy_trainings_one_after_the_other_show_nothing() -> None:
    whole = run([learned(seed) for seed in range(4)], [False, True, True, True])
    assert [candidates_of_any_split(kind, whole) for kind in KINDS] == [[]] * len(KINDS)


@pytest.mark.parametrize(
    ("with_new_weights", "numbers"),
    [
        ([False, False], None),  # a later phase of the same weights
        ([False, True], np.arange(2 * ROWS) % 2),  # a GAN
        ([False, True], np.repeat([0, 1, 0], [700, 400, 100])),  # the first goes on
    ],
)
def test_of_optimizers_that_are_no_trainings_of_their_own_nothing_is_said(with_new_weights: list[bool], numbers: Any) -> None:
    assert found(run([runaway(0), runaway(1)], with_new_weights, numbers)) == []


def test_of_very_many_none_is_judged_and_the_only_one_always() -> None:
    rows = step_rows(np.concatenate([runaway(0), learned(1), learned(2)]), gradient_norm=0.5)
    rows["optimizer"] = np.repeat([0, MOST_TRAININGS, MOST_TRAININGS + 3], ROWS)
    events = [event("optimizer", 0, index=int(i), new_weights=True) for i in np.unique(rows["optimizer"])]
    assert found(chunk(rows, events)) == []
    assert found(chunk(rows[: 2 * ROWS], events)) != []
    assert found(run([runaway(0)], [True], first=MOST_TRAININGS + 9)) != []


def of_two_optimizers(measured: Any) -> Any:
    return replace(measured, table=replace(measured.table, optimizers=(0, 0, 1, 1)))


def test_norms_of_one_table_are_those_of_the_optimizer_that_stepped() -> None:
    """A first model that lives on has columns in the table of the second one, without a number in them."""
    names, steps = ("a.weight", "b.weight", "a.weight", "b.weight"), list(range(1, 2 * ROWS + 1))
    second = np.arange(2 * ROWS)[:, None] >= ROWS
    of_second = np.array([[False, False, True, True]])
    of_its_own = second == of_second
    norms, weights = np.where(of_its_own, 0.1, np.nan), np.where(of_its_own, 1.0, np.nan)
    updates = np.where(of_its_own, np.where(second, 1e-8, 1e-3), np.nan)  # the rate of the second one is too low
    gradients: Gradients = of_two_optimizers(gradient_rows(steps, norms.tolist(), names))
    changed: Updates = of_two_optimizers(update_rows(steps, weights.tolist(), updates.tolist(), names))
    loss = np.concatenate([learned(0), 2.1 * np.exp(np.random.default_rng(1).normal(0, 0.05, ROWS))])
    rows = step_rows(loss, gradient_norm=0.5, optimizer=np.repeat([0, 1], ROWS))
    whole = chunk(rows, optimizers([False, True]), gradients=[gradients], updates=[changed])

    stuck = candidates_of_any_split(each_training(LossStuck), whole)
    assert [(c.symptom, c.level, c.stands) for c in stuck] == [("loss-stuck", "alarm", True)]
    assert stuck[0].first_step > ROWS and stuck[0].evidence["update_to_weight"] == pytest.approx(1e-8)
