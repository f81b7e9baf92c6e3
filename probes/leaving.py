"""How we go: asked to, because something of ours fails, or as the interpreter ends."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .held_names import hold_names_if_profiled

if TYPE_CHECKING:
    from .moment import Moment
    from .session import Session


class Leaving:
    """Takes every probe out again, and has the run directory end with why."""

    def __init__(self, session: Session, moment: Moment) -> None:
        self._session, self._moment = session, moment
        self._because = ""

    def when_interpreter_ends(self) -> None:
        """Say then that it ended in order."""
        atexit.register(self.exiting)

    def ask(self, reason: str = "asked to") -> None:
        """Leave at the next moment that is safe; from any thread."""
        self._because = self._because or reason
        self._moment.on_main_thread(self._leave_as_asked)

    def _leave_as_asked(self) -> None:
        session = self._session
        if not session.writer.started:
            session.guard.protected(session.first_step)  # to say so
        self.leave(self._because)

    def leave(self, reason: str) -> None:
        """Take every probe out, on the main thread and while no optimizer step iterates over the hooks; later if one does."""
        if self._session.active:
            self._moment.when_no_step_runs(lambda: self._leave(reason))

    def _leave(self, reason: str) -> None:
        session = self._session
        if not session.active:
            return
        with session.guard.undisturbed():
            self._one_after_the_other(
                self.take_out,
                session.loop.tell_of_passes,
                session.transfer.poll,
                *self._last_words("detached", reason=reason),
                lambda: session.writer.stop(timeout_s=0.0),
                hold_names_if_profiled,
                forget_modules,
            )

    def take_out(self) -> None:
        """Now, whatever runs; nothing is written of it."""
        session = self._session
        session.active = session.guard.active = False
        self._one_after_the_other(
            *session.step_hooks.removals(),
            *session.taken_out,
            session.observer.remove,
            session.observer.remove,  # what an interrupt in the first left in
            self._moment.forget,
            session.uncaught.take_out,
            lambda: atexit.unregister(self.exiting),
        )

    def exiting(self) -> None:
        """atexit: the interpreter shuts down in order."""
        session = self._session
        if os.getpid() != session.guard.pid or not session.active or not session.writer.started:
            return
        self._one_after_the_other(
            session.folder.write_info,
            session.loop.flush_evaluations,
            lambda: session.transfer.finish(timeout_s=0.5),
            *self._last_words("exiting"),
            session.writer.stop,
        )

    def _last_words(self, kind: str, **fields: Any) -> list[Callable[[], object]]:
        """What says that nothing more comes, and what came only now."""
        session = self._session
        return [lambda: session.probes.tell("exiting"), session.signals.say, lambda: session.emit(kind, **fields)]

    def _one_after_the_other(self, *actions: Callable[[], object]) -> None:
        """Each is done whatever becomes of those before it, be it a KeyboardInterrupt, which the program gets after them."""
        with contextlib.ExitStack() as stack:
            for action in reversed(actions):
                stack.callback(self._session.guard.protected, action)


def forget_modules() -> None:
    """Leave nothing of ours in sys.modules, unless the program itself imported the package."""
    for name in [name for name in sys.modules if name == "_forgemon_probe" or name.split(".")[0] == "_forgemon_probes"]:
        del sys.modules[name]
