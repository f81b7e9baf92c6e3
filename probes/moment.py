"""Moments at which the process may be changed: on its main thread, and while no optimizer step iterates over torch's hooks.

Adding to or deleting from a dict of hooks while a step loops over it would raise RuntimeError in the user's loop.
"""

from __future__ import annotations

import _thread
import sys
import types
from collections.abc import Callable
from typing import Any

STEP_WRAPPER_FILE = "optim/optimizer.py"


class Moment:
    """Runs things now if that is safe, else at the next safe moment."""

    def __init__(self, arm: Callable[[], None], disarm: Callable[[], None]) -> None:
        """`arm()` is to see to it that the next step calls `between_hooks`, until `disarm()`."""
        self._arm, self._disarm = arm, disarm
        self._deferred: list[Callable[[], None]] = []
        self._pending: list[Any] = []

    def when_no_step_runs(self, action: Callable[[], Any]) -> bool:
        """Now, or between the hooks of the step that runs (see `between_hooks`); whether it was now."""
        if step_running():
            self._deferred.append(action)
            self._arm()
            return False
        action()
        return True

    def between_hooks(self) -> None:
        """Called where a step has left the loop over its pre-hooks and not yet entered that over its post-hooks."""
        deferred, self._deferred = self._deferred, []
        self._disarm()
        for action in deferred:
            action()

    def on_main_thread(self, action: Callable[[], None]) -> None:
        """Between two instructions of the main thread, as a signal handler would; from any thread."""
        import ctypes

        def call(_: Any) -> int:
            self._pending.clear()
            action()
            return 0  # anything else would raise in the user's code

        pending = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(call)
        self._pending.append(pending)  # the interpreter holds no reference to it
        ctypes.pythonapi.Py_AddPendingCall(pending, None)

    def forget(self) -> None:
        self._deferred.clear()


def step_running() -> bool:
    """Whether any thread is inside the wrapper that calls the hooks of an optimizer step."""
    own = _thread.get_ident()
    for thread, frame in list(sys._current_frames().items()):
        walk: types.FrameType | None = sys._getframe() if thread == own else frame
        while walk is not None:
            code = walk.f_code
            if code.co_name == "wrapper" and code.co_filename.endswith(STEP_WRAPPER_FILE):
                return True
            walk = walk.f_back
    return False
