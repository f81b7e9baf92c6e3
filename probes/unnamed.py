"""Validation passes that no criterion shows: held until the loop logs or keeps a validation loss, which says that they were one."""

from __future__ import annotations

from .evaluations import EvaluationPass

MOST_WAITING = 4
MOST_STEPS_LATE = 50
"""A number that stands in a variable is seen at the next look, which may be some steps later."""

Result = tuple[str, float, int]
"""Its name, value and step."""


class UnnamedPasses:
    """Batches without a loss that nothing goes back through may be anything: labels made by the model, statistics taken anew."""

    def __init__(self) -> None:
        self._waiting: list[EvaluationPass] = []
        self._result: Result | None = None
        "The newest one, for a pass whose end shows only when training goes on."

    def ended(self, finished: EvaluationPass) -> Result | None:
        """A pass ended; its result, if that is known already. Otherwise the pass waits for it."""
        if not finished.is_whole:
            return None
        if self._result is not None and self._result[2] == finished.step:
            return self._result
        self._waiting = [*(one for one in self._waiting if one.step == finished.step), finished][-MOST_WAITING:]
        return None

    def named(self, result: Result) -> list[EvaluationPass]:
        """The passes whose result this is."""
        self._result = result
        waiting, self._waiting = self._waiting, []
        return [one for one in waiting if 0 <= result[2] - one.step <= MOST_STEPS_LATE]
