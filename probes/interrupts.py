"""Exceptions that come from outside while our code runs: of a signal handler of the program's, or sent to the thread by another one. Python
raises them between any two instructions, ours too, and they are not ours to swallow."""

from __future__ import annotations

import os
import signal
import sys
import types
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch

_OURS, _TORCH, _STANDARD = (os.path.dirname(os.path.abspath(file)) + os.sep for file in (__file__, torch.__file__, os.__file__))
_INSTALLED = ("site-packages" + os.sep, "dist-packages" + os.sep)
"""Folders that are inside the standard library's and hold anybody's packages, the program's among them."""


def is_the_programs(error: Exception) -> bool:
    """Whether the program sent itself `error`, by a handler or from a thread."""
    codes = [frame.f_code for frame in _frames_of(error)]
    handlers = {_code_of(handler) for handler in map(signal.getsignal, signal.valid_signals())}
    if any(code in handlers for code in codes) or any(map(_handles_a_signal, _frames_of(error))):
        return True
    return _is_of_the_program(type(error)) and all(is_ours_or_library(code.co_filename) for code in codes)


def is_ours_or_library(file: str) -> bool:
    """Whether a source file is one of the probes', of torch or of the standard library."""
    if file.startswith((_OURS, _TORCH)):
        return True
    return file.startswith(_STANDARD) and not file[len(_STANDARD) :].startswith(_INSTALLED)


def _frames_of(error: Exception) -> Iterator[types.FrameType]:
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


def _code_of(handler: Any) -> types.CodeType | None:
    function = getattr(handler, "__func__", handler)
    code = getattr(function, "__code__", None)
    return code if isinstance(code, types.CodeType) else None


def _handles_a_signal(frame: types.FrameType) -> bool:
    """Whether its arguments are those of a handler, which may be no plain function, and no longer be installed."""
    code = frame.f_code
    if is_ours_or_library(code.co_filename):
        return False
    values = [frame.f_locals.get(name) for name in code.co_varnames[: code.co_argcount]]
    if code.co_flags & 4:  # *args
        values += frame.f_locals.get(code.co_varnames[code.co_argcount + code.co_kwonlyargcount], ())
    signals = signal.valid_signals()
    return any(isinstance(one, int) and one in signals and type(two) is types.FrameType for one, two in pairwise(values))


def _is_of_the_program(kind: type) -> bool:
    """Whether an exception's class is defined in a file of the program's own."""
    module = sys.modules.get(kind.__module__)
    file = getattr(module, "__file__", None)
    if kind.__module__ == "__main__":
        return True
    return isinstance(file, str) and not is_ours_or_library(file)
