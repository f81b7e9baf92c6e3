"""The one place that swallows exceptions: whatever fails in our callbacks never reaches the loop, and is recorded once a place."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from . import dynamo
from .observe import new_observer

MOST_ERRORS = 8

Report = Callable[[str, str, bool], None]
"""Place, message, and whether it has become too much."""


class Guard:
    """Wraps callbacks: silent in forked children, silent when switched off, and timed.

    In steps that are observed (`full`) every callback runs. In those between, only what must see every step: the callbacks wrapped
    with `always`, or the cheap `light` stand-in of one.
    """

    def __init__(self, report: Report) -> None:
        self.active = False
        self.full = True
        self.pid = os.getpid()
        self.spent_s = 0.0
        "Seconds spent in callbacks so far, an estimate for those that were skipped included."
        self._skip_s = 0.0
        self._report = report
        self._errors: dict[str, int] = {}

    def __call__(
        self, callback: Callable[..., None], *, always: bool = False, light: Callable[..., None] | None = None
    ) -> Callable[..., None]:
        clock, getpid = time.perf_counter, os.getpid
        stand_in = callback if always else light
        modules, compile_with = sys.modules, dynamo.switch()

        def guarded(*values: Any) -> None:
            if not self.active or getpid() != self.pid:
                return
            chosen = callback
            if not self.full:
                if stand_in is None:
                    self.spent_s += self._skip_s
                    return
                chosen = stand_in
            began = clock()
            compiling = compile_with is not None and "torch._dynamo" in modules
            compiler = compile_with(None) if compiling and compile_with is not None else None
            try:
                chosen(*values)
            except Exception as error:
                self._swallow(chosen, error)
            finally:
                if compiling and compile_with is not None:
                    compile_with(compiler)
            self.spent_s += clock() - began

        guarded._torchdynamo_disable = True  # type: ignore[attr-defined]
        dynamo.skip([guarded.__code__])
        return guarded

    def calibrate(self, calls: int = 500) -> None:
        """Measure what a skipped callback costs on this machine, the shim before it included."""

        def probe(value: int) -> int:
            return value

        clock, observer = time.perf_counter, new_observer()
        began = clock()
        for number in range(calls):
            probe(number)
        plain_s = clock() - began
        active, full, self.active, self.full = self.active, self.full, True, False
        observer.observe(probe, self(lambda values: None))
        began = clock()
        for number in range(calls):
            probe(number)
        took_s = clock() - began
        observer.remove()
        self.active, self.full, self.spent_s = active, full, 0.0
        self._skip_s = max(0.0, took_s - plain_s) / calls

    def protected(self, function: Callable[..., None], *values: Any) -> None:
        """Call once, swallowing what it raises."""
        try:
            function(*values)
        except Exception as error:
            self._swallow(function, error)

    def _swallow(self, callback: Callable[..., None], error: Exception) -> None:
        if _raised_by_user(error):
            raise error  # a signal handler of the user's ran inside our code: its exception is theirs
        self.swallow(getattr(callback, "__qualname__", repr(callback)), error)

    def swallow(self, place: str, error: Exception) -> None:
        """Count an error of our own and report it once for its place."""
        self._errors[place] = self._errors.get(place, 0) + 1
        give_up = sum(self._errors.values()) == MOST_ERRORS
        if self._errors[place] == 1 or give_up:
            self._report(place, f"{type(error).__name__}: {error}"[:500], give_up)


def _raised_by_user(error: Exception) -> bool:
    """Whether a signal handler of the program's raised it: Python runs handlers between any two instructions, ours too."""
    handlers = {
        getattr(getattr(handler, "__func__", handler), "__code__", None)
        for handler in map(signal.getsignal, signal.valid_signals())
        if callable(handler)
    }
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in handlers:
            return True
        trace = trace.tb_next
    return False
