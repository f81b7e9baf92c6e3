"""Where the picture stands: paused, playing, following."""

from __future__ import annotations

import numpy as np
import pytest

from forgemon.tui.playhead import PLAY_WHOLE_RUN_S, Playhead


def head(live: bool = False, count: int = 100, seconds: float = 1.0, grown: bool = True) -> Playhead:
    made = Playhead(following=live)
    made.ended(not live)
    if grown:
        grow(made, count, seconds)
    return made


def grow(made: Playhead, count: int, seconds: float = 1.0) -> None:
    steps = np.arange(1, count + 1) * 10
    made.grow(steps, 1000.0 + np.arange(count, dtype=np.float64) * seconds)


def test_a_replay_opens_at_the_first_step_and_a_live_run_at_the_newest() -> None:
    assert (head().cursor, head().following) == (10, False)
    live = head(live=True)
    grow(live, 120)
    assert (live.cursor, live.following) == (1200, True)


def test_stepping_goes_from_recorded_step_to_recorded_step_and_stops_at_both_ends() -> None:
    made = head(count=3)
    made.by_steps(-1)
    assert made.cursor == 10
    made.by_steps(1)
    assert (made.cursor, made.following) == (20, False)
    made.by_steps(5)
    assert (made.cursor, made.following) == (30, True)


def test_a_paused_live_picture_stays_where_it_is_while_the_run_goes_on() -> None:
    made = head(live=True, count=50)
    made.toggle()
    grow(made, 80)
    assert (made.cursor, made.following) == (500, False)
    made.to_end()
    assert made.following
    grow(made, 90)
    assert made.cursor == 900


def test_going_to_a_step_that_was_not_recorded_stands_at_the_one_before() -> None:
    made = head()
    made.to_step(57)
    assert made.cursor == 50
    made.to_step(3)
    assert made.cursor == 10
    made.to_step(10**9)
    assert (made.cursor, made.following) == (1000, True)


def test_one_percent_is_at_least_one_step() -> None:
    made = head(count=20)
    made.by_share(1)
    assert made.cursor == 20
    big = head(count=1000)
    big.by_share(1)
    assert big.cursor == 110
    big.by_share(-1)
    assert big.cursor == 10


def test_findings_are_visited_in_order_and_nothing_happens_beyond_the_last() -> None:
    made = head()
    made.findings = (100, 400)
    made.to_finding(1)
    assert made.cursor == 100
    made.to_finding(1)
    assert made.cursor == 400
    made.to_finding(1)
    assert made.cursor == 400
    made.to_finding(-1)
    assert made.cursor == 100


def test_playing_takes_the_time_that_the_run_took_over_the_speed() -> None:
    made = head(count=100, seconds=2.0)
    made.toggle()
    made.speed = 4.0
    assert made.advance(1.0)
    assert made.cursor == 30  # four seconds of the run are two of its steps
    assert not made.advance(0.25)
    assert made.advance(0.25)
    assert made.cursor == 40


def test_the_first_speed_shows_a_long_run_within_a_minute() -> None:
    made = head(count=10_000, seconds=1.0)
    made.toggle()
    assert 0.4 * PLAY_WHOLE_RUN_S <= 10_000 / made.speed <= PLAY_WHOLE_RUN_S


def test_playing_ends_at_the_end_and_begins_again_at_the_start() -> None:
    made = head(count=10)
    made.toggle()
    made.advance(1e6)
    assert (made.cursor, made.playing, made.following) == (100, False, True)
    made.toggle()
    assert (made.cursor, made.playing) == (10, True)


def test_speed_goes_up_and_down_and_has_ends() -> None:
    made = head()
    made.toggle()
    before = made.speed
    made.faster(1)
    assert made.speed > before
    for _ in range(50):
        made.faster(-1)
    assert made.speed == pytest.approx(0.25)


@pytest.mark.parametrize("move", ["toggle", "by_steps", "by_share", "faster", "to_step", "to_start", "to_end", "to_finding"])
def test_before_the_first_step_no_move_does_harm(move: str) -> None:
    made = head(grown=False)
    getattr(made, move)(1)
    assert not made.advance(1.0) and made.cursor is None
    grow(made, 5)
    assert made.cursor in (10, 50)
