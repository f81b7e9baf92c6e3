"""input-bound: most of the time goes to waiting for the loader, and enough of it to matter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from forgemon.chunk import Event
from forgemon.detectors.candidate import Candidate
from forgemon.detectors.input_bound import InputBound
from tests.detectors.runs import START, candidates_of_any_split, chunk, event, machine_rows, step_rows


def judged(
    data_s: Any, step_s: Any, count: int = 500, *, workers: int | None = None, busy: float | None = None, **columns: Any
) -> list[Candidate]:
    events: list[Event] = []
    if workers is not None:
        events = [event("loader", 1, index=0, role="training", workers=workers, persistent_workers=False)]
    machine = None if busy is None else machine_rows((START + np.arange(60)).tolist(), host_cpu_percent=busy)
    detector = InputBound()
    detector.feed(chunk(step_rows([1.0] * count, data_s=data_s, step_s=step_s, **columns), events, machine=machine))
    return detector.candidates()


def test_a_loop_that_waits_is_something_to_watch() -> None:
    (found,) = judged(0.3, 0.4)
    assert (found.symptom, found.level, found.last_step) == ("input-bound", "watch", 500)
    assert "Of a step of 400 ms, 300 ms are spent waiting" in found.summary
    assert found.evidence["lost_s"] == pytest.approx(475 * 0.3, rel=1e-4)


@pytest.mark.parametrize(
    ("workers", "busy", "advice"),
    [
        (0, None, "num_workers=2 or more"),
        (4, None, "Its 4 workers do not keep up"),
        (4, 99.0, "processors are busy already"),
        (None, None, "Load the next batch while this one is trained"),
    ],
)
def test_the_advice_depends_on_the_workers(workers: int | None, busy: float | None, advice: str) -> None:
    (found,) = judged(0.3, 0.4, workers=workers, busy=busy)
    assert advice in found.summary


def test_workers_that_deliver_in_bursts_are_seen_by_their_sum() -> None:
    waits = np.where(np.arange(500) % 4 == 0, 1.2, 0.0)
    (found,) = judged(waits, 0.1 + waits)
    assert found.evidence["share"] == pytest.approx(0.75, abs=0.05)


@pytest.mark.parametrize(("data_s", "step_s"), [(0.1, 0.4), (0.0015, 0.002), (float("nan"), 0.4)])
def test_a_loader_that_keeps_up_a_toy_and_what_is_not_visible_are_none(data_s: float, step_s: float) -> None:
    assert judged(data_s, step_s, 3000) == []


def test_a_wait_too_short_to_shorten_is_none() -> None:
    steps = (np.arange(1, 501) * 50).tolist()
    assert judged(0.0015, 0.002, steps=steps) == []
    assert len(judged(0.0025, 0.003, steps=steps)) == 1


def test_little_time_is_no_finding() -> None:
    assert judged(0.01, 0.012) == []


def test_a_slow_start_is_none() -> None:
    waits = np.where(np.arange(500) < 50, 5.0, 0.0)
    assert judged(waits, 0.1 + waits) == []


def test_rows_that_are_far_apart_stand_for_the_steps_between() -> None:
    steps = np.arange(1, 501) * 50
    (found,) = judged(0.006, 0.01, steps=steps.tolist())
    assert found.evidence["lost_s"] == pytest.approx(475 * 50 * 0.006, rel=1e-3)


def test_one_that_is_over_says_until_when_it_stood() -> None:
    waits = np.where(np.arange(900) < 500, 0.3, 0.0)
    (found,) = judged(waits, 0.1 + waits, 900)
    assert (found.level, found.stands) == ("info", False) and "It stood until step 500" in found.summary


def test_any_split_sees_the_same() -> None:
    chance = np.random.default_rng(0)
    waits = 0.3 * chance.random(700)
    whole = chunk(step_rows([1.0] * 700, data_s=waits, step_s=waits + 0.1), machine=machine_rows([START, START + 1]))
    assert len(candidates_of_any_split(InputBound, whole)) == 1
