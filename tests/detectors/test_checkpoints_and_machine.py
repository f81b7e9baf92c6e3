"""Whether the best result is kept, and what the machine has: facts weighed against what else the log says."""

from __future__ import annotations

from typing import Any

import pytest

from forgemon.chunk import Event
from tests.detectors.fact_events import fact, found_in, gone, only
from tests.detectors.runs import chunk, evaluations, event, step_rows

ENDED = [event("exiting", 500)]
SLOW = step_rows([1.0] * 9, forward_s=0.1, backward_s=0.2, optimizer_s=0.01)


# Checkpoints


def save(step: int, holds: int | None, path: str = "/out/last.pt") -> Event:
    return event("checkpoint", step, path=path, has_weights=True, holds_step=holds)


LOST = [*evaluations([1.0, 0.5, 0.7, 0.9]), save(400, 400), fact("best-checkpoint-not-saved", step=400)]


GOES_ON = " The run goes on and may reach and save a better one."


@pytest.mark.parametrize(
    ("end", "rest"),
    [(ENDED, ""), ([], GOES_ON), ([event("exception", 450, type="KeyboardInterrupt"), *ENDED], GOES_ON)],
    ids=["ended", "runs", "broken off"],
)
def test_the_best_result_is_lost_once_its_file_is_overwritten(end: list[Event], rest: str) -> None:
    found = only(*LOST, *end)
    assert (found.level, found.first_step) == ("alarm", 200)
    assert found.summary == (
        "The best cross_entropy, 0.5 of step 200, is in no file; a worse state replaced the one that held it. "
        f"/out/last.pt holds step 400 (0.9).{rest}"
    )


def test_one_that_was_never_saved_is_something_to_watch_until_the_end() -> None:
    events = [
        *evaluations([1.0, 0.5, 0.7, 0.9]),
        save(400, 400),
        fact("best-checkpoint-not-saved", step=400, overwritten=False),
    ]
    assert next(c for c in found_in(chunk(events=events))).level == "watch"
    found = only(*events, *ENDED)
    assert found.level == "alarm" and "overwritten" not in found.summary


def test_a_rotation_that_deletes_the_best_is_an_alarm_at_once() -> None:
    fact_of = fact("best-checkpoint-not-saved", step=400, overwritten=False)
    passes = evaluations([1.0, 0.5, 0.7, 0.9])
    rotated = [*passes[:2], save(200, 200, "/out/2.pt"), *passes[2:], save(400, 400, "/out/4.pt")]
    gone_file = event("checkpoint_deleted", 400, path="/out/2.pt")
    found = only(*rotated, gone_file, fact_of)
    assert found.level == "alarm" and "the file that held it was deleted." in found.summary


KEPT_AFTER_ALL = {
    "a better result came": [*evaluations([0.4])],
    "one as good was saved": [event("evaluation", 450, metric="cross_entropy", value=0.501), save(450, 450)],
    "the best is in another file": [save(500, 200, "/out/best.pt")],
    "a file of which it is not known": [save(500, None, "/out/copy.pt")],
}


@pytest.mark.parametrize("why", KEPT_AFTER_ALL)
def test_what_was_kept_after_the_probe_spoke(why: str) -> None:
    later = [{**e, "step": max(int(e["step"]), 450)} for e in KEPT_AFTER_ALL[why]]
    assert found_in(chunk(events=[*LOST, *later, *ENDED])) == []


def test_a_file_that_was_deleted_keeps_nothing() -> None:
    later = [save(500, 200, "/out/best.pt"), event("checkpoint_deleted", 500, path="/out/best.pt")]
    assert only(*LOST, *later, *ENDED).level == "alarm"


def test_weights_alone_are_told_until_a_checkpoint_is_whole() -> None:
    first = fact("checkpoint-incomplete", 20, checkpoints=1)
    assert only(first).level == "info"
    assert found_in(chunk(events=[first, gone("checkpoint-incomplete", 90, 20)])) == []


# The machine


def test_a_slow_step_on_the_cpu_of_a_machine_with_a_gpu() -> None:
    found = only(fact("cpu-fallback"), rows=SLOW)
    assert found.level == "alarm"
    assert "CPU of a machine with 1 NVIDIA GPU. A step's forward, backward and update take 310 ms." in found.summary


@pytest.mark.parametrize(
    ("changes", "rows", "level"),
    [
        ({}, None, "info"),  # it is not known yet whether it matters
        ({}, step_rows([1.0] * 9, forward_s=1e-4, backward_s=2e-4, optimizer_s=1e-5), "info"),
        ({"on_purpose": True}, SLOW, "info"),
        ({"device_files": 0}, SLOW, "watch"),
    ],
)
def test_a_cpu_that_is_meant_or_does_not_matter(changes: dict[str, Any], rows: Any, level: str) -> None:
    assert only(fact("cpu-fallback", **changes), rows=rows).level == level
