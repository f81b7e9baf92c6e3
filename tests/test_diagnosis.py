"""The diagnosis: one alarm for one root cause, and the same report however the run is cut into pieces."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from forgemon.detectors import DETECTED
from forgemon.detectors.candidate import Candidate
from forgemon.diagnosis import ABSORPTIONS, compose
from forgemon.symptoms import SYMPTOMS
from tests.detectors.fact_events import fact
from tests.detectors.runs import (
    START,
    chunk,
    event,
    machine_event,
    step_rows,
)
from tests.diagnosed import report_of

NAN, INF = float("nan"), float("inf")


def candidate(symptom: str, cause: str, first: int = 10, last: int = 20, **changes: Any) -> Candidate:
    base = Candidate(symptom, cause, "alarm", first, last, f"{symptom}.", "never")
    return dataclasses.replace(base, **changes)


def test_a_loop_without_zero_grad_has_one_alarm_with_what_follows_as_evidence() -> None:
    loss = [*np.linspace(2.3, 0.5, 100), *np.exp(np.arange(60) / 3), *[NAN] * 10]
    norm = [*np.linspace(1, 30, 100), *np.exp(4 + np.arange(60) / 3), *[NAN] * 10]
    reused = [NAN, *[1.0] * 169]
    report = report_of(chunk(step_rows(loss, gradient_norm=norm, gradients_reused=reused)))
    (found,) = report.findings
    assert (found.symptom, found.first_step) == ("missing-zero-grad", 2)
    assert "At step 161 the loss became nan" in str(found.evidence["loss-nonfinite"])
    assert {c.id: c.answer for c in report.checklist}["loss-finite"] == "no"
    assert "First failure pattern: missing-zero-grad, since step 2." in report.loop_note


def test_nan_takes_the_climb_before_it_and_its_cause() -> None:
    (found,) = compose([candidate("loss-climbs", "learning-rate-too-high", 5, 9), candidate("loss-nonfinite", "unknown")])
    assert (found.symptom, found.cause) == ("loss-nonfinite", "learning-rate-too-high")
    assert found.evidence["loss-climbs"] == "loss-climbs."


def test_labels_that_do_not_fit_explain_a_validation_loss_that_rises() -> None:
    (found,) = compose(
        [candidate("val-at-chance", "labels-misaligned"), candidate("train-val-divergence", "overfitting", 15, 30)]
    )
    assert (found.symptom, found.evidence["train-val-divergence"]) == ("val-at-chance", "train-val-divergence.")


def test_what_explodes_with_a_loss_that_climbs_is_said_once() -> None:
    spike = candidate("gradient-spike", "bad-batch", 9, 9, level="watch")  # the loss did not follow it
    parts = [candidate("exploding-gradients", "no-clipping", level="watch"), spike]
    (found,) = compose([*parts, candidate("loss-climbs", "learning-rate-too-high")])
    assert (found.symptom, sorted(found.evidence)) == ("loss-climbs", ["exploding-gradients", "gradient-spike"])


@pytest.mark.parametrize("curve", ["loss-climbs", "loss-oscillates"])
def test_a_spoilt_batch_that_the_loss_followed_is_the_root_of_what_the_curve_does_then(curve: str) -> None:
    batch, climb = candidate("gradient-spike", "bad-batch", 50, 50), candidate(curve, "learning-rate-too-high", 50, 90)
    (found,) = compose([batch, climb])
    assert (found.symptom, found.cause, found.level, list(found.evidence)) == ("gradient-spike", "bad-batch", "alarm", [curve])
    too_fast = dataclasses.replace(batch, cause="learning-rate-too-high")
    before = dataclasses.replace(climb, first_step=49)
    for parts in ([too_fast, climb], [batch, before], [dataclasses.replace(batch, level="watch"), climb]):
        (found,) = compose(parts)
        assert (found.symptom, found.cause) == (curve, "learning-rate-too-high")


def test_weights_that_grew_for_long_are_the_root_of_a_loss_that_ends_in_infinity() -> None:
    weights = candidate("weights-growing", "no-regularisation", 20, 380, level="watch")
    end = candidate("loss-nonfinite", "learning-rate-too-high", 371, 400)
    (found,) = compose([weights, end])
    assert (found.symptom, found.cause, found.level) == ("weights-growing", "no-regularisation", "alarm")
    assert found.evidence["loss-nonfinite"] == "loss-nonfinite."
    soon = dataclasses.replace(end, first_step=90)
    assert [c.symptom for c in compose([weights, soon])] == ["loss-nonfinite"]
    climbs = candidate("loss-climbs", "learning-rate-too-high", 100, 380)
    assert [c.symptom for c in compose([weights, climbs, end])] == ["loss-nonfinite"]
    (found,) = compose([weights, dataclasses.replace(end, cause="nonfinite-input")])  # which no weights bring about
    assert (found.symptom, found.cause) == ("loss-nonfinite", "nonfinite-input") and "weights-growing" in found.evidence


def test_what_happened_long_after_the_root_was_mended_stays_beside_it() -> None:
    root = candidate("missing-zero-grad", "missing-zero-grad", 2, 30, stands=False)
    later = candidate("loss-nonfinite", "learning-rate-too-high", 9000, 9100)
    assert {c.symptom for c in compose([root, later])} == {"missing-zero-grad", "loss-nonfinite"}


def test_what_was_over_before_the_root_began_stays_beside_it() -> None:
    root = candidate("missing-zero-grad", "missing-zero-grad", 500, 900)
    earlier = candidate("loss-climbs", "learning-rate-too-high", 10, 90)
    assert len(compose([root, earlier])) == 2


FOLLOWS = {
    "gradients-discarded": "loss-stuck",
    "optimizer-mismatch": "loss-stuck",
    "frozen-parameters": "loss-stuck",
    "clip-scaled-gradients": "loss-stuck",
    "softmax-before-cross-entropy": "loss-stuck",
    "accumulation-not-scaled": "loss-oscillates",
    "clip-after-step": "exploding-gradients",
    "eval-in-train-mode": "val-at-chance",
    "train-in-eval-mode": "loss-climbs",
    "loss-graph-retained": "memory-growing",
}


@pytest.mark.parametrize("root", FOLLOWS)
def test_a_fault_of_the_loop_takes_what_follows_from_it(root: str) -> None:
    (found,) = compose([candidate(FOLLOWS[root], "unknown", 50, 900), candidate(root, root)])
    assert found.symptom == root and found.evidence[FOLLOWS[root]] == f"{FOLLOWS[root]}."
    assert found.summary == f"{root}. From it follows: {FOLLOWS[root]}."
    assert len(compose([candidate("train-val-divergence", "overfitting", 50, 900), candidate(root, root)])) == 2


def test_weights_that_grow_explain_a_validation_that_gets_worse() -> None:
    growing = candidate("weights-growing", "no-regularisation", 10, 900, level="watch")
    (found,) = compose([growing, candidate("train-val-divergence", "overfitting", 300, 900)])
    assert (found.symptom, found.level) == ("weights-growing", "alarm") and "train-val-divergence" in found.evidence


def test_a_head_that_learns_alone_explains_its_growing_weights() -> None:
    growing = candidate("weights-growing", "no-regularisation", 10, 900, level="watch")
    (found,) = compose([growing, candidate("frozen-parameters", "frozen-parameters", 1, 900)])
    assert found.symptom == "frozen-parameters"


def test_a_bad_batch_is_no_consequence_of_the_loop() -> None:
    bad = candidate("loss-nonfinite", "nonfinite-input", 50, 900)
    assert len(compose([bad, candidate("accumulation-not-scaled", "accumulation-not-scaled")])) == 2


def test_what_one_model_puts_out_once_its_gradients_were_not_finite_is_the_input_of_the_other() -> None:
    order = candidate("missing-zero-grad", "missing-zero-grad", 2, 400)
    gradients = candidate("gradient-nonfinite", "learning-rate-too-high", 58, 400)
    of_its_own = candidate("loss-nonfinite", "nonfinite-input", 58, 400)
    after = dataclasses.replace(of_its_own, first_step=59)
    assert [c.symptom for c in compose([order, gradients, after])] == ["missing-zero-grad"]
    assert sorted(c.symptom for c in compose([order, gradients, of_its_own])) == ["loss-nonfinite", "missing-zero-grad"]


@pytest.mark.parametrize("root", ["clip-before-backward", "clip-after-step"])
def test_steps_too_large_follow_from_a_clip_that_held_nothing_back(root: str) -> None:
    clip, climbs = candidate(root, root, 3, 258), candidate("loss-climbs", "learning-rate-too-high", 151, 400)
    died = candidate("vanishing-gradients", "learning-rate-too-high", 166, 400)
    assert [c.symptom for c in compose([clip, climbs, died])] == [root]
    slow = candidate("vanishing-gradients", "vanishing-gradients", 166, 400)
    assert sorted(c.symptom for c in compose([clip, slow])) == sorted([root, "vanishing-gradients"])


def test_what_is_only_worth_knowing_takes_nothing() -> None:
    frozen = candidate("frozen-parameters", "frozen-parameters", level="info")
    assert len(compose([frozen, candidate("loss-stuck", "unknown", 50, 900)])) == 2


def test_a_doubtful_root_hides_no_alarm() -> None:
    (found,) = compose(
        [candidate("gradient-nonfinite", "unknown", level="watch"), candidate("loss-climbs", "learning-rate-too-high")]
    )
    assert (found.symptom, found.level) == ("loss-climbs", "alarm")


def test_every_rule_and_every_detector_speaks_of_rows_of_the_table() -> None:
    named = {rule.by for rule in ABSORPTIONS} | {symptom for rule in ABSORPTIONS for symptom in rule.takes}
    assert named <= SYMPTOMS.keys() and SYMPTOMS.keys() >= DETECTED


def test_an_empty_run_says_so() -> None:
    report = report_of(chunk())
    assert report.findings == () and report.loop_note == "No optimizer step was seen."
    assert {c.answer for c in report.checklist} == {"not visible"}


def test_alarms_come_first() -> None:
    rows = step_rows([1.0] * 9, gradients_reused=1.0)
    report = report_of(chunk(rows, machine_events=[machine_event("ended", START + 99, how="finished", exit_code=0)]))
    assert [f.level for f in report.findings] == ["alarm", "info"]


FULL = "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
FULL += "RuntimeError: unable to allocate shared memory(shm) for file </torch_98_36_0>: No space left on device (28)"


@pytest.mark.parametrize("before", [[], [fact("shm-too-small")]], ids=["the first batch", "a later one"])
def test_a_full_dev_shm_is_what_ended_the_run(before: list[Any]) -> None:
    where = {
        "file": "/home/ada/train.py",
        "line": 9,
        "function": "main",
        "source": ["for x in loader:"],
        "source_first_line": 9,
    }
    raised = event("exception", 10, type="RuntimeError", message=FULL, where=where)
    other = event("exception", 10, type="RuntimeError", message="an end of its own", where=where)
    end = machine_event("ended", START + 99, how="exception")
    (found,) = report_of(chunk(events=[*before, raised], machine_events=[end])).findings
    assert (found.symptom, found.level, found.cause) == ("shm-too-small", "alarm", "shm-too-small")
    assert "An exception ended the program after step 10 at /home/ada/train.py:9" in found.summary
    apart = report_of(chunk(events=[*before, other], machine_events=[end])).findings
    assert "ended" in [f.symptom for f in apart if f.level == "alarm"]
