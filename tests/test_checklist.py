"""The checklist and the loop note: yes, no or not visible from what was seen, never a guess."""

from __future__ import annotations

import numpy as np

from forgemon.chunk import Chunk
from forgemon.diagnosis import Diagnosis, Report
from forgemon.findings import Check
from tests.detectors.runs import chunk, evaluations, event, step_rows

NAN = float("nan")


def report_of(whole: Chunk) -> Report:
    diagnosis = Diagnosis()
    diagnosis.feed(whole)
    return diagnosis.report()


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
    found = checks(chunk(None, evaluations([1, 0.9, 0.8], training=True, grad_enabled=True)))
    assert (found["eval-mode"].answer, found["eval-mode"].since_step) == ("no", 100)
    assert found["eval-mode"].detail == "3 of 3 validation passes ran in training mode, first at step 100"
    assert found["no-grad-validation"].answer == "no"


def test_a_mode_that_is_not_visible_is_not_guessed() -> None:
    found = checks(chunk(None, evaluations([1, 0.9], training=None, grad_enabled=None)))
    assert found["eval-mode"].answer == found["no-grad-validation"].answer == "not visible"


def test_training_in_evaluation_mode_is_a_no() -> None:
    found = checks(chunk(step_rows([1.0] * 10, training=[1] * 6 + [0] * 4)))["train-mode"]
    assert (found.answer, found.since_step) == ("no", 7)
    assert "False at 4 of 10 steps, first at step 7, last at step 10" in found.detail


def test_a_best_result_that_a_worse_one_overwrote_is_a_no() -> None:
    passes = evaluations([1.0, 0.5, 0.9])
    saved = [event("checkpoint", 100 * i, path="/out/last.pt", evaluation_step=100 * i) for i in (1, 2, 3)]
    found = checks(chunk(None, [e for pair in zip(passes, saved, strict=True) for e in pair]))["best-checkpoint"]
    assert (found.answer, found.since_step) == ("no", 200)


def test_a_best_result_newer_than_any_checkpoint_may_still_be_saved() -> None:
    saved = event("checkpoint", 100, path="/out/last.pt", evaluation_step=100)
    found = checks(chunk(None, [evaluations([1.0])[0], saved, *evaluations([1.0, 0.5])[1:]]))["best-checkpoint"]
    assert found.answer == "not visible"


def test_passes_over_training_data_are_no_validation() -> None:
    found = checks(chunk(None, evaluations([1.0], training=True, metric="cross_entropy (training data)")))
    assert found["eval-mode"].answer == "not visible"


def test_the_loop_note_of_a_healthy_run() -> None:
    note = report_of(healthy()).loop_note
    assert note == (
        "Best cross_entropy: 0.8 at step 300, saved in /out/3.pt. Training loss went from 1.94 to 0.56 (medians of the first "
        "and last rows), validation from 1.5 to 0.8 (its best yet). No failure pattern appeared in what could be seen."
    )


def test_the_loop_note_of_an_overfit_run_trusts_the_loop_but_not_the_result() -> None:
    values = [2.0, 1.0, 0.8, *np.linspace(0.9, 2, 10)]
    note = report_of(chunk(step_rows([1.0] * 9), evaluations(values, np.linspace(2, 0.1, 13)))).loop_note
    assert "First failure pattern: train-val-divergence (overfitting), since step 300. The loop itself ran in order" in note
