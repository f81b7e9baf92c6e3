"""ZClip and KillLossSpike fire where their definition says so, and not beside it."""

from __future__ import annotations

import numpy as np

from tests.accuracy.peers.built import NOISE, built
from tests.accuracy.peers.spikes import kill_loss_spike, zclip

NORMS = 1 + 0.1 * np.tile([1.0, -1.0], 20)


def test_a_norm_is_clipped_beyond_two_and_a_half_standard_deviations() -> None:
    assert not zclip(built(norms=NORMS))
    spike = NORMS.copy()
    spike[30] = 1.4
    assert [a.step for a in zclip(built(norms=spike))] == [31]
    spike[30] = 1.2
    assert not zclip(built(norms=spike))
    early = NORMS.copy()
    early[24], early[30] = 50.0, 1.4  # of the warm-up, which it widens
    assert not zclip(built(norms=early))


def test_an_outlier_enters_the_average_clipped() -> None:
    spikes = NORMS.copy()
    spikes[30:34] = 100.0
    spikes[36] = 1.4  # unclipped, the four before it would have hidden it
    assert [a.times for a in zclip(built(norms=spikes))] == [5]


def test_an_infinite_norm_is_clipped_and_a_nan_ends_it() -> None:
    spike = NORMS.copy()
    spike[30] = np.inf
    assert zclip(built(norms=spike))[0].step == 31
    spike[29] = np.nan
    assert not zclip(built(norms=spike))


def test_five_losses_in_a_row_at_twice_the_mean_are_a_spike() -> None:
    losses = 1 + 0.1 * NOISE.standard_normal(300)
    losses[150:155] = 3.0
    assert [(a.rule, a.step) for a in kill_loss_spike(built(losses))] == [("loss spike", 155)]
    losses[154] = 1.0
    assert not kill_loss_spike(built(losses))
    early = np.ones(120)
    early[95:100] = 3.0
    assert not kill_loss_spike(built(early))


def test_a_loss_that_stays_above_the_largest_of_the_first_window_is_high() -> None:
    losses = np.concatenate([np.full(150, 1.0), np.full(150, 1.5)])
    assert [(a.rule, a.step) for a in kill_loss_spike(built(losses))] == [("high loss", 201)]
    assert not kill_loss_spike(built(np.full(300, 9.0)))
    assert [a.step for a in kill_loss_spike(built(np.full(300, 11.0)))] == [200]
