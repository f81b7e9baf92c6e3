"""The thread that trains. What it does is looked at on that thread alone.

A backward pass writes gradients while it lets other threads run Python: to read `.grad` of what another thread trains can bring the
process down. So calls of other threads go unseen, and where a second thread trains while the first still does, we leave.
"""

from __future__ import annotations

import _thread
import sys
import types
from collections.abc import Callable

from .dynamo import skip

WAITS_IN = ("threading", "queue", "selectors", "concurrent.futures.thread", "concurrent.futures._base", "asyncio.base_events")
"""Modules of the standard library in which a thread waits that has nothing to do."""


class TrainingThread:
    """Which one it is: the first that goes backward or steps, and another after it once that one has nothing to do any more."""

    def __init__(self, two_train: Callable[[], None]) -> None:
        """`two_train()` is called on a second thread that is about to go backward or to step while the first may do the same."""
        self.ident = 0
        self._helpers: set[int] = set()
        "Threads of C, in which autograd runs what a backward pass of the thread that trains calls."
        self._others: set[int] = set()
        "Threads that Python started."
        self._two_train = two_train

    def is_another(self, trains: bool) -> bool:
        """Whether the calling thread, which is not `ident`, is one to be ignored; `trains`: whether it is about to go backward or step."""
        ident = _thread.get_ident()
        if ident in self._helpers:
            return False
        if self.ident == 0:
            if trains:
                self.ident = ident
            return False
        if ident not in self._others:
            kind = self._others if _is_of_python(ident) else self._helpers
            kind.add(ident)
            return self.is_another(trains)
        if not trains:
            return True
        if _has_nothing_to_do(self.ident):
            self.ident = ident
            return False
        self._two_train()
        return True


def frames_of_threads() -> list[types.FrameType]:
    """Where each thread is; the calling one, where it called the function that asks.

    That function's own frame in a variable of its own would be a cycle, and every frame around it, of the program's functions too, would
    keep its variables until the garbage collector comes: models, batches, graphs.
    """
    frames = sys._current_frames()
    frames[_thread.get_ident()] = sys._getframe(2)
    return list(frames.values())


def _frame_of(ident: int) -> types.FrameType | None:
    return sys._current_frames().get(ident)


def _is_of_python(ident: int) -> bool:
    """Whether a thread was started by Python, or is the main one."""
    import threading  # the program has, where it has threads; until then nobody needs to

    if ident == threading.main_thread().ident:
        return True
    frame = _frame_of(ident)
    while frame is not None and frame.f_back is not None:
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename == threading.__file__


def _has_nothing_to_do(ident: int) -> bool:
    """Whether it has ended or waits in the standard library."""
    frame = _frame_of(ident)
    files = {getattr(sys.modules.get(name), "__file__", None) for name in WAITS_IN}
    return frame is None or frame.f_code.co_filename in files


# Called where a compiler may look at the frames of this thread.
skip(function.__code__ for function in (TrainingThread.is_another, _frame_of, _is_of_python, _has_nothing_to_do))
