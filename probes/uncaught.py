"""The exception that ends the program, seen by a sys.excepthook that calls the program's own after it."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

from .where import Line, UserLines

Seen = Callable[[type[BaseException], BaseException, types.TracebackType | None], None]

MOST_FRAMES = 30


class Uncaught:
    def __init__(self, seen: Seen) -> None:
        """`seen` must not raise."""
        self._seen = seen
        self._ours: Any = None
        self._previous: Any = None

    def put_in(self) -> None:
        def excepthook(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
            try:
                self._seen(kind, error, trace)
            finally:
                self._previous(kind, error, trace)

        self._ours = excepthook
        self._previous, sys.excepthook = sys.excepthook, excepthook

    def take_out(self) -> None:
        """Where the program has put one of its own before ours, that one stays and goes on calling ours."""
        if sys.excepthook is self._ours:
            sys.excepthook = self._previous


def way_of(trace: types.TracebackType | None, lines: UserLines) -> tuple[Line | None, list[str]]:
    """The innermost line of the user's own, and all frames from the outermost on; of many the last."""
    line, frames = None, []
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append(f"{code.co_name} ({code.co_filename}:{trace.tb_lineno})")
        if lines.kind(code.co_filename) == 2:
            line = Line(code.co_filename, trace.tb_lineno, code.co_name)
        trace = trace.tb_next
    return line, frames[-MOST_FRAMES:]
