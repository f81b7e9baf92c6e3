"""The exception that ends the program, seen by a sys.excepthook that calls the program's own after it."""

from __future__ import annotations

import os
import re
import sys
import types
from typing import TYPE_CHECKING, Any

from .where import Line, UserLines

if TYPE_CHECKING:
    from .session import Session

MOST_FRAMES = 30
FROM_BEGINNING, FROM_END = 500, 1500
"""Characters of a message that are kept: one that holds another traceback says what happened on its last line."""
_FRAME = re.compile(r'^ *File "(.+)", line (\d+), in (.+)$', re.MULTILINE)


class Uncaught:
    def __init__(self, session: Session) -> None:
        self._session = session
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

    def _seen(self, kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
        session = self._session
        if session.active and os.getpid() == session.guard.pid:
            session.guard.protected(self._raised, kind, error, trace)

    def _raised(self, kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
        session = self._session
        if session.folder.is_anothers:
            return
        session.folder.claim()
        message = str(error)
        line, frames = way_of(trace, session.lines)
        line_in_worker, frames_in_worker = way_in_worker(message, session.lines)
        session.loop.flush_evaluations()
        session.emit(
            "exception",
            type=kind.__name__,
            message=shortened(message),
            where=line_in_worker or line,
            traceback=[*frames, *frames_in_worker],
        )
        session.writer.flush(1.0)


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


def way_in_worker(message: str, lines: UserLines) -> tuple[Line | None, list[str]]:
    """The same of an exception that another process raised, like a worker of a DataLoader: torch puts its traceback into the message."""
    _, found, original = message.partition("Original Traceback")
    line, frames = None, []
    for file, number, function in _FRAME.findall(original) if found else ():
        frames.append(f"{function} ({file}:{number})")
        if lines.kind(file) == 2:
            line = Line(file, int(number), function)
    return line, frames[-MOST_FRAMES:]


def shortened(message: str) -> str:
    if len(message) <= FROM_BEGINNING + FROM_END:
        return message
    return f"{message[:FROM_BEGINNING]}\n…\n{message[-FROM_END:]}"
