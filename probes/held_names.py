"""Names of our functions, which torch's profiler reads when we may be gone.

While it records stacks (`with_stack=True`) it notes of each call where the names of its file and its function lie in memory, and reads them
when it has stopped. What a name of a function that is gone by then lay in may be anything.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import types
from collections.abc import Iterator

import torch

_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep


def hold_names_if_profiled() -> None:
    """To be called when functions of ours are about to go. Where a profile is under way, their names stay for good."""
    if not _is_profiled():
        return
    # A prototype of our own: that of ctypes.pythonapi is the program's.
    hold = ctypes.PYFUNCTYPE(None, ctypes.py_object)(("Py_IncRef", ctypes.pythonapi))
    for name in {id(name): name for code in _codes() for name in (code.co_filename, code.co_name)}.values():
        hold(name)


def _is_profiled() -> bool:
    """Whether any thread may be recorded."""
    return bool(getattr(torch.autograd.profiler, "_is_profiler_enabled", False) or torch._C._autograd._profiler_enabled())


def _codes() -> Iterator[types.CodeType]:
    """Of every function of ours and of what led here: those that began to load us are in no module. And of what ran as the modules were
    loaded: the body of a class is no function."""
    frame: types.FrameType | None = sys._getframe()
    while frame is not None:
        yield frame.f_code
        frame = frame.f_back
    for code in getattr(sys.modules.get(__package__), "codes", ()):
        yield from _within(code)
    for found in gc.get_objects():
        if type(found) is types.FunctionType and found.__code__.co_filename.startswith(_OURS):
            yield from _within(found.__code__)


def _within(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if type(constant) is types.CodeType:
            yield from _within(constant)
