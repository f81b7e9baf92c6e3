"""Section B: facts as the probes write them in; the symptom, its level and the user's line out, and what is not certain left out."""

from __future__ import annotations

from typing import Any

import pytest

from tests.detectors.fact_events import fact, found_in, gone, only
from tests.detectors.runs import chunk, event, gradient_rows

NAN = float("nan")

CERTAIN = {
    "gradients-discarded": "At step 4 SGD found no gradient to apply: what backward() had made (norm 0.25) was cleared",
    "optimizer-mismatch": "none of the 4 parameters that SGD holds had a gradient, while backward() made gradients for fc1.weight, "
    "fc1.bias (5 trainable parameters are in no optimizer)",
    "clip-before-backward": "At step 4 gradients were clipped to 0.5 before backward() had made them (the norm it found: 0)",
    "clip-after-step": "after the optimizer had already applied them (the norm it found: 3)",
    "clip-scaled-gradients": "the loss scale 1024: a norm of 3e+03 that without it is 2.93. What is left of them is at most 0.000488.",
    "accumulation-not-scaled": "At step 10 SGD used the sum of 4 gradients, each of the undivided mean of cross_entropy",
    "eval-in-train-mode": "The validation pass at step 4 (3 batches, cross_entropy) ran with 1 Dropout and 2 BatchNorm in training "
    "mode (bn1, bn2, drop), whose running statistics took in the validation data.",
    "train-in-eval-mode": "Since step 5 the optimizer trains with model.training False",
    "eval-with-grad": "The validation pass at step 4 built a graph for each of its 3 batches (cross_entropy)",
    "loss-graph-retained": "147 old losses were still alive with their graphs, in a list, the oldest from step 0 (seen at step 10).",
    "softmax-before-cross-entropy": "With 10 classes its loss cannot fall below 1.46. The model ends in a softmax (out).",
    "val-uses-train-data": "read what training reads: 50 of 100 checked samples (the same storage).",
    "shm-too-small": "2 workers with 2 batches of 2 MiB each in waiting need 8 MiB of /dev/shm, which had 1 MiB free of 64 MiB.",
}


@pytest.mark.parametrize("name", CERTAIN)
def test_what_is_certain_is_an_alarm_on_the_line_with_its_numbers(name: str) -> None:
    found = only(fact(name))
    assert (found.symptom, found.cause, found.level, found.stands) == (name, name, "alarm", True)
    assert CERTAIN[name] in found.summary
    assert found.where is not None and (found.where.location, found.where.text) == ("/home/ada/train.py:42", "b()")
    assert found.refute and len(found.evidence) > 1


def test_loaders_that_shuffle_are_something_to_watch() -> None:
    found = only(fact("val-loader-shuffled"))
    assert found.level == "watch" and "shuffles (RandomSampler) and drops 8 samples of each pass" in found.summary


def test_a_checkpoint_that_cannot_resume_is_worth_knowing() -> None:
    found = only(fact("checkpoint-incomplete"))
    assert found.level == "info" and "/out/last.pt holds no optimizer state beside the weights" in found.summary


@pytest.mark.parametrize("name", CERTAIN)
def test_what_is_over_says_until_when_it_stood(name: str) -> None:
    found = only(fact(name, times=8), gone(name))
    assert (found.stands, found.last_step, found.level) == (False, 30, "alarm")
    assert found.summary.endswith(" It stood until step 30.")


@pytest.mark.parametrize("name", CERTAIN)
def test_what_returns_stands_again(name: str) -> None:
    found = only(fact(name), gone(name), fact(name, step=200, at_step=200))
    assert found.stands and found.last_step == 200 and "until" not in found.summary


NOT_CERTAIN: dict[str, tuple[str, dict[str, Any]]] = {
    "the limit was multiplied by the scale": ("clip-scaled-gradients", {"limit": 1024.0}),
    "nothing was clipped": ("clip-scaled-gradients", {"limit": 4.0, "norm": 3.0}),
    "an optimizer that does not mind": ("accumulation-not-scaled", {"optimizer": "AdamW", "scale_free": True}),
    "an optimizer that is not known": ("accumulation-not-scaled", {"optimizer": "Muon"}),
    "a pass of one batch": ("eval-in-train-mode", {"batches": 1}),
    "in evaluation mode from the start": ("train-in-eval-mode", {"from_the_start": True}),
    "attached in mid-run": ("train-in-eval-mode", {"from_the_start": None}),
    "a list that may be a window": ("loss-graph-retained", {"alive": 83, "oldest_age_steps": 88}),
    "the training loader itself": ("val-uses-train-data", {"loader": 0, "share": 1.0}),
    "a few samples in common": ("val-uses-train-data", {"share": 0.005}),
    "shared memory that is just enough": ("shm-too-small", {"free_bytes": 9 << 20}),
    "the run goes on": ("best-checkpoint-not-saved", {"overwritten": False}),
    "a branch that is not used": ("frozen-parameters", {"names": ["b.weight"]}),
}


@pytest.mark.parametrize("why", NOT_CERTAIN)
def test_what_may_be_meant_or_may_pass_is_something_to_watch(why: str) -> None:
    name, changes = NOT_CERTAIN[why]
    found = only(fact(name, **changes), gradients=[gradient_rows([1], [[1, 1, 1]], ["a.weight", "a.bias", "b.weight"])])
    assert (found.symptom, found.level) == (name, "watch")


