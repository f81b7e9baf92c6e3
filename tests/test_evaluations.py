"""Evaluations and checkpoints: which is best, which file holds it, and what a later save took away."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from forgemon.evaluations import Evaluations
from forgemon.reader import METRIC_ROW
from tests.recorded import START


def evaluation(step: int, value: Any, metric: str = "cross_entropy", **fields: Any) -> dict[str, Any]:
    return {"kind": "evaluation", "time": START + step, "step": step, "metric": metric, "value": value, **fields}


def checkpoint(step: int, path: object, **fields: Any) -> dict[str, Any]:
    return {"kind": "checkpoint", "time": START + step, "step": step, "path": path, "function": "torch.save", **fields}


def fed(*events: dict[str, Any]) -> Evaluations:
    evaluations = Evaluations()
    for event in events:
        if event["kind"] == "evaluation":
            evaluations.add_evaluation(event)
        else:
            evaluations.add_checkpoint(event)
    return evaluations


def metric_rows(*rows: tuple[int, float]) -> Any:
    return np.array([(step, START + step, value) for step, value in rows], METRIC_ROW)


def best_of(evaluations: Evaluations) -> tuple[int, float, str | None]:
    best = evaluations.best()
    assert best is not None
    return best.step, best.value, best.path


def test_the_best_is_the_lowest_with_the_file_saved_after_it() -> None:
    evaluations = fed(
        evaluation(10, 3.0), checkpoint(10, "/a.pt"), evaluation(20, 1.0), checkpoint(20, "/b.pt"), evaluation(30, 2.0)
    )

    assert best_of(evaluations) == (20, 1.0, "/b.pt")
    assert [e.is_best for e in evaluations.evaluations()] == [True, True, False]
    assert [e.checkpoint for e in evaluations.evaluations()] == ["/a.pt", "/b.pt", None]


def test_a_later_save_of_the_same_path_takes_the_best_away() -> None:
    evaluations = fed(
        evaluation(10, 1.0), checkpoint(10, "/runs/last.pt"), evaluation(20, 2.0), checkpoint(20, "/runs/./last.pt")
    )

    assert best_of(evaluations) == (10, 1.0, None)
    assert [c.overwritten for c in evaluations.checkpoints()] == [True, False]


def test_of_two_files_the_one_that_was_not_overwritten_holds_the_best() -> None:
    first = (evaluation(10, 1.0), checkpoint(10, "/last.pt"), checkpoint(10, "/best.pt"))
    later = (evaluation(20, 2.0), checkpoint(20, "/last.pt"))

    assert best_of(fed(*first)) == (10, 1.0, "/last.pt")
    assert best_of(fed(*first, *later)) == (10, 1.0, "/best.pt")
    assert [e.checkpoint for e in fed(*first, *later).evaluations()] == ["/best.pt", "/last.pt"]


def test_saving_a_file_twice_at_the_best_step_keeps_it() -> None:
    assert best_of(fed(evaluation(10, 1.0), checkpoint(10, "/best.pt"), checkpoint(10, "/best.pt"))) == (10, 1.0, "/best.pt")


def test_a_save_after_the_next_training_step_holds_other_weights() -> None:
    assert best_of(fed(evaluation(10, 1.0), checkpoint(11, "/late.pt"))) == (10, 1.0, None)


def test_a_save_just_before_the_evaluation_holds_the_same_weights() -> None:
    evaluations = fed(checkpoint(9, "/old.pt"), checkpoint(10, "/before.pt"), evaluation(10, 1.0))

    assert best_of(evaluations) == (10, 1.0, "/before.pt")
    assert evaluations.evaluations()[0].checkpoint == "/before.pt"


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", None, "x", [1]])
def test_what_is_no_finite_number_is_never_best(value: object) -> None:
    evaluations = fed(evaluation(5, value), evaluation(10, 7.0), evaluation(20, value))

    assert best_of(evaluations) == (10, 7.0, None)
    assert [e.is_best for e in evaluations.evaluations()] == [False, True, False]
    assert fed(evaluation(5, value)).best() is None


def test_equal_is_not_better() -> None:
    assert best_of(fed(evaluation(10, 1.0), evaluation(20, 1.0))) == (10, 1.0, None)


def test_held_out_metrics_come_before_those_on_training_data() -> None:
    passes = [evaluation(s, 0.1, "cross_entropy (training data)") for s in (10, 20, 30)]

    assert best_of(fed(*passes[:1]))[1] == 0.1
    assert best_of(fed(*passes, evaluation(30, 2.0)))[1] == 2.0
    assert [e.is_best for e in fed(*passes, evaluation(30, 2.0)).evaluations()] == [False, False, False, True]


def test_each_metric_has_its_own_best_and_the_commoner_one_is_shown() -> None:
    evaluations = fed(evaluation(10, 5.0, "a"), evaluation(20, 1.0, "b"), evaluation(30, 0.5, "b"), evaluation(40, 4.0, "a"))

    assert [e.is_best for e in evaluations.evaluations()] == [True, True, True, True]
    evaluations.add_evaluation(evaluation(50, 9.0, "b"))
    assert best_of(evaluations) == (30, 0.5, None)


def test_values_logged_at_the_step_of_an_evaluation_belong_to_it_whichever_is_read_first() -> None:
    evaluations = Evaluations()
    evaluations.add_metric("accuracy", metric_rows((5, 0.5), (10, 0.6), (10, 0.7)))
    evaluations.add_evaluation(evaluation(10, 1.0))
    assert evaluations.evaluations()[0].metrics == {"accuracy": 0.7}
    evaluations.add_metric("f1", metric_rows((10, 0.3), (11, 0.4)))
    evaluations.add_metric("cross_entropy", metric_rows((10, 1.0)))

    assert evaluations.evaluations()[0].metrics == {"accuracy": 0.7, "f1": 0.3}


def test_fields_say_what_was_seen_and_what_was_not() -> None:
    seen = evaluation(10, 1.0, training=True, grad_enabled=True, epoch=3, batches=7, samples=70, duration_s=2.5, train_loss=0.5)
    first, second = fed(seen, evaluation(20, 1.0)).evaluations()

    assert (first.mode_correct, first.grad_enabled, first.epoch, first.batches, first.samples) == (False, True, 3, 7, 70)
    assert (first.duration_s, first.train_loss) == (2.5, 0.5)
    assert (second.mode_correct, second.grad_enabled, second.epoch, second.batches) == (None, None, None, 0)
    assert math.isnan(second.train_loss) and math.isnan(second.duration_s)


def test_a_deleted_file_holds_it_no_more_and_is_named() -> None:
    saved = (evaluation(10, 1.0), checkpoint(10, "/out/best.pt"), evaluation(20, 2.0), checkpoint(20, "/out/last.pt"))
    gone = {"kind": "checkpoint_deleted", "time": START + 30, "step": 30, "path": "/out/best.pt", "saved_at_step": 10}
    assert best_of(fed(*saved)) == (10, 1.0, "/out/best.pt")
    best = fed(*saved, gone).best()
    assert best is not None and (best.path, best.lost, best.exists()) == (None, "/out/best.pt", False)
    assert best_of(fed(*saved, gone, evaluation(30, 0.5), checkpoint(30, "/out/best.pt"))) == (30, 0.5, "/out/best.pt")
    never = fed(evaluation(10, 1.0)).best()
    assert never is not None and (never.lost, never.exists()) == (None, None)


def test_the_other_files_of_a_checkpoint_do_not_hold_the_weights() -> None:
    optimizer = checkpoint(10, "/out/checkpoint-10/optimizer.pt", has_weights=False, has_optimizer=True)
    model = checkpoint(10, "/out/checkpoint-10/model.safetensors", has_weights=True, holds_step=10)
    assert best_of(fed(evaluation(10, 1.0), optimizer)) == (10, 1.0, None)
    assert best_of(fed(evaluation(10, 1.0), optimizer, model)) == (10, 1.0, "/out/checkpoint-10/model.safetensors")


def test_a_file_counts_for_the_step_whose_weights_it_holds() -> None:
    copied = checkpoint(40, "/out/best.pt", has_weights=True, holds_step=10)
    unknown = checkpoint(40, "/out/best.pt", has_weights=True, holds_step=None)
    assert best_of(fed(evaluation(10, 1.0), evaluation(40, 3.0), copied)) == (10, 1.0, "/out/best.pt")
    assert best_of(fed(evaluation(10, 2.0), evaluation(40, 1.0), unknown)) == (40, 1.0, None)


def test_sanity_checks_before_training_and_shorter_passes_are_not_the_best() -> None:
    sanity = evaluation(0, 0.1, samples=90)
    quick = evaluation(15, 0.2, samples=10)
    full = [evaluation(step, value, samples=100) for step, value in ((10, 2.0), (20, 1.0), (30, 3.0))]
    assert best_of(fed(sanity, full[0], quick, *full[1:])) == (20, 1.0, None)
    assert best_of(fed(sanity)) == (0, 0.1, None)


def test_checkpoints_carry_what_stood_when_they_were_saved() -> None:
    saved = checkpoint(10, "/a.pt", metric="l2", value="inf", evaluation_step=8, has_optimizer=False)
    first, second = fed(saved, checkpoint(11, "/b.pt"), checkpoint(11, None)).checkpoints()

    assert (first.metric, first.value, first.evaluation_step, first.has_optimizer) == ("l2", math.inf, 8, False)
    assert (second.metric, second.evaluation_step, second.has_optimizer) == (None, None, None) and math.isnan(second.value)


def test_the_best_is_that_of_the_newest_model() -> None:
    first = [evaluation(10, 0.5), checkpoint(10, "/a.pt"), evaluation(20, 0.6)]
    evaluations = fed(*first, evaluation(30, 3.0, model=1), evaluation(40, 2.0, model=1), checkpoint(40, "/b.pt"))

    assert best_of(evaluations) == (40, 2.0, "/b.pt")
    assert [e.is_best for e in evaluations.evaluations()] == [True, False, True, True]


def test_the_best_of_a_search_is_that_of_the_file_that_was_saved_in_the_end() -> None:
    search = [evaluation(10, 0.5), evaluation(20, 0.4, model=1), evaluation(30, 2.0, model=2)]
    evaluations = fed(*search, checkpoint(30, "/best.pt", holds_step=20))
    best = evaluations.best()

    assert best is not None and (best.step, best.value, best.path) == (20, 0.4, "/best.pt")
    assert (best.model, best.models) == (1, 3)


@pytest.mark.parametrize(
    "saved",
    [checkpoint(20, "/teacher.pt"), checkpoint(30, "/worse.pt", holds_step=10), checkpoint(30, "/last.pt", holds_step=29)],
    ids=["before the newest began", "no better", "of no result"],
)
def test_a_file_of_another_model_does_not_hold_the_best_of_the_newest(saved: dict[str, Any]) -> None:
    results = [evaluation(10, 3.0), evaluation(20, 0.4, model=1)]
    told = sorted([*results, evaluation(30, 2.0, model=2), saved], key=lambda event: event["step"])
    best = fed(*told).best()

    assert best is not None and (best.step, best.path, best.model) == (30, None, 2)
