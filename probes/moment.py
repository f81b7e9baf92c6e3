"""Moments at which the process may be changed: on its main thread, outside our own callbacks, and while no optimizer step iterates
over torch's hooks.

Adding to or deleting from a dict of hooks while a step loops over it would raise RuntimeError in the user's loop; and a callback that
goes on after all was taken out would put something in again.
"""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .pending import post
from .threads import frames_of_threads
from .torch_modes import out_of_modes

if TYPE_CHECKING:
    from .guard import Guard

STEP_WRAPPER_FILE = "optim/optimizer.py"


class Moment:
    """Runs things now if that is safe, else at the next safe moment."""

    def __init__(self, guard: Guard, arm: Callable[[], None], disarm: Callable[[], None]) -> None:
        """`arm()` is to see to it that the next step calls `run_deferred`, until `disarm()`."""
        self._guard, self._arm, self._disarm = guard, arm, disarm
        self._deferred: list[Callable[[], None]] = []
        self._actions: deque[Callable[[], None]] = deque()
        self._posted = False

    def when_no_step_runs(self, action: Callable[[], Any]) -> None:
        """Now, else between the hooks of the step that runs or of the next, or after it, should none follow (see `post_again`)."""
        if step_running():
            self._deferred.append(action)
            self._arm()
        else:
            action()

    def run_deferred(self) -> None:
        """Called where no step runs, or where one has left the loop over its pre-hooks and not yet entered that over its
        post-hooks."""
        deferred, self._deferred = self._deferred, []
        self._disarm()
        for action in deferred:
            self._guard.protected(action)

    def on_main_thread(self, action: Callable[[], None]) -> None:
        """Between two instructions of the main thread, as a signal handler would; from any thread. What already waits is not
        asked for twice: a main thread that is long in C code has a queue of 32 such calls, and it is the program's too."""
        if action not in self._actions:
            self._actions.append(action)
        self.post_again()

    def post_again(self) -> None:
        """What waits and was not taken when the interpreter's queue was full, a callback of ours under way, or a step at its last
        hooks. To be called again and again, from any thread."""
        if (self._actions or self._deferred) and not self._posted:
            self._posted = True  # before it is: it may run at once
            if not post(self._go_on):
                self._posted = False

    def _go_on(self) -> None:
        self._posted = False
        if self._guard.inside:
            self._guard.when_over = self.post_again
            if self._guard.inside:  # still: a callback on another thread may have ended just before it could be told
                return
        with out_of_modes():  # any moment may fall into one
            while self._actions:
                self._guard.protected(self._actions.popleft())
            if self._deferred and not step_running():
                self.run_deferred()

    def forget(self) -> None:
        self._deferred.clear()
        self._actions.clear()


def step_running() -> bool:
    """Whether any thread is inside the wrapper that calls the hooks of an optimizer step."""
    for frame in frames_of_threads():
        walk: types.FrameType | None = frame
        while walk is not None:
            code = walk.f_code
            if code.co_name == "wrapper" and code.co_filename.endswith(STEP_WRAPPER_FILE):
                return True
            walk = walk.f_back
    return False
