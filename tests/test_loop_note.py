"""The loop note: each of its four questions is answered in plain words, for every kind of run."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from forgemon.chunk import Chunk, Event
from tests.detectors.fact_events import fact
from tests.detectors.runs import START, chunk, evaluations, event, machine_event, step_rows
from tests.diagnosed import report_of

NAN = math.nan
LEARNS = np.geomspace(2, 0.4, 1000)
QUESTIONS = ["best_checkpoint", "curves", "first_failure", "stable"]


def said(whole: Chunk) -> dict[str, str]:
    report = report_of(whole)
    assert [answer.id for answer in report.note] == QUESTIONS
    assert all(answer.text.endswith(".") and "nan" not in answer.text for answer in report.note)
    assert report.loop_note == " ".join(answer.text for answer in report.note)
    return {answer.id: answer.text for answer in report.note}


def ended(how: str = "finished", **fields: object) -> Event:
    return machine_event("ended", START + 5000, how=how, exit_code=None, signal=None, message="", **fields)


def with_checkpoints(passes: Sequence[Event]) -> list[Event]:
    """A checkpoint after each pass."""
    saved = [event("checkpoint", e["step"], path=f"/out/{e['step']}.pt", evaluation_step=e["step"]) for e in passes]
    return [e for pair in zip(passes, saved, strict=True) for e in pair]


def test_a_healthy_run() -> None:
    passes = with_checkpoints(evaluations([1.5, 1.0, 0.8], [1.6, 1.1, 0.7]))
    whole = chunk(step_rows(LEARNS), passes, machine_events=[ended()])
    assert said(whole) == {
        "best_checkpoint": "Best cross_entropy: 0.8 at step 300, saved in /out/300.pt.",
        "curves": "The training loss went from 1.96 to 0.408 (medians of the first and last 25); validation from 1.5 to 0.8 (its "
        "best yet). Both fall: it still learns.",
        "first_failure": "No failure pattern appeared in what could be seen.",
        "stable": "The loop is stable in what could be seen.",
    }
    facts = {answer.id: answer.as_json() for answer in report_of(whole).note}
    assert facts["best_checkpoint"] | {"text": ""} == {
        "text": "", "metric": "cross_entropy", "value": 0.8, "step": 300, "path": "/out/300.pt",
    }  # fmt: skip
    assert (facts["curves"]["validation_best_step"], facts["stable"]["answer"]) == (300, "yes")


def test_an_overfitting_run() -> None:
    values = [2.0, 1.0, 0.8, *np.linspace(0.9, 2, 7)]
    passes = with_checkpoints(evaluations(values, np.linspace(2, 0.1, 10)))
    found = said(chunk(step_rows(LEARNS), passes, machine_events=[ended()]))
    assert found["best_checkpoint"] == "Best cross_entropy: 0.8 at step 300, saved in /out/300.pt."
    assert found["curves"].endswith("They part at step 300: what was learned after it does not hold for other data.")
    assert found["first_failure"] == "First failure pattern: train-val-divergence (overfitting), since step 300."
    assert found["stable"] == "The loop itself ran in order; what it learned after step 300 does not hold for other data."


def test_a_run_that_went_nan() -> None:
    losses = [*LEARNS[:500], *[NAN] * 200]
    whole = chunk(step_rows(losses), with_checkpoints(evaluations([1.5, 1.0], [1.6, 1.1])), machine_events=[ended()])
    found = said(whole)
    assert "and is not finite since step 501; validation from 1.5 to 1 (its best yet)" in found["curves"]
    assert found["first_failure"].startswith("First failure pattern: loss-nonfinite")
    assert "since step 501." in found["first_failure"]
    assert found["stable"] == "The loop is not stable enough to trust: results from step 501 on need a second look."
    assert report_of(whole).note[3].facts == {"answer": "no"}


def test_a_run_without_validation() -> None:
    saved = event("checkpoint", 900, path="/out/last.pt")
    found = said(chunk(step_rows(LEARNS), [saved], machine_events=[ended()]))
    assert found["best_checkpoint"] == (
        "No validation pass was seen, so no checkpoint can be called the best. The newest one saved is /out/last.pt, of step 900."
    )
    assert (
        "no validation loss was seen. It learns its training data; whether that holds for other data is not visible"
        in (found["curves"])
    )
    assert found["stable"] == "The loop is stable in what could be seen."


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ([ended("killed")], "They end at step 1000, where the process was killed."),
        ([machine_event("stopping", START + 4000), ended("killed")], "They end at step 1000, where it was stopped on request."),
        ([], "The run goes on; this is as of step 1000."),
    ],
)
def test_a_run_stopped_early_or_still_going(end: list[Event], words: str) -> None:
    found = said(chunk(step_rows(LEARNS), machine_events=end))
    assert found["curves"].endswith(words)


def test_a_run_of_a_few_steps() -> None:
    found = said(chunk(step_rows([2.0, 1.9, 1.8]), machine_events=[ended()]))
    assert found["curves"].startswith(
        "Of the training loss only 3 values were seen, too few for a curve; no validation loss was seen."
    )
    assert found["stable"] == "Only 3 steps were seen, too few to call the loop stable."


def test_a_run_attached_to_in_the_middle() -> None:
    attached = event("attached", 0, mode="attach")
    rows = step_rows(LEARNS, steps=range(5001, 6001))
    passes = evaluations([1.0, 0.9], [1.1, 1.0])
    found = said(chunk(rows, [attached, *({**e, "step": e["step"] + 5000} for e in passes)], machine_events=[ended()]))
    assert found["best_checkpoint"] == (
        "Best cross_entropy: 0.9 at step 5200 of those seen since it was attached to; no checkpoint was seen."
    )
    assert found["curves"].startswith("Since it was attached to (step 5001) the training loss went from")
    assert found["first_failure"].endswith("in what could be seen. What came before it was attached to is not visible.")


def test_a_crash_is_the_first_failure_where_there_is_no_other() -> None:
    crash = event("exception", 1000, type="ValueError", message="bad batch")
    found = said(chunk(step_rows(LEARNS), [crash], machine_events=[ended("exception")]))
    assert found["first_failure"].startswith("None before its end. An exception ended the program after step 1000")


def test_a_fault_of_the_validation_alone_leaves_the_training_in_order() -> None:
    passes = evaluations([1.5, 1.0, 0.8], [1.6, 1.1, 0.7], training=True)
    found = said(chunk(step_rows(LEARNS), [*passes, fact("eval-in-train-mode", at_step=100)], machine_events=[ended()]))
    assert found["stable"].startswith("The training ran in order, but its validation results cannot be trusted")


def test_a_loss_that_does_not_move_and_one_that_rises() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 1000)
    assert "has not moved by more than its noise." in said(chunk(step_rows(2 + noise)))["curves"]
    assert "ends above where it began." in said(chunk(step_rows(2 + noise + np.linspace(0, 1, 1000))))["curves"]


def test_the_best_of_a_search_is_said_with_the_model_that_it_is_of() -> None:
    passes = [{**e, "model": number} for number, e in enumerate(evaluations([0.5, 0.4, 2.0], [0.6, 0.5, 2.1]))]
    best = passes[1]["step"]
    last = event("checkpoint", passes[2]["step"], path="/out/best.pt", holds_step=best)
    note = said(chunk(step_rows(np.linspace(2, 1, passes[2]["step"])), [*passes, last], machine_events=[ended()]))
    assert f"of 3 models, of the one that is number 2: 0.4 at step {best}, saved in /out/best.pt." in note["best_checkpoint"]
    assert "validation that of the newest" in note["curves"]
