"""Which optimizer's steps the probes count, and what is looked at after them. When it rests another takes its place, and its debts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .asleep import Asleep, Mark
from .expected import ExpectedPass
from .schedule import OBSERVE, Plan, Schedule
from .turns import Turns

if TYPE_CHECKING:
    from .known import Known
    from .session import Session

MOST_WANTED = 8
"""Steps that are observed because of what is seen elsewhere: where they show nothing, more of them will not."""
FIRST_NEWCOMERS = 32
"""Optimizers that are looked at from their first step on, whatever the budget."""


class Pace:
    """The main optimizer and the ledger of the time since the last plan."""

    def __init__(self, session: Session, expected: ExpectedPass) -> None:
        self._session = session
        self._expected = expected
        self.schedule = Schedule(float(session.config.get("budget", 0.01)))
        self.slept = Asleep()
        "The steps between observed ones."
        self.main: Known | None = None
        self._row = Mark()
        "At the last full row, of whichever optimizer; its steps are those of the process."
        self._plan = Mark()
        "At the last decision of what to look at next."
        self._planned_at = 0
        "The step of the process at it."
        self._turns = Turns()
        self._newcomers = 0
        "Optimizers whose first step has ended a sleep."
        self._is_wanted = False
        self._wanted = 0

    def begin_anew(self) -> None:
        """What was spent before is forgotten: the session was paused."""
        self._plan = self._row = Mark()
        for known in self._session.optimizers.everyone():
            known.row = None

    def cost_of_row(self, known: Known, end: float) -> float:
        """Seconds a step that the probes took since the last full row of `known`, or of any before its first, at the end of a row."""
        # Of two that take turns each row has all since its own row before, as a reader takes the rows of one of them.
        mark = self._mark(end)._replace(steps=self._session.step_now())
        cost_s = (known.row or self._row).spent_a_step(mark)
        known.row = self._row = mark
        return cost_s

    def _mark(self, end: float) -> Mark:
        steps = self.main.steps if self.main is not None else 0
        spent_s = self._session.guard.spent_s + self._session.looks.taken_off_s
        return Mark(end, steps, spent_s, self.slept.spent_s)

    # The main optimizer

    def elect(self, known: Known, credit: float = 0.0) -> None:
        """`known` has stepped: it takes over where the main one is gone or rests, or its next step cannot be waited for: more than
        `credit` observed steps are not paid for."""
        if known is self.main:
            self._turns.clear()
            return
        self._turns.stepped(known.index)
        lives = self.main is not None and self.main.optimizer() is not None
        if not lives or self._turns.main_rests(self._living) or self._is_overdrawn(known.last_end, credit):
            self.becomes_main(known)

    def becomes_main(self, known: Known) -> None:
        """What was spent since the last plan remains to be paid for. Its steps are taken to be those of the process."""
        self.main = known
        now = self._session.step_now()
        self._plan = self._plan._replace(steps=known.steps - max(1, now - self._planned_at))
        self._turns.clear()

    @property
    def main_rests(self) -> bool:
        """While asleep."""
        return self.slept.main_rests(self._living)

    def newcomer_wakes_us(self) -> bool:
        """In a program that makes one optimizer after the other (a search, a learner of learners), only when it can be afforded."""
        if self.knows_many and self._is_overdrawn(time.perf_counter()):
            return False
        self._newcomers += 1
        return True

    @property
    def knows_many(self) -> bool:
        return self._newcomers >= FIRST_NEWCOMERS

    @property
    def _living(self) -> int:
        return len(self._session.optimizers.by_id)

    # Plans

    def want_next(self) -> None:
        """What the loop does shows that the next step is to be observed, whatever the budget: it is paid for afterwards."""
        self._is_wanted = self._wanted < MOST_WANTED

    def plan(self, end: float, after: Callable[[float, int, float], Plan], step: int) -> Plan:
        """What the schedule, by its method `after`, says of the time since the plan before, at the end of `step`."""
        now = self._mark(end)
        before, self._plan, self._planned_at = self._plan, now, step
        if before.time != before.time:
            return OBSERVE
        plan = after(now.time - before.time, now.steps - before.steps, now.spent_s - before.spent_s)
        if self._is_wanted:
            self._is_wanted, self._wanted = False, self._wanted + 1
            return OBSERVE
        return self._expected.awake_for(plan, step)

    def _is_overdrawn(self, end: float, by: float = 0.0) -> bool:
        now = self._mark(end)
        return self.schedule.is_overdrawn(now.time - self._plan.time, now.spent_s - self._plan.spent_s, by)
