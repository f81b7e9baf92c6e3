"""Whom the loop's state machine tells what the loop did, and asks what it cannot know itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .drivers import Driver
from .evaluations import Batch, EvaluationPass
from .where import Line


class Listener(Protocol):
    """The session, or a stand-in."""

    def evaluations_ended(self, results: Sequence[EvaluationPass]) -> None: ...

    def evaluated(self, finished: EvaluationPass, value: float) -> None: ...

    def evaluated_as(self, finished: EvaluationPass, metric: str, value: float) -> None: ...

    def evaluation_batch(self, batch: Batch) -> None: ...

    def step_now(self) -> int: ...

    def epoch(self) -> int | None: ...

    def line_of_forward(self) -> Line | None: ...

    def user_line(self) -> Line | None: ...

    def driver(self, with_splits: bool) -> Driver: ...

    def training_mode(self) -> bool | None: ...
