"""Have the main thread do something between two of its instructions, as a signal handler would; from any thread."""

from __future__ import annotations

import ctypes
import sys
import types
from collections.abc import Callable
from typing import Any


def post(action: Callable[[], None]) -> bool:
    """Have the main thread call `action` soon; False when the interpreter's queue is full.

    What `action` raises is raised there, as from a signal handler: a function of ctypes in its place would print it, and a
    KeyboardInterrupt would never reach the program. So the call is that of PyObject_IsTrue, which asks an object of ours.
    """

    class Call:
        def __bool__(self) -> bool:
            release(self)
            action()
            return False  # anything else would be an error

    # Prototypes of our own: those of ctypes.pythonapi are the program's.
    api: Any = ctypes.pythonapi
    truth = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object)(("PyObject_IsTrue", api))
    hold, release = (ctypes.PYFUNCTYPE(None, ctypes.py_object)((name, api)) for name in ("Py_IncRef", "Py_DecRef"))
    add = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(("Py_AddPendingCall", api))
    call = Call()
    hold(call)  # the interpreter does not
    if add(ctypes.cast(truth, ctypes.c_void_p).value, id(call)) == 0:
        return True
    release(call)
    return False


def raise_after(code: types.CodeType, error: BaseException) -> None:
    """Have the main thread raise `error` as soon as it has left `code`, which runs where nothing can be raised. It is
    lost where the interpreter's queue is full."""

    def again() -> None:
        frame: types.FrameType | None = sys._getframe()
        while frame is not None:
            if frame.f_code is code:
                post(again)
                return
            frame = frame.f_back
        raise error

    post(again)
