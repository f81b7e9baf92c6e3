"""The epoch by the loop's own variable, in functions too, and the count that rises as the optimizer's steps do."""

from __future__ import annotations

import os
from typing import Any

import torch

from probes.counters import MOST_SAID, Counters, epoch_of_loop
from probes.where import UserLines


class Session:
    """What a session has that counters need."""

    def __init__(self) -> None:
        self.lines = UserLines("/of/ours", os.path.dirname(torch.__file__))
        self.said: list[tuple[Any, ...]] = []

    def emit(self, kind: str, **fields: Any) -> None:
        self.said.append((kind, fields["name"], fields["value"], fields["at_step"]))


def look() -> int | None:
    session: Any = Session()
    return epoch_of_loop(session)


def test_epoch_of_the_function_that_called() -> None:
    def train() -> int | None:
        return look()

    def main() -> list[int | None]:
        found = []
        for epoch in range(3):  # noqa: B007  # read by the probe
            found.append(train())
        return found

    assert main() == [0, 1, 2]


def test_the_innermost_counts() -> None:
    def inner() -> int | None:
        current_epoch = 7
        return look() if current_epoch else None

    epoch = 3
    assert (inner(), look(), epoch) == (7, 3, 3)


def test_what_is_no_epoch() -> None:
    def loop() -> int | None:
        epochs, last_epoch, epoch = 10, 4, "first"
        return look() if epochs + last_epoch and epoch else None

    def flag() -> int | None:
        epoch = True
        return look() if epoch else None

    assert loop() is None and flag() is None


def test_a_count_of_steps_is_said_once_for_each_distance() -> None:
    session: Any = Session()
    counters = Counters(session)
    for step in range(1, 10):
        counters.look("main", "global_step", step + 99, step)
    assert session.said == [("loop_count", "global_step", 103, 4)]
    for step in range(20, 24):  # the loop counted one more meanwhile
        counters.look("main", "global_step", step + 100, step)
    assert [event[2] - event[3] for event in session.said] == [99, 100]


def test_what_does_not_count_steps_is_not_said() -> None:
    session: Any = Session()
    counters = Counters(session)
    for step in range(1, 40):
        counters.look("main", "step", step // 4, step)  # of accumulation, of another loop
        counters.look("main", "it", 5, step)
        counters.look("main", "iteration", -step, step)
    assert session.said == []


def test_a_count_that_starts_anew_with_each_epoch_is_bounded() -> None:
    session: Any = Session()
    counters = Counters(session)
    for step in range(1000):
        counters.look("main", "step", step % 10, step)
    assert len(session.said) == MOST_SAID
