"""The loop's own counts: which variable is its epoch, and which counts optimizer steps as we do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .frames import variables

if TYPE_CHECKING:
    from .session import Session

EPOCHS = "epoch current_epoch cur_epoch epoch_idx epoch_index epoch_num epoch_number epoch_i i_epoch ep".split()
STEPS = frozenset("global_step step iteration iter_num num_updates it iter i_step step_idx current_step cur_step".split())
MOST_SAID = 8
ENOUGH_RISES = 3
"""Looks in a row at which a variable has risen as our count has."""


def epoch_of_loop(session: Session) -> int | None:
    """The epoch by the variable that holds it, in the frames of the program that led here, innermost first."""
    return epoch_among(variables(frame, EPOCHS) for frame in session.lines.frames())


def epoch_among(scopes: Iterable[Mapping[str, Any]]) -> int | None:
    """The first variable of the first scope that holds an epoch."""
    for values in scopes:
        for name in EPOCHS:
            if type(values.get(name)) is int:
                return int(values[name])
    return None


class Counters:
    """Variables that count optimizer steps: they rise as our count does."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._seen: dict[tuple[object, str], tuple[int, int, int]] = {}
        self._said: dict[str, int] = {}
        self._times = 0

    def look(self, scope: object, name: str, value: int, step: int) -> None:
        """`value` stood while our `step` was under way. Said once for each distance between the two counts."""
        before = self._seen.get((scope, name))
        if before is None and len(self._seen) >= len(STEPS):
            return
        rose_alike = before is not None and value - before[0] == step - before[1] > 0
        rises = before[2] + 1 if before is not None and rose_alike else 0
        self._seen[scope, name] = (value, step, rises)
        if rises < ENOUGH_RISES:
            return
        if self._said.get(name) != value - step and self._times < MOST_SAID:
            self._times += 1
            self._said[name] = value - step
            self._session.emit("loop_count", name=name, value=value, at_step=step)
