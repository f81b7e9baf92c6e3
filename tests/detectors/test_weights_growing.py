"""weights-growing: a norm that does not level off; learning, random walks and rates that warm up are none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from forgemon.detectors.candidate import Candidate
from forgemon.detectors.weights_growing import WeightsGrowing
from tests.detectors.runs import Values, candidates_of_any_split, chunk, event, update_rows

STEPS = np.arange(1, 2001, 10)


def judged(norms: Values, steps: Sequence[int] = (), unzeroed: bool = False) -> list[Candidate]:
    """Of two weights, the second growing as `norms` does, and a bias."""
    rows = [[1.0, norm, 3.0] for norm in norms]
    steps = steps or STEPS[: len(rows)].tolist()
    events = [event("fact", 5, fact="missing-zero-grad", times=4)] if unzeroed else []
    detector = WeightsGrowing()
    detector.feed(chunk(None, events, updates=[update_rows(steps, rows, rows, ["a.weight", "b.weight", "a.bias"])]))
    return detector.candidates()


def at() -> npt.NDArray[np.float64]:
    """The share of the run that is over, at each sample."""
    return np.linspace(0, 1, len(STEPS))


@pytest.mark.parametrize("norms", [np.exp(5 * at()), 1 + 10 * at(), 1 + 30 * at() ** 2], ids=["faster", "steady", "square"])
def test_growth_that_does_not_level_off_is_something_to_watch(norms: Values) -> None:
    (found,) = judged(norms)
    assert (found.symptom, found.cause, found.level) == ("weights-growing", "no-regularisation", "watch")
    assert "most of all b.weight" in found.summary and found.last_step == STEPS[-1]


def test_gradients_that_were_never_cleared_are_the_cause() -> None:
    (found,) = judged(np.exp(5 * at()), unzeroed=True)
    assert found.cause == "missing-zero-grad"


@pytest.mark.parametrize(
    "norms",
    [1 + at(), 5 - 4 * np.exp(-10 * at()), np.sqrt(1 + 60 * at()), 1 + 3 * np.log(1 + 20 * at()), 10 - 9 * at()],
    ids=["doubles", "levels off", "random walk", "logarithm", "falls"],
)
def test_learning_is_none(norms: Values) -> None:
    assert judged(norms) == []


def test_a_rate_that_warms_up_is_none() -> None:
    """The first steps alone grow faster and faster."""
    assert judged(np.exp(np.arange(50) / 20), list(range(1, 51))) == []


def test_growth_that_has_not_trebled_yet_is_none() -> None:
    assert judged(1 + 1.5 * np.clip(2 * at() - 1, 0, 1)) == []


def test_a_norm_that_has_come_back_is_none() -> None:
    assert judged([*np.exp(4 * at())[:-1], 20.0]) == []


def test_too_few_samples_and_numbers_that_are_missing() -> None:
    assert judged(np.exp(np.arange(14) / 4)) == []
    assert judged([float("nan")] * 100) == []
    holes = np.exp(5 * at())
    holes[::15] = np.nan
    assert len(judged(holes)) == 1


def test_any_split_and_a_long_run_see_the_same() -> None:
    steps = list(range(1, 3001))
    rows = [[norm, norm] for norm in np.exp(np.arange(3000) / 1000)]
    whole = chunk(updates=[update_rows(steps, rows, rows, ["a.weight", "b.weight"])])
    one = WeightsGrowing()
    one.feed(whole)
    assert len(one._steps) < 300
    assert len(candidates_of_any_split(WeightsGrowing, whole)) == 1
