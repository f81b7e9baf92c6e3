"""gradient-spike: a single norm far outside its own range; a level that changed, noise and heavy tails are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from forgemon.detectors.candidate import Candidate
from forgemon.detectors.each_training import each_training
from forgemon.detectors.gradient_spike import GradientSpike
from tests.detectors.runs import candidates_of_any_split, chunk, step_rows, update_rows

Floats = npt.NDArray[np.float64]


def quiet(count: int = 400, seed: int = 0, spread: float = 0.3) -> tuple[Floats, Floats]:
    """Loss and gradient norm of a run without an event."""
    chance = np.random.default_rng(seed)
    norm = np.exp(chance.normal(0, spread, count))
    loss = 1 + chance.normal(0, 0.1, count)
    return loss, norm


def judged(loss: Floats, norm: Floats, **columns: Any) -> list[Candidate]:
    detector = each_training(GradientSpike)()
    detector.feed(chunk(step_rows(loss, gradient_norm=norm, **columns)))
    return detector.candidates()


def test_a_single_spike_is_something_to_watch() -> None:
    loss, norm = quiet()
    loss[300], norm[300] = 40.0, 500.0
    (found,) = judged(loss, norm)
    assert (found.level, found.cause, found.first_step, found.last_step) == ("watch", "bad-batch", 301, 301)
    assert "At step 301 the gradient norm was 500" in found.summary and "the loss did not follow" in found.summary


def test_a_loss_that_stays_up_after_it_makes_an_alarm() -> None:
    loss, norm = quiet()
    norm[300], loss[300:] = 500.0, loss[300:] + 2
    (found,) = judged(loss, norm)
    assert (found.level, found.cause) == ("alarm", "bad-batch")


def test_gradients_that_grow_again_after_it_are_the_weights_that_it_threw() -> None:
    loss, norm = quiet()
    norm[300:340] = [5000.0, *np.geomspace(20, 3000, 39)]
    (found,) = judged(loss, norm)
    assert (found.level, found.cause, found.first_step) == ("watch", "bad-batch", 301)
    norm[301:340] = 2000  # another level, from one row to the next
    assert judged(loss, norm) == []


@pytest.mark.parametrize(("next_norm", "next_loss", "alarm"), [(450.0, 3.2, False), (100.0, 3.2, True), (450.0, 9.0, True)])
def test_a_batch_like_the_next_one_is_no_single_batch(next_norm: float, next_loss: float, alarm: bool) -> None:
    loss, norm = quiet()
    norm[300:308] = [500.0, next_norm, 200, 80, 30, 12, 5, 2]
    loss[300:] += 2
    loss[300:302] = 3.5, next_loss
    assert [found.level for found in judged(loss, norm)] == ["alarm"] * alarm


def test_it_is_seen_five_rows_later_and_stays_the_same() -> None:
    loss, norm = quiet(320)
    norm[300] = 500.0
    assert judged(loss[:305], norm[:305]) == []
    (early,) = judged(loss[:306], norm[:306])
    (late,) = judged(loss, norm)
    assert early.first_step == late.first_step == 301


def test_a_rate_that_was_raised_is_the_cause() -> None:
    loss, norm = quiet()
    norm[300] = 500.0
    (found,) = judged(loss, norm, learning_rate=np.where(np.arange(400) < 290, 0.1, 1.0))
    assert found.cause == "learning-rate-too-high"


def test_a_rate_that_rose_at_that_very_step_has_nothing_to_do_with_it() -> None:
    loss, norm = quiet()
    norm[300] = 500.0
    (found,) = judged(loss, norm, learning_rate=np.where(np.arange(400) < 300, 0.1, 1.0))
    assert found.cause == "bad-batch"


def test_a_climb_over_several_steps_is_no_batch() -> None:
    loss, norm = quiet(spread=0.1)
    norm[295:301], norm[301:304] = 3.0 ** np.arange(1, 7), 3.0 ** np.arange(5, 2, -1)
    (found,) = judged(loss, norm)
    assert (found.level, found.cause) == ("watch", "learning-rate-too-high")
    assert "climbed there over several steps" in found.summary


def test_norms_that_have_fallen_are_no_tail() -> None:
    loss, norm = quiet(spread=0.2)
    norm *= np.exp(-np.arange(400) / 100)
    usual = float(np.median(norm[260:310]))
    norm[310] = 60 * usual
    (found,) = judged(loss, norm)
    assert (found.first_step, found.cause) == (311, "bad-batch")
    for too_low in (1.9 * float(norm[110:310].max()), 9 * float(norm[260:310].max())):
        norm[310] = too_low  # twice the highest of the window, and ten times that of the rows just before, are asked for
        assert judged(loss, norm) == []


def test_steps_that_were_too_large_already_are_the_cause() -> None:
    loss, norm = quiet()
    norm[300] = 500.0
    large = update_rows([100, 290], [[1.0]] * 2, [[0.01], [0.4]], ["a.weight"])
    detector = each_training(GradientSpike)()
    detector.feed(chunk(step_rows(loss, gradient_norm=norm), updates=[large]))
    (found,) = detector.candidates()
    assert found.cause == "learning-rate-too-high"


def test_several_are_counted_and_the_gravest_is_named() -> None:
    loss, norm = quiet(900)
    norm[[200, 700]] = 50.0, 1e4
    (found,) = judged(loss, norm)
    assert "At step 701" in found.summary and "2 such steps were seen" in found.summary
    assert (found.first_step, found.last_step) == (201, 701)


def test_the_steps_after_one_are_its_aftermath() -> None:
    loss, norm = quiet()
    norm[300:310] = 500 * 0.5 ** np.arange(10)
    (found,) = judged(loss, norm)
    assert found.cause == "bad-batch" and (found.first_step, found.last_step) == (301, 301)


@pytest.mark.parametrize("seed", range(20))
def test_ordinary_noise_is_silent(seed: int) -> None:
    assert judged(*quiet(2000, seed, 0.5)) == []


@pytest.mark.parametrize("seed", range(10))
def test_heavy_tails_are_silent(seed: int) -> None:
    chance = np.random.default_rng(seed)
    loss, _ = quiet(2000, seed)
    assert judged(loss, 1 / chance.random(2000) ** 0.5) == []


def test_a_level_that_changes_for_good_is_none() -> None:
    loss, norm = quiet()
    loss[300:], norm[300:] = 3.0, norm[300:] * 100
    assert judged(loss, norm) == []


def test_the_small_last_batch_of_an_epoch_is_none() -> None:
    loss, norm = quiet()
    norm[300] = 500.0
    sizes = np.where(np.arange(400) == 300, 3.0, 32.0)
    assert judged(loss, norm, batch_size=sizes) == []
    assert len(judged(loss, norm, batch_size=32.0)) == 1


def test_the_first_rows_and_several_optimizers_are_not_judged() -> None:
    loss, norm = quiet()
    norm[30] = 500.0
    assert judged(loss, norm) == []
    norm[300] = 500.0
    assert judged(loss, norm, optimizer=np.arange(400) % 2) == []


def test_what_was_clipped_is_judged_as_it_was_before() -> None:
    loss, norm = quiet()
    norm[300] = 500.0
    (found,) = judged(loss, np.minimum(norm, 1.0), gradient_norm_before_clip=norm)
    assert found.evidence["gradient_norm"] == pytest.approx(500.0)


def test_sparse_rows_without_neighbours() -> None:
    loss, norm = quiet()
    norm[300] = 500.0
    steps = np.cumsum(np.where(np.arange(400) % 2, 1, 57)).tolist()
    (found,) = judged(loss, norm, steps=steps)
    assert found.first_step == steps[300]


@pytest.mark.parametrize("place", [225, 249, 250, 260, 299, 300, 380])
def test_any_split_sees_the_same(place: int) -> None:
    loss, norm = quiet()
    norm[place] = 500.0
    whole = chunk(step_rows(loss, gradient_norm=norm))
    assert len(candidates_of_any_split(GradientSpike, whole)) == 1
