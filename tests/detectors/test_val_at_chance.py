"""val-at-chance: validation never better than untrained; overfitting, fine-tuning, other scales and slow averages are not this."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from forgemon.chunk import Chunk, ParameterTable
from forgemon.detectors.candidate import Candidate
from forgemon.detectors.val_at_chance import ValAtChance
from tests.detectors.runs import (
    Values,
    candidates_of_any_split,
    chunk,
    evaluations,
    event,
    gradient_rows,
    metric_rows,
    step_rows,
)

CHANCE = math.log(4)  # the weights of tests.detectors.runs end in four outputs
NAMES = ["a.weight", "a.bias", "b.weight"]


def falling(first: float = CHANCE, last: float = 0.1, count: int = 800) -> np.ndarray[Any, Any]:
    chance = np.random.default_rng(0)
    return (last + (first - last) * np.exp(-np.arange(count) / 150)) * np.exp(chance.normal(0, 0.1, count))


def run(values: Values, loss: Values | None = None, *, epoch: int | None = 100, **more: Any) -> Chunk:
    """Validation every hundred steps."""
    losses = falling() if loss is None else np.asarray(loss)
    train = [float(np.mean(losses[i : i + 100])) for i in range(0, len(losses), 100)]
    passes = evaluations(values, [*train, *[train[-1]] * len(values)][: len(values)])
    began = [] if epoch is None else [event("epoch", epoch, epoch=1)]
    metrics, facts = more.pop("metrics", None), more.pop("facts", [])
    norms = gradient_rows(range(1, 4), [[1.0] * 3] * 3, NAMES)
    return chunk(step_rows(losses, **more), [*began, *passes, *facts], [norms], metrics=metrics)


def judged(whole: Chunk) -> Candidate | None:
    detector = ValAtChance()
    detector.feed(whole)
    found = detector.candidates()
    return found[0] if found else None


def renamed(whole: Chunk, metric: str) -> Chunk:
    passes = [{**e, "metric": metric} if e["kind"] == "evaluation" else e for e in whole.events]
    return chunk(whole.steps, passes, whole.gradients)


RISING = [CHANCE + 0.1 * i for i in range(8)]


@pytest.mark.parametrize(
    "values",
    [RISING, [CHANCE] * 8, [2 * CHANCE, 3.0, 2.8, 3.1, 2.9, 3.0], [3.0, 20.0, 40.0, 39.0, 38.0, 37.0, 36.0, 35.0, 34.0]],
)
def test_a_model_that_learns_and_never_beats_a_guess_is_an_alarm(values: list[float]) -> None:
    found = judged(run(values))
    assert found is not None and (found.level, found.cause) == ("alarm", "labels-misaligned")
    assert (found.first_step, found.last_step) == (100, 100 * len(values))
    assert "no better than untrained" in found.summary and "every sample was new" in found.summary
    assert found.evidence["loss_of_a_guess"] == pytest.approx(CHANCE)


@pytest.mark.parametrize(("metric", "level"), [("cross_entropy", "alarm"), ("elbo", None)])
def test_a_first_pass_far_above_is_on_another_scale_unless_the_criterion_is_torchs_own(metric: str, level: str | None) -> None:
    whole = run([11.3, 12.9, 13.7, 13.9, 13.9], falling(last=0.01))
    found = judged(renamed(whole, metric))
    assert (found.level if found else None) == level


def test_without_a_loader_it_says_that_samples_may_have_been_learned_by_heart() -> None:
    for passes in (RISING, [2 * CHANCE] * 8):
        found = judged(run(passes, epoch=None))
        assert found is not None and found.level == "alarm" and "learned by heart" in found.summary
    surely_not = judged(with_loader(run(RISING, epoch=None)))
    assert surely_not is not None and "learned by heart" not in surely_not.summary


def with_loader(whole: Chunk) -> Chunk:
    return chunk(whole.steps, [event("loader", 0, role="training", length=10**6), *whole.events], whole.gradients)


def test_before_the_first_epoch_ends_an_early_pass_is_enough() -> None:
    found = judged(with_loader(run(RISING, epoch=None)))
    assert found is not None and found.level == "alarm" and "every sample was new" not in found.summary


def test_the_fact_that_explains_it_is_the_cause() -> None:
    found = judged(run(RISING, facts=[event("fact", 100, fact="eval-in-train-mode", times=1, key="cross_entropy")]))
    assert found is not None and found.cause == "eval-in-train-mode"


def test_three_passes_are_not_enough() -> None:
    assert judged(run(RISING[:3])) is None


def small(length: int, fell: int, *, epoch: int = 4, facts: tuple[Any, ...] = (), passes: Values = RISING) -> Candidate | None:
    """Training on `length` samples, `epoch` steps an epoch, whose loss falls at step `fell`; of a model with 4000 parameters."""
    losses = np.where(np.arange(800) < fell, CHANCE, 0.1)
    whole = run(passes, losses, epoch=epoch, facts=list(facts))
    (gradients,) = whole.gradients
    shapes = ((995, 4), (4,), (4, 4))
    table = ParameterTable(0, 0, gradients.table.names, shapes, gradients.table.dtypes, gradients.table.optimizers)
    loaders = [event("loader", 0, role="training", length=length), event("loader", 0, role="validation", length=10**6)]
    return judged(chunk(whole.steps, [*loaders, *whole.events], [type(gradients)(table, gradients.rows)]))


def test_few_samples_that_may_have_been_learned_by_heart_are_none() -> None:
    assert small(60, fell=30, passes=[1.1 * CHANCE, *[2 * CHANCE] * 7]) is None
    assert small(60, fell=30) is None
    assert small(60, fell=12, epoch=1) is None  # a full batch


@pytest.mark.parametrize("length", [60, 1500])
def test_what_is_learned_before_it_is_seen_again_is_not_by_heart(length: int) -> None:
    found = small(length, fell=60, epoch=100)
    assert found is not None and found.level == "alarm" and "every sample was new" in found.summary


def test_many_samples_that_are_learned_soon_are_not_by_heart() -> None:
    assert small(1500, fell=200, epoch=50) is None
    assert getattr(small(1500, fell=100, epoch=50), "level", None) == "alarm"
    assert getattr(small(3000, fell=200, epoch=50), "level", None) == "alarm"  # for four thousand parameters


def test_a_fact_that_explains_it_says_more_than_few_samples() -> None:
    fact = event("fact", 100, fact="eval-in-train-mode", times=1, key="cross_entropy")
    assert getattr(small(60, fell=30, facts=(fact,)), "cause", None) == "eval-in-train-mode"


def test_a_model_that_had_learned_in_the_first_rows_seen_began_at_a_guess() -> None:
    late = falling(first=0.85 * CHANCE)
    assert judged(run([0.88 * CHANCE, *RISING[1:]], late)) is None
    assert judged(run([0.95 * CHANCE, *RISING[1:]], late)) is not None


def test_two_passes_are_enough_far_above_a_guess() -> None:
    found = judged(run([2 * CHANCE, 3 * CHANCE]))
    assert found is not None and found.level == "alarm"
    assert judged(run([2 * CHANCE])) is None and judged(run([2 * CHANCE, 1.2 * CHANCE])) is None
    assert judged(run([2 * CHANCE, 3 * CHANCE], epoch=None)) is None  # samples may have been learned by heart


def test_two_passes_are_enough_that_grow_worse_than_a_guess() -> None:
    found = judged(run([1.1 * CHANCE, 1.2 * CHANCE]))
    assert found is not None and found.level == "alarm" and found.evidence["passes"] == 2
    assert judged(run([1.2 * CHANCE, 1.1 * CHANCE])) is None and judged(run([CHANCE, 1.2 * CHANCE])) is None
    assert judged(run([1.1 * CHANCE, 1.2 * CHANCE], epoch=None)) is None


def test_what_lies_far_above_a_guess_is_no_overfitting() -> None:
    late = falling(count=800)
    late[10:100] = 0.1
    assert getattr(judged(run([2 * CHANCE] * 8, late, epoch=None)), "level", None) == "alarm"
    assert getattr(judged(run([1.2 * CHANCE] * 8, late, epoch=None)), "level", None) == "watch"


def test_a_model_that_learns_within_a_few_steps_began_at_its_first_row() -> None:
    loss = np.concatenate([[CHANCE, 1.1, 1.0, 0.9, 0.8], np.full(795, 0.05)])
    far = judged(run([2.2 * CHANCE, *[3 * CHANCE] * 7], loss))
    assert far is not None and (far.level, far.cause) == ("alarm", "labels-misaligned")
    near = judged(run([0.8 * CHANCE, *[1.1 * CHANCE] * 7], loss))
    assert near is None or near.level == "watch"


@pytest.mark.parametrize(
    "values",
    [
        [0.8 * CHANCE, CHANCE, 1.2 * CHANCE, 1.5 * CHANCE, 2 * CHANCE],
        [CHANCE, 0.6 * CHANCE, CHANCE, 1.5 * CHANCE, 2 * CHANCE],
    ],
)
def test_overfitting_that_first_improved_is_not_this(values: list[float]) -> None:
    assert judged(run(values)) is None


def test_a_validation_loss_that_only_fell_late_is_none() -> None:
    assert judged(run([*RISING[:5], 0.8 * CHANCE])) is None


def test_an_average_of_the_weights_that_learns_late_is_none() -> None:
    assert judged(run([CHANCE - 0.001 * i**2 for i in range(8)])) is None


def test_tiny_drops_are_none() -> None:
    assert judged(run([CHANCE] * 8, falling(last=0.8 * CHANCE))) is None


def test_fine_tuning_from_a_low_loss_is_none() -> None:
    assert judged(run([0.3] * 8, falling(0.14, 0.08))) is None
    assert judged(run([0.15] * 8, falling(0.14, 0.02), epoch=20)) is None


def test_a_loss_that_is_no_classification_is_watched_if_the_first_epoch_shows_it() -> None:
    found = judged(run([5.0, 5.5, 5.2, 5.4, 5.6], falling(5.0, 0.1)))
    assert found is not None and found.level == "watch"
    assert judged(run([5.0, 5.5, 5.2, 5.4, 5.6], falling(5.0, 0.1), epoch=None)) is None


def test_a_metric_on_another_scale_is_none() -> None:
    assert judged(run([90.0, 91.0, 92.0, 91.0, 90.0])) is None


@pytest.mark.parametrize(("metric", "found"), [("val_loss", True), ("val_perplexity", False), ("val/error", False)])
def test_numbers_on_a_scale_of_their_own_are_none(metric: str, found: bool) -> None:
    whole = run([4.0] * 8)
    assert (judged(renamed(whole, metric)) is not None) == found


def test_a_first_pass_long_after_the_first_epoch_is_not_certain() -> None:
    found = judged(run(RISING, 0.05 + 1.3 * np.exp(-np.arange(800) / 15), epoch=20))
    assert found is not None and found.level == "watch"


def test_another_validation_that_learned_excuses_it() -> None:
    good = evaluations([1.0, 0.5, 0.4, 0.4], metric="cross_entropy #2")
    whole = run(RISING)
    assert judged(chunk(whole.steps, [*whole.events, *good], whole.gradients)) is None


@pytest.mark.parametrize(("accuracy", "found"), [(0.26, True), (26.0, True), (0.6, False), (60.0, False)])
def test_an_accuracy_above_chance_excuses_it(accuracy: float, found: bool) -> None:
    metrics = {"val/acc": metric_rows([100, 200], [0.25, accuracy]), "train_acc": metric_rows([100], [0.99])}
    assert (judged(run(RISING, metrics=metrics)) is not None) == found


def test_classes_that_come_one_after_the_other_are_none() -> None:
    """Each new class lets the loss jump up again: it never really falls."""
    loss = np.tile(np.concatenate([np.full(15, 1.5), np.full(35, 0.05)]), 16)
    assert judged(run(RISING, loss)) is None
    assert judged(run(RISING, [*loss[:50], *falling()[50:]])) is not None


def test_several_optimizers_losses_below_zero_and_training_data_are_left_out() -> None:
    assert judged(run(RISING, optimizer=np.arange(800) % 2)) is None
    assert judged(run(RISING, falling() - 0.5)) is None
    whole = run(RISING)
    passes = [{**e, "metric": "cross_entropy (training data)"} if e["kind"] == "evaluation" else e for e in whole.events]
    assert judged(chunk(whole.steps, passes, whole.gradients)) is None


def test_the_newest_table_says_how_many_classes_there_are() -> None:
    whole = run(RISING)
    (gradients,) = whole.gradients
    shapes = ((16, 4), (16,), (1000, 16))
    large = ParameterTable(1, 0, gradients.table.names, shapes, gradients.table.dtypes, gradients.table.optimizers)
    more = type(gradients)(large, gradients.rows)
    found = judged(chunk(whole.steps, whole.events, [gradients, more]))
    assert found is not None and found.level == "watch"  # 1.4 is no guess among a thousand


def test_any_split_sees_the_same() -> None:
    whole = run(RISING, metrics={"val_acc": metric_rows([100, 200], [0.2, 0.3])})
    assert len(candidates_of_any_split(ValAtChance, whole)) == 1
