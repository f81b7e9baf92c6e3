"""gradient-nonfinite where a GradScaler skips step after step, so that no row shows it; the search for a scale is ordinary."""

from __future__ import annotations

from forgemon.chunk import Event
from forgemon.detectors.candidate import Candidate
from forgemon.detectors.gradient_nonfinite import GradientNonfinite
from tests.detectors.runs import chunk, event, step_rows


def skips(step: int, most: int) -> list[Event]:
    """As they are written: at the 1st, 2nd, 4th … in a row."""
    return [
        event("skipped", step, optimizer=0, times_in_a_row=1 << i, loss_scale=65536.0 / (1 << i))
        for i in range(most.bit_length())
    ]


def judged(events: list[Event], rows: int = 0) -> list[Candidate]:
    detector = GradientNonfinite()
    detector.feed(chunk(step_rows([1.0] * rows, gradient_norm=1.0, gradients=4), events))
    return detector.candidates()


def test_a_scaler_that_never_finds_a_scale() -> None:
    (found,) = judged(skips(0, 256))
    assert (found.symptom, found.level, found.cause, found.first_step) == ("gradient-nonfinite", "alarm", "unknown", 0)
    assert "skipped 256 steps in a row" in found.summary and "come down to 256" in found.summary and found.stands


def test_the_search_for_a_scale_is_ordinary() -> None:
    assert judged(skips(0, 16)) == []
    assert judged(skips(5, 16), rows=40) == []


def test_skips_that_came_to_an_end() -> None:
    (found,) = judged(skips(5, 64), rows=40)
    assert (found.level, found.stands, found.last_step) == ("watch", False, 5)


def test_skips_that_go_on_after_good_steps() -> None:
    (found,) = judged([*skips(5, 64), *skips(40, 32)], rows=40)
    assert (found.level, found.first_step) == ("alarm", 40)
