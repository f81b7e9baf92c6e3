"""What is looked after on the writer's thread, period by period: orders to leave, progress without steps, and loops gone quiet."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from .guard import ASLEEP

if TYPE_CHECKING:
    from .moment import Moment
    from .session import Session

PROGRESS_S = 5.0
QUIET_S = 1.0
"""Without a step for so long the probes wake: a step that long is observed always, so this is no ordinary one."""


class Period:
    """Called again and again, from another thread than the one that trains."""

    def __init__(self, session: Session, moment: Moment) -> None:
        self._session = session
        self._moment = moment
        now = time.monotonic()
        self._progress = (0, now)
        "Activity of the loop when it was told last, and since when."
        self._quiet = (0, now)
        "The newest step, and since when."

    def passes(self) -> None:
        session = self._session
        if session.active and os.path.exists(os.path.join(session.writer.directory, "detach")):
            session.request_detach()
        self._moment.post_again()
        now = time.monotonic()
        self._wake_when_quiet(now)
        self._tell_progress(now)

    def _tell_progress(self, now: float) -> None:
        activity, since = self._progress
        if now - since > PROGRESS_S:
            if self._session.loop.activity != activity and self._session.active:
                self._session.emit("progress", batches=self._session.loop.activity - activity)
            self._progress = (self._session.loop.activity, now)

    def _wake_when_quiet(self, now: float) -> None:
        """No step for long while asleep: what goes on instead shall be seen, were it only that something goes on."""
        session, (step, since) = self._session, self._quiet
        if session.guard.mode != ASLEEP or session.steps.step != step:
            self._quiet = (session.steps.step, now)
        elif now - since > QUIET_S and session.active:
            self._quiet = (step, now)
            self._moment.on_main_thread(session.steps.wake_blind)
