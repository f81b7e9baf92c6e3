"""loss-nonfinite and gradient-nonfinite: since when, what climbed before, which parameter was the first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from forgemon.chunk import Event
from forgemon.detectors.candidate import Candidate, Detector
from forgemon.detectors.gradient_nonfinite import GradientNonfinite
from forgemon.detectors.loss_nonfinite import LossNonfinite
from tests.detectors.runs import Values, chunk, event, gradient_rows, step_rows

NAN, INF = float("nan"), float("inf")


def loss_finding(loss: Values, events: Sequence[Event] = (), **columns: Any) -> Candidate | None:
    detector = LossNonfinite()
    detector.feed(chunk(step_rows(loss, **columns), events))
    found = detector.candidates()
    return found[0] if found else None


def test_a_run_that_dies_at_its_fifth_step_is_explained() -> None:
    found = loss_finding([2.31, 15.6, 4.37e3, 4.52e5, NAN], gradient_norm=[1.0, 9.0, 800.0, 1e5, NAN], learning_rate=10.0)
    assert found is not None
    assert (found.level, found.cause, found.first_step) == ("alarm", "learning-rate-too-high", 5)
    assert "At step 5 the loss became nan." in found.summary
    assert "from 2.31 to 4.52e+05" in found.summary and "learning rate 10" in found.summary


def test_nan_out_of_a_quiet_run_blames_no_learning_rate() -> None:
    noise = np.random.default_rng(0).normal(0, 0.05, 400)
    found = loss_finding([*(0.5 + noise), NAN, NAN], gradient_norm=[*(1 + noise), NAN, NAN])
    assert found is not None
    assert (found.level, found.cause, found.first_step) == ("alarm", "unknown", 401)
    assert "Nothing climbed before" in found.summary


def test_heavy_tailed_batch_losses_are_no_climb() -> None:
    loss = np.exp(np.random.default_rng(1).normal(-4, 2, 600))
    found = loss_finding([*loss, NAN], gradient_norm=[*np.sqrt(loss), NAN])
    assert found is not None and found.cause == "unknown"


def test_a_first_step_that_is_nan_is_not_explained_but_said() -> None:
    detector = LossNonfinite()
    detector.feed(chunk(step_rows([NAN, NAN, NAN]), [event("signals", 1, signals={"loss": "seen"})]))
    (found,) = detector.candidates()
    assert (found.level, found.cause, found.first_step) == ("alarm", "unknown", 1)
    assert "too few to say why" in found.summary


@pytest.mark.parametrize("backwards", [NAN, 0.0])
def test_a_missing_loss_is_not_nan(backwards: float) -> None:
    losses = [1.0, NAN, 0.9, NAN, NAN]
    assert loss_finding(losses, micro_batches=np.where(np.isnan(losses), backwards, 1)) is None


def test_a_loss_that_was_never_visible_is_not_nan() -> None:
    assert loss_finding([NAN] * 30) is None


def test_one_nan_that_passes_is_to_watch_and_says_until_when() -> None:
    found = loss_finding([1.0] * 20 + [NAN] + [1.0] * 20)
    assert found is not None
    assert (found.level, found.stands, found.last_step) == ("watch", False, 21)
    assert "finite again at step 22" in found.summary


def test_under_a_loss_scale_twenty_in_a_row_are_normal() -> None:
    assert (few := loss_finding([1.0, *[INF] * 20], loss_scale=1024.0)) is not None and few.level == "watch"
    assert (many := loss_finding([1.0, *[INF] * 21], loss_scale=1024.0)) is not None and many.level == "alarm"


def test_minus_infinity_counts() -> None:
    found = loss_finding([1.0, -INF])
    assert found is not None and "became -inf" in found.summary


def entry(stage: str, finite: bool, name: str = "x", **more: Any) -> dict[str, Any]:
    return {"stage": stage, "name": name, "finite": finite, **more}


def seen_around(step: int, first: str, *order: dict[str, Any], last_finite: int | None = None) -> Event:
    before = step - 1 if last_finite is None else last_finite
    name = next(e["name"] for e in order if e["stage"] == first and not e["finite"])
    return event(
        "nonfinite",
        step,
        first_seen_step=step,
        last_finite_step=before,
        first={"stage": first, "name": name},
        order=list(order),
    )


SUDDEN = [1.0] * 20 + [NAN] * 3
CLIMBED = [2.31, 15.6, 4.37e3, 4.52e5, NAN]
FINITE_INPUT, FINITE_WEIGHT, BAD_LOSS = entry("input", True), entry("weight", True), entry("loss", False, "cross_entropy")


def test_an_input_that_was_the_first_is_the_cause_whatever_climbed() -> None:
    given = entry("input", False, "images", sample=5, batch=3)
    for loss in (SUDDEN, CLIMBED):
        found = loss_finding(loss, [seen_around(loss.index(NAN) + 1, "input", given, BAD_LOSS, FINITE_WEIGHT)])
        assert found is not None and found.cause == "nonfinite-input"
        assert found.evidence["first_nonfinite"] == "input images (sample 5 of batch 3)"
        assert "began in the input images (sample 5 of batch 3); the weights still finite." in found.summary
        assert "climbed" not in found.summary and "had risen" not in found.summary


@pytest.mark.parametrize(
    ("loss", "batch", "cause"),
    [(CLIMBED, None, "learning-rate-too-high"), (CLIMBED, 3, "nonfinite-input"), (SUDDEN, None, "nonfinite-input")],
    ids=["what another model put out", "a loader's batch", "nothing climbed"],
)
def test_the_input_of_one_model_of_several_may_come_from_another_that_blew_up(
    loss: list[float], batch: int | None, cause: str
) -> None:
    given = entry("input", False, "input", sample=0, **({} if batch is None else {"batch": batch}))
    said = seen_around(loss.index(NAN) + 1, "input", given, BAD_LOSS, FINITE_WEIGHT)
    rows = [step_rows(values, optimizer=index) for index, values in enumerate([loss, [1.0] * len(loss)])]
    detector = LossNonfinite()
    detector.feed(chunk(np.concatenate(rows), [said]))
    (found,) = detector.candidates()
    assert (found.level, found.cause) == ("alarm", cause)


def test_what_arises_out_of_finite_inputs_and_weights_is_an_overflow() -> None:
    found = loss_finding(SUDDEN, [seen_around(21, "loss", FINITE_INPUT, BAD_LOSS, FINITE_WEIGHT)])
    assert found is not None and found.cause == "numeric-overflow"
    later = seen_around(21, "layer", FINITE_INPUT, entry("layer", False, "head (Linear)"), BAD_LOSS, FINITE_WEIGHT)
    both = loss_finding(SUDDEN, [seen_around(21, "loss", FINITE_INPUT, BAD_LOSS, FINITE_WEIGHT), later])
    assert both is not None and "began in the layer head (Linear)" in both.summary  # the newer event knows more
    climbed = loss_finding(CLIMBED, [seen_around(5, "loss", FINITE_INPUT, BAD_LOSS, FINITE_WEIGHT)], gradient_norm=1.0)
    assert climbed is not None and climbed.cause == "learning-rate-too-high"


@pytest.mark.parametrize(
    "said",
    [
        seen_around(21, "loss", BAD_LOSS, FINITE_WEIGHT),  # the input was not seen
        seen_around(22, "loss", FINITE_INPUT, BAD_LOSS, FINITE_WEIGHT),  # of a later step
        seen_around(
            21, "weight", FINITE_INPUT, BAD_LOSS, entry("weight", False), last_finite=12
        ),  # what happened since is unknown
        event("nonfinite", 21, first_seen_step=21, first="?", order=[1, {"stage": 3}]),
        event("nonfinite", 21, first_seen_step=21, first={"stage": "loss"}, order={}),
    ],
)
def test_no_cause_is_named_where_it_was_not_seen(said: Event) -> None:
    found = loss_finding(SUDDEN, [said])
    assert found is not None and found.cause == "unknown"


def test_weights_broken_by_the_step_before_blame_the_learning_rate() -> None:
    found = loss_finding(SUDDEN, [seen_around(21, "weight", FINITE_INPUT, BAD_LOSS, entry("weight", False, "head.weight"))])
    assert found is not None and found.cause == "learning-rate-too-high"
    assert "head.weight was not finite before that step began" in found.summary


NAMES = ["in.weight", "in.bias", "mid.weight", "out.weight"]


def gradient_finding(norm: Values, tables: list[list[float]], **columns: Any) -> Candidate | None:
    detector: Detector = GradientNonfinite()
    rows = step_rows([1.0] * len(norm), gradient_norm=norm, **columns)
    gradients = [gradient_rows(range(1, len(tables) + 1), tables, NAMES)] if tables else []
    detector.feed(chunk(rows, gradients=gradients))
    found = detector.candidates()
    return found[0] if found else None


def test_names_the_first_parameter_and_the_last_finite_one_before_it() -> None:
    found = gradient_finding([2.0, 2.0, NAN], [[1, 1, 1, 1], [1, 1, 1, 1], [NAN, NAN, NAN, 1]])
    assert found is not None and (found.level, found.first_step) == ("alarm", 3)
    assert found.evidence["parameter"] == "mid.weight" and found.evidence["last_finite_parameter"] == "out.weight"
    assert "3 of 4 parameters" in found.summary


def test_a_gradient_that_was_the_first_of_a_finite_loss_is_an_overflow() -> None:
    detector = GradientNonfinite()
    said = seen_around(3, "gradient", FINITE_INPUT, entry("loss", True), entry("gradient", False, "mid.weight"), FINITE_WEIGHT)
    detector.feed(chunk(step_rows([1.0] * 3, gradient_norm=[2.0, 2.0, NAN]), [said]))
    (found,) = detector.candidates()
    assert found.cause == "numeric-overflow" and found.evidence["first_nonfinite"] == "gradient mid.weight"
    assert "; the input, the loss and the weights still finite" in found.summary


def test_a_parameter_without_gradient_is_not_nan() -> None:
    assert gradient_finding([2.0, 1.7, 1.7], [[1, 1, 1, 1], [1, NAN, 1, 1], [1, NAN, 1, 1]]) is None


def test_steps_a_scaler_skips_are_normal_until_many_come_in_a_row() -> None:
    now_and_then = [1.0, INF] * 40
    assert gradient_finding(now_and_then, [], loss_scale=65536.0) is None
    found = gradient_finding([1.0, INF, 1.0, *[INF] * 21], [], loss_scale=65536.0)
    assert found is not None and (found.first_step, found.evidence["nonfinite_rows"]) == (4, 21)


def test_says_nothing_where_the_loss_is_nan_too() -> None:
    detector = GradientNonfinite()
    detector.feed(chunk(step_rows([1.0, NAN], gradient_norm=[1.0, NAN])))
    assert detector.candidates() == []


def test_an_input_that_was_not_seen_is_not_called_finite() -> None:
    order = [
        {"stage": "input", "name": "target of mse_loss", "finite": True},
        {"stage": "layer", "name": "what goes into mse_loss", "finite": False},
        {"stage": "weight", "name": "all 6", "finite": True},
    ]
    seen = event("nonfinite", 2, first_seen_step=2, first={"stage": "layer", "name": "what goes into mse_loss"}, order=order)
    found = loss_finding([1.0, NAN, NAN], [seen])
    assert found is not None and found.cause == "unknown" and "the input" not in found.summary
    order[0] = {"stage": "input", "name": "inputs", "finite": True}
    found = loss_finding([1.0, NAN, NAN], [seen])
    assert found is not None and found.cause == "numeric-overflow" and "the input and the weights still finite" in found.summary
