"""exploding-gradients: norms that grow by orders of magnitude, with the loss or the updates as the second line."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from forgemon.chunk import Updates
from forgemon.detectors.candidate import Candidate
from forgemon.detectors.each_training import each_training
from forgemon.detectors.exploding_gradients import ExplodingGradients
from tests.detectors.runs import candidates_of_any_split, chunk, event, step_rows, update_rows

Floats = npt.NDArray[np.float64]


def noise(count: int, seed: int = 0, spread: float = 0.3) -> Floats:
    return np.exp(np.random.default_rng(seed).normal(0, spread, count))


def explosion(count: int = 400, at: int = 200) -> tuple[Floats, Floats]:
    """Loss and norm: the norm grows a thousandfold within 60 rows, and the loss goes with it."""
    grown = np.clip(np.arange(count) - at, 0, 60) / 60
    return 2 * noise(count, 1, 0.05) * 10**grown, noise(count) * 1000**grown


def half_up(count: int = 400) -> Floats:
    """A loss that fell to a quarter and has come half the way back."""
    return 2 * noise(count, 2, 0.1) * np.where(np.arange(count) < 100, 1, np.where(np.arange(count) < 200, 0.25, 0.6))


def judged(
    loss: Floats, norm: Floats, *, updates: tuple[Updates, ...] = (), events: Any = (), **columns: Any
) -> list[Candidate]:
    detector = each_training(ExplodingGradients)()
    detector.feed(chunk(step_rows(loss, gradient_norm=norm, **columns), events, updates=updates))
    return detector.candidates()


def ratios(count: int, ratio: float) -> Updates:
    return update_rows(range(1, count, 5), [[1.0]] * (count // 5), [[ratio]] * (count // 5), ["a.weight"])


def test_norm_and_loss_together_are_an_alarm() -> None:
    (found,) = judged(*explosion())
    assert (found.level, found.cause) == ("alarm", "no-clipping")
    assert 230 < found.first_step < 270 and found.last_step == 400
    assert "the loss followed" in found.summary


def test_the_norm_alone_is_something_to_watch() -> None:
    _, norm = explosion()
    (found,) = judged(half_up(), norm)
    assert found.level == "watch"


def test_updates_as_large_as_the_weights_are_a_second_line_and_name_the_rate() -> None:
    _, norm = explosion()
    (found,) = judged(half_up(), norm, updates=(ratios(400, 0.8),))
    assert (found.level, found.cause) == ("alarm", "learning-rate-too-high")
    assert "0.8 of the weights in one step" in found.summary


def test_a_rate_that_was_raised_is_the_cause() -> None:
    (found,) = judged(*explosion(), learning_rate=np.where(np.arange(400) < 200, 0.1, 1.0))
    assert found.cause == "learning-rate-too-high"


def test_gradients_that_were_never_cleared_are_the_cause() -> None:
    events = [event("fact", 5, fact="missing-zero-grad", times=4)]
    (found,) = judged(*explosion(), events=events)
    assert found.cause == "missing-zero-grad"


def test_a_loop_that_clips_needs_no_clipping() -> None:
    loss, norm = explosion()
    (found,) = judged(loss, np.minimum(norm, 1), gradient_norm_before_clip=norm)
    assert found.cause == "unknown" and "(before clipping)" in found.summary
    (harmless,) = judged(half_up(), np.minimum(norm, 1), gradient_norm_before_clip=norm)
    assert harmless.level == "watch"


def test_a_loss_that_is_not_visible_leaves_one_line() -> None:
    _, norm = explosion()
    (found,) = judged(np.full(400, np.nan), norm)
    assert found.level == "watch"


def test_leaving_a_plateau_is_none() -> None:
    """Gradients are next to nothing until the loss begins to fall."""
    fallen = np.clip(np.arange(400) - 200, 0, 100) / 100
    assert judged(2 * noise(400, 1, 0.02) * 0.1**fallen, noise(400) * 1e-6 * 1e6**fallen) == []


def test_a_loss_near_zero_whose_norms_wake_up_is_none() -> None:
    """Norms that fell far below where they began may come back."""
    norm = noise(600) * np.where(np.arange(600) < 300, 10 ** (-np.arange(600) / 60), 0.1)
    assert judged(1e-3 * noise(600, 1), norm) == []


@pytest.mark.parametrize("seed", range(20))
def test_noise_of_an_order_of_magnitude_is_none(seed: int) -> None:
    assert judged(noise(3000, seed, 0.5), noise(3000, seed + 99, 1.0)) == []


def test_a_short_spike_is_none() -> None:
    loss, norm = noise(400, 1), noise(400)
    norm[200:220], loss[200:220] = 1e5, 1e3
    assert judged(loss, norm) == []


def test_several_optimizers_and_losses_below_zero_are_not_judged() -> None:
    loss, norm = explosion()
    assert judged(loss, norm, optimizer=np.arange(400) % 2) == []
    assert judged(loss - 3, norm) == []


def test_one_that_is_over_says_until_when_it_stood() -> None:
    loss, norm = explosion()
    loss, norm = np.concatenate([loss, noise(200)]), np.concatenate([norm, noise(200)])
    (found,) = judged(loss, norm)
    assert (found.level, found.stands) == ("watch", False) and "It stood until step 400." in found.summary


def thrown(loss: float, norm: float, ratio: float, before: float = 0.01) -> list[Candidate]:
    """The second step's loss and norm, beside ones of 1; the first step's update and the second's."""
    losses, norms = noise(200, 1, 0.05), noise(200)
    losses[1], norms[1] = loss, norm
    updates = update_rows([1, 2, 3], [[1.0]] * 3, [[before], [ratio], [0.02]], ["a.weight"])
    return judged(losses, norms, updates=(updates,))


def test_a_first_step_that_replaces_the_weights() -> None:
    (found,) = thrown(4000.0, 7e4, 123.0)
    assert (found.level, found.cause, found.first_step, found.stands) == ("alarm", "no-clipping", 2, False)
    assert "step 2 changed the weights by 123 of themselves" in found.summary
    (fast,) = thrown(4000.0, 7e4, 123.0, before=0.7)
    assert fast.cause == "learning-rate-too-high"


@pytest.mark.parametrize(("loss", "norm", "ratio"), [(4000.0, 20.0, 123.0), (3.0, 7e4, 123.0), (4000.0, 7e4, 0.5)])
def test_a_bad_second_step_that_leaves_the_weights_or_shows_in_one_number_alone(loss: float, norm: float, ratio: float) -> None:
    assert thrown(loss, norm, ratio) == []


def test_first_steps_in_any_split() -> None:
    losses, norms = noise(200, 1, 0.05), noise(200)
    losses[1], norms[1] = 4000.0, 7e4
    updates = update_rows([1, 2, 3], [[1.0]] * 3, [[0.01], [123.0], [0.02]], ["a.weight"])
    whole = chunk(step_rows(losses, gradient_norm=norms), updates=(updates,))
    assert len(candidates_of_any_split(ExplodingGradients, whole, seeds=10)) == 1
