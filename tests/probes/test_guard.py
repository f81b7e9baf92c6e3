"""The guard around our callbacks: what it swallows is told by the function that failed."""

from __future__ import annotations

import pytest

from probes.guard import AWAKE, LOSS, Guard


@pytest.mark.parametrize(("mode", "place"), [(AWAKE, "fails_in_full"), (LOSS, "fails_lightly")])
def test_an_error_is_told_by_the_callback_that_was_called_in_this_mode(mode: int, place: str) -> None:
    def fails_in_full(_: int) -> None:
        raise ZeroDivisionError

    def fails_lightly(_: int) -> None:
        raise ZeroDivisionError

    told: list[str] = []
    guard = Guard(lambda where, _: told.append(where.rpartition(".")[2]), lambda: None)
    guard.active, guard.mode = True, mode
    callback = guard(fails_in_full, light=fails_lightly)
    callback(1)
    callback(2)
    assert told == [place] and not guard.inside
