"""The checklist: yes, no or not visible from what was seen, never a guess."""

from __future__ import annotations

import numpy as np

from forgemon.checklist import Checklist
from forgemon.chunk import Chunk
from forgemon.findings import Check, Finding
from tests.detectors.fact_events import fact
from tests.detectors.runs import chunk, evaluations, event, step_rows
from tests.diagnosed import report_of

NAN = float("nan")


def checks(whole: Chunk) -> dict[str, Check]:
    return {check.id: check for check in report_of(whole).checklist}


def healthy() -> Chunk:
    rows = step_rows(np.linspace(2, 0.5, 300), gradients_reused=[NAN, *[0.0] * 299])
    passes = evaluations([1.5, 1.0, 0.8], [1.6, 1.1, 0.7])
    saved = [event("checkpoint", 100 * i, path=f"/out/{i}.pt", evaluation_step=100 * i) for i in (1, 2, 3)]
    return chunk(rows, [e for pair in zip(passes, saved, strict=True) for e in pair])


def test_a_healthy_loop_is_trusted_with_the_steps_since_which_it_is_known() -> None:
    found = checks(healthy())
    assert {i: (c.answer, c.since_step) for i, c in found.items()} == {
        "gradients-zeroed": ("yes", 2),
        "train-mode": ("yes", 1),
        "eval-mode": ("yes", 100),
        "no-grad-validation": ("yes", 100),
        "best-checkpoint": ("yes", 300),
        "loss-finite": ("yes", 1),
        "data-apart": ("not visible", None),
    }
    assert "/out/3.pt" in found["best-checkpoint"].detail


def test_nothing_seen_is_nothing_said() -> None:
    assert {c.answer for c in checks(chunk(step_rows([NAN] * 5, training=NAN))).values()} == {"not visible"}


def test_validation_in_training_mode_with_gradients_is_a_no_with_its_step() -> None:
    passes = evaluations([1, 0.9, 0.8], training=True, grad_enabled=True)
    found = checks(chunk(None, [*passes, fact("eval-in-train-mode", at_step=100), fact("eval-with-grad", at_step=100)]))
    assert (found["eval-mode"].answer, found["eval-mode"].since_step) == ("no", 100)
    assert "1 Dropout and 2 BatchNorm in training mode" in found["eval-mode"].detail
    assert (found["no-grad-validation"].answer, found["no-grad-validation"].since_step) == ("no", 100)


def test_a_mode_on_which_nothing_depends_and_gradients_that_are_used_are_said_as_they_are() -> None:
    passes = evaluations([1, 0.9, 0.8], training=True, grad_enabled=True)
    found = checks(chunk(None, passes))
    assert found["eval-mode"].answer == found["no-grad-validation"].answer == "not visible"
    assert "3 of 3 validation passes ran with model.training True, first at step 100; it is not" in found["eval-mode"].detail
    found = checks(chunk(None, [event("signals", 100, signals={"validation modes": "seen"}), *passes]))
    assert found["eval-mode"].detail.endswith("no Dropout or BatchNorm was seen in training mode")


def test_a_mode_that_is_not_visible_is_not_guessed() -> None:
    found = checks(chunk(None, evaluations([1, 0.9], training=None, grad_enabled=None)))
    assert found["eval-mode"].answer == found["no-grad-validation"].answer == "not visible"


def test_training_in_evaluation_mode_is_a_no_after_validation_and_open_from_the_start() -> None:
    rows = step_rows([1.0] * 10, training=[1] * 4 + [0] * 6)
    found = checks(chunk(rows, [fact("train-in-eval-mode")]))["train-mode"]
    assert (found.answer, found.since_step) == ("no", 5)
    found = checks(chunk(rows, [fact("train-in-eval-mode", from_the_start=True)]))["train-mode"]
    assert (found.answer, found.since_step) == ("not visible", None) and "on purpose or because" in found.detail
    found = checks(chunk(rows))["train-mode"]
    assert found.answer == "not visible"
    assert "model.training was False at 6 of 10 steps, first at step 5, last at step 10; no Dropout" in found.detail


def test_discarded_gradients_are_cleared_at_the_wrong_time() -> None:
    rows = step_rows([1.0] * 10, gradients_reused=0)
    assert checks(chunk(rows))["gradients-zeroed"].answer == "yes"
    found = checks(chunk(rows, [fact("gradients-discarded")]))["gradients-zeroed"]
    assert (found.answer, found.since_step) == ("no", 4)


def test_what_another_finding_took_as_its_evidence_is_still_a_no() -> None:
    chance = Finding("val-at-chance", "unknown", "alarm", 7, 9, "", {"eval-in-train-mode": "It ran so."}, "", None, "")
    checklist = Checklist()
    checklist.feed(chunk(None, evaluations([1, 0.9])))
    found = {check.id: check for check in checklist.checks([chance])}["eval-mode"]
    assert (found.answer, found.since_step, found.detail) == ("no", 7, "It ran so.")


def test_a_best_result_that_a_worse_one_overwrote_is_a_no_once_the_probe_has_looked_for_it() -> None:
    passes = evaluations([1.0, 0.5, 0.9])
    saved = [event("checkpoint", 100 * i, path="/out/last.pt", evaluation_step=100 * i) for i in (1, 2, 3)]
    events = [e for pair in zip(passes, saved, strict=True) for e in pair]
    found = checks(chunk(None, events))["best-checkpoint"]
    assert (
        found.answer == "not visible" and "/out/last.pt held cross_entropy 0.5 of step 200 and was overwritten" in found.detail
    )
    found = checks(chunk(None, [*events, fact("best-checkpoint-not-saved", step=300)]))["best-checkpoint"]
    assert (found.answer, found.since_step) == ("no", 200)


SEEN = event("signals", 150, signals={"sample overlap": "seen"})


def test_data_are_apart_only_where_the_samples_were_seen() -> None:
    passes = evaluations([1.0, 0.5])
    assert checks(chunk(None, passes))["data-apart"].answer == "not visible"
    assert checks(chunk(None, [SEEN]))["data-apart"].answer == "not visible"
    found = checks(chunk(None, [SEEN, *passes]))["data-apart"]
    assert (found.answer, found.since_step) == ("yes", 150)
    found = checks(chunk(None, [SEEN, *passes, fact("val-uses-train-data", at_step=100)]))["data-apart"]
    assert (found.answer, found.since_step) == ("no", 100)
    found = checks(chunk(None, [SEEN, fact("val-uses-train-data", loader=0)]))["data-apart"]
    assert (found.answer, found.detail) == ("not visible", "only the training data were evaluated")
    found = checks(chunk(None, [SEEN, *passes, fact("val-uses-train-data", on_purpose=True)]))["data-apart"]
    assert found.answer == "yes"


def test_a_best_result_newer_than_any_checkpoint_may_still_be_saved() -> None:
    saved = event("checkpoint", 100, path="/out/last.pt", evaluation_step=100)
    found = checks(chunk(None, [evaluations([1.0])[0], saved, *evaluations([1.0, 0.5])[1:]]))["best-checkpoint"]
    assert found.answer == "not visible"


def test_passes_over_training_data_are_no_validation() -> None:
    found = checks(chunk(None, evaluations([1.0], training=True, metric="cross_entropy (training data)")))
    assert found["eval-mode"].answer == "not visible"