NOTHING = {
    "a norm is asked for before backward": [fact("clip-before-backward", limit="inf")],
    "a norm is asked for after the step": [fact("clip-after-step", limit="inf")],
    "a norm is asked for while scaled": [fact("clip-scaled-gradients", limit="inf")],
    "a window of losses": [fact("loss-graph-retained", alive=50, oldest_age_steps=60), gone("loss-graph-retained")],
    "parameters that were reached after all": [fact("frozen-parameters"), gone("frozen-parameters")],
    "an evaluation of training data that has ended": [
        fact("val-uses-train-data", on_purpose=True),
        gone("val-uses-train-data"),
    ],
    "a fact of a later version": [event("fact", 1, fact="no-such-row", times=1)],
    "gone without ever having been": [gone("gradients-discarded")],
}


@pytest.mark.parametrize("why", NOTHING)
def test_what_turned_out_to_be_nothing_is_not_said(why: str) -> None:
    assert found_in(chunk(events=NOTHING[why])) == []


def test_a_second_pass_of_one_batch_makes_it_certain() -> None:
    events = [fact("eval-in-train-mode", batches=1, times=t, step=10 * t, at_step=10 * t) for t in (1, 2)]
    found = only(*events)
    assert (found.level, found.first_step, found.last_step) == ("alarm", 10, 20)


def test_clipped_accumulation_is_wrong_for_every_optimizer() -> None:
    found = only(fact("accumulation-not-scaled", optimizer="AdamW", scale_free=True, clipped=True))
    assert found.level == "alarm" and "gradient 4 times too large" in found.summary


def test_a_part_of_the_model_that_no_optimizer_holds() -> None:
    found = only(fact("optimizer-mismatch", holds_other_tensors=False, key="in no optimizer", names=["0.weight"]))
    assert (
        found.level == "alarm" and "made gradients for 0.weight (5 trainable parameters are in no optimizer)" in found.summary
    )
    assert "their values stand still" in found.summary


def test_a_running_sum_lets_go_of_nothing() -> None:
    found = only(fact("loss-graph-retained", alive=20, oldest_age_steps=25, held_by="running sum"))
    assert found.level == "alarm" and "in a running sum" in found.summary


def test_the_same_at_two_optimizers_is_said_once() -> None:
    names = [event("optimizer", 0, index=i, **{"class": c}) for i, c in enumerate(["Adam", "SGD"])]
    facts = [fact("clip-after-step", key=1), fact("clip-after-step", key=0, at_step=7)]
    found = only(*names, *facts)
    assert found.first_step == 4 and "after SGD (optimizer 1) had" in found.summary
    assert found.evidence["also"] == "Adam (optimizer 0)"


def test_what_still_stands_at_one_optimizer_is_not_hidden_by_what_is_over_at_another() -> None:
    found = only(fact("clip-after-step"), gone("clip-after-step"), fact("clip-after-step", key=1, at_step=50))
    assert found.stands and found.first_step == 50


def test_a_graph_that_is_cut_below_the_first_layer_is_an_alarm() -> None:
    norms = gradient_rows(list(range(1, 21)), [[NAN, 1, 1]] * 20, ["a.weight", "a.bias", "b.weight"])
    found = only(fact("frozen-parameters", step=20), gradients=[norms])
    assert (found.level, found.first_step) == ("alarm", 1)
    assert "1 of 3 trainable parameters of AdamW had no gradient in 20 observed steps" in found.summary


def test_a_cut_that_was_seen_is_certain_at_once() -> None:
    norms = gradient_rows([1, 2, 3], [[1, 1, NAN]] * 3, ["a.weight", "a.bias", "b.weight"])
    seen: dict[str, Any] = {"names": ["b.weight"], "steps_observed": 3, "step": 3}
    found = only(fact("frozen-parameters", cut_by="detach()", **seen), gradients=[norms])
    assert (found.level, found.first_step) == ("alarm", 1) and "detach() cuts the graph" in found.summary
    assert only(fact("frozen-parameters", cut_by=None, **seen), gradients=[norms]).level == "watch"


def test_most_parameters_without_a_gradient_are_no_unused_branch() -> None:
    found = only(fact("frozen-parameters", names=["b.weight", "c.weight"], parameters=2))
    assert found.level == "alarm"


def test_parameters_of_which_the_probe_says_nothing_are_frozen_on_purpose() -> None:
    names = ["a.weight", "a.bias", "b.weight"]
    found = only(gradients=[gradient_rows(list(range(1, 41)), [[NAN, NAN, 1]] * 40, names)])
    assert (found.level, found.symptom) == ("info", "frozen-parameters")
    assert found.summary == "2 of 3 parameters are frozen on purpose (requires_grad=False): a.weight, a.bias."
    assert found_in(chunk(gradients=[gradient_rows(list(range(1, 40)), [[NAN, NAN, 1]] * 39, names)])) == []
    assert found_in(chunk(gradients=[gradient_rows(list(range(1, 99)), [[NAN, NAN, NAN]] * 98, names)])) == []


def test_evaluation_on_training_data_beside_other_validation_is_on_purpose() -> None:
    found = only(fact("val-uses-train-data", on_purpose=True, key="train-eval 1"))
    assert found.level == "info" and "beside other validation: on purpose" in found.summary
