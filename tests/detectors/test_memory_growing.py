"""memory-growing: a rise over the whole run; caches that fill, what comes and goes, and short runs are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from forgemon.chunk import Event
from forgemon.detectors.candidate import Candidate
from forgemon.detectors.memory_growing import MemoryGrowing
from tests.detectors.runs import START, Values, candidates_of_any_split, chunk, event, machine_rows, memory_rows, step_rows

GB = 1e9
SECONDS = np.arange(600.0)
TIMES: list[float] = (START + SECONDS).tolist()


def noisy(values: npt.NDArray[np.float64], seed: int = 0) -> npt.NDArray[np.float64]:
    """Up and down by a gigabyte, as batches come and go."""
    return values + np.random.default_rng(seed).uniform(0, GB, len(values))


def judged(rss: Values, events: list[Event] | None = None, **machine: Any) -> list[Candidate]:
    detector = MemoryGrowing()
    rows = machine_rows(TIMES[: len(rss)], process_rss_bytes=rss, **machine)
    detector.feed(chunk(step_rows([1.0] * 600), events or [], machine=rows))
    return detector.candidates()


def epochs(*steps: int) -> list[Event]:
    loader = event("loader", 0, index=0, role="training", workers=2)
    return [loader, *(event("epoch", step, epoch=i + 1) for i, step in enumerate(steps))]


LEAK = 2 * GB + 5 * GB * SECONDS / 600


def test_a_rise_over_the_whole_run_is_something_to_watch() -> None:
    (found,) = judged(noisy(LEAK))
    assert (found.symptom, found.cause, found.level) == ("memory-growing", "unknown", "watch")
    assert 100 < found.first_step < 140 and found.last_step > 590
    assert found.evidence["bytes_per_hour"] == pytest.approx(30 * GB, rel=0.1)


def test_losses_that_are_kept_are_the_cause() -> None:
    kept = event("fact", 50, fact="loss-graph-retained", times=1, alive=30, oldest_step=1, oldest_age_steps=49)
    (found,) = judged(noisy(LEAK), [kept])
    assert (found.cause, found.level) == ("loss-graph-retained", "alarm")


def test_a_host_that_fills_up_is_an_alarm() -> None:
    (found,) = judged(noisy(LEAK), host_used_bytes=15 * GB, host_total_bytes=16 * GB)
    assert found.level == "alarm" and "The host's memory is 94 % full" in found.summary
    (other,) = judged(noisy(LEAK), host_used_bytes=60 * GB, host_total_bytes=64 * GB)
    assert other.level == "watch"  # it is full, but not of this


@pytest.mark.parametrize(
    "rss",
    [
        np.full(600, 2 * GB),
        2 * GB + 5 * GB * (1 - np.exp(-SECONDS / 120)),
        2 * GB + np.minimum(5 * GB, 5 * GB * SECONDS / 300),
        2 * GB + 3 * GB * (SECONDS % 100) / 100,
        2 * GB + 0.3 * GB * SECONDS / 600,
        np.where(SECONDS < 300, 2 * GB, 4 * GB),
        7 * GB - 5 * GB * SECONDS / 600,
        np.full(600, np.nan),
    ],
    ids=["level", "fills up", "cache", "each epoch", "little", "one jump", "falls", "not visible"],
)
def test_healthy_memory_is_none(rss: npt.NDArray[np.float64]) -> None:
    for seed in range(5):
        assert judged(noisy(rss, seed)) == []


def test_the_first_epochs_of_a_loader_may_fill_a_cache() -> None:
    assert judged(noisy(LEAK), epochs()) == [] and judged(noisy(LEAK), epochs(200)) == []
    assert judged(noisy(2 * GB + np.minimum(5 * GB, 5 * GB * SECONDS / 200)), epochs(200, 400)) == []
    (found,) = judged(noisy(LEAK), epochs(100, 200, 300))
    assert found.first_step == pytest.approx(200, abs=3)


def test_less_than_a_minute_says_nothing() -> None:
    fast = 2 * GB + 100 * GB * SECONDS / 600
    assert judged(fast[:60]) == [] and len(judged(fast[:90])) == 1


def test_tensors_on_a_gpu_are_no_cache_of_the_loader() -> None:
    detector = MemoryGrowing()
    detector.feed(chunk(step_rows([1.0] * 600), epochs(), memory=memory_rows(TIMES, LEAK)))
    (found,) = detector.candidates()
    assert "in use on cuda0 rose from" in found.summary


def test_any_split_and_a_long_run_see_the_same() -> None:
    times = (START + np.arange(5000.0)).tolist()
    rows = machine_rows(times, process_rss_bytes=noisy(2 * GB + 5 * GB * np.arange(5000) / 5000))
    whole = chunk(step_rows([1.0] * 5000), epochs(100, 200), machine=rows)
    assert len(candidates_of_any_split(MemoryGrowing, whole, pieces=25)) == 1
