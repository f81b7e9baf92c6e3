"""Observe a Python function by its code, so that every reference to it is covered: from-imports, bound methods, partials.

One interface, two mechanisms. On 3.12 and later `sys.monitoring` reports the start and the return of a code object and nothing in
the function changes. On 3.10 and 3.11 the function's `__code__` is swapped for the same with the two calls in it.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable
from typing import Any, Protocol

from .calls_within import parameters, with_calls

OnStart = Callable[[tuple[Any, ...]], None]
"""Called with the values of the function's parameters: those by position, by keyword, *args, **kwargs."""
OnReturn = Callable[[tuple[Any, ...], Any], None]
"""Called with the same, as they stand then, and with the returned value. Not called when the function raises."""


class Observer(Protocol):
    """Observes functions until `remove()`. Callbacks must not raise."""

    def observe(self, function: Any, on_start: OnStart | None = None, on_return: OnReturn | None = None) -> bool:
        """Start to observe `function`, unwrapped; False when its kind cannot be observed (built in, a generator)."""

    def forget(self, function: Any) -> None:
        """Stop to observe one function."""

    def suspend(self, function: types.FunctionType) -> None:
        """Leave one function as it was found until `resume`: a call of it then costs nothing. A call under way still returns."""

    def resume(self, function: types.FunctionType) -> None:
        """Observe a suspended function again."""

    def remove(self) -> None:
        """Stop to observe every function and leave each as it was found."""


def new_observer() -> Observer:
    """The mechanism for this interpreter."""
    return MonitoringObserver() if sys.version_info >= (3, 12) else CodeObserver()


def unwrap(function: Any) -> types.FunctionType | None:
    """The innermost Python function. Wrappers share one code object between all that they decorate, so never observe those."""
    function = getattr(function, "__func__", function)
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    if not isinstance(function, types.FunctionType):
        return None
    generator_like = 0x20 | 0x80 | 0x100 | 0x200  # CO_GENERATOR, CO_COROUTINE, CO_ITERABLE_COROUTINE, CO_ASYNC_GENERATOR
    return None if function.__code__.co_flags & generator_like else function


def forward_of(kind: type) -> Any:
    """The forward of a class of modules as it stands there; to ask for that of a compiled script's class is an error."""
    return inspect.getattr_static(kind, "forward", None)


def parameter_names(function: Any) -> tuple[str, ...]:
    """Names of the values that callbacks get, in their order."""
    found = unwrap(function)
    return () if found is None else parameters(found.__code__)


class CodeObserver:
    """3.10 and 3.11: swaps `__code__`."""

    def __init__(self) -> None:
        self._swapped: dict[types.FunctionType, tuple[types.CodeType, types.CodeType]] = {}

    def observe(self, function: Any, on_start: OnStart | None = None, on_return: OnReturn | None = None) -> bool:
        found = unwrap(function)
        if found is None or found in self._swapped:
            return False
        original = found.__code__
        calling = with_calls(original, on_start, on_return)
        self._swapped[found] = (original, calling)
        found.__code__ = calling
        return True

    def forget(self, function: Any) -> None:
        found = unwrap(function)
        if found in self._swapped:
            original, calling = self._swapped[found]
            if found.__code__ is calling:  # somebody else may have swapped it since: then ours is no longer in the way
                found.__code__ = original
            self._swapped.pop(found, None)

    def suspend(self, function: types.FunctionType) -> None:
        original, calling = self._swapped[function]
        if function.__code__ is calling:
            function.__code__ = original

    def resume(self, function: types.FunctionType) -> None:
        original, calling = self._swapped[function]
        if function.__code__ is original:
            function.__code__ = calling

    def remove(self) -> None:
        for function in list(self._swapped):
            self.forget(function)


class MonitoringObserver:
    """3.12 and later: local events of sys.monitoring. Raises RuntimeError when all tool ids are taken."""

    def __init__(self) -> None:
        self._monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
        self._callbacks: dict[types.CodeType, tuple[OnStart | None, OnReturn | None]] = {}
        self._events: dict[types.CodeType, int] = {}
        free = [i for i in (4, 3, 5, 0, 1, 2) if self._monitoring.get_tool(i) is None]
        if not free:
            raise RuntimeError("no free sys.monitoring tool id")
        self._tool = free[0]
        events = self._monitoring.events
        self._monitoring.use_tool_id(self._tool, "forgemon")
        self._monitoring.register_callback(self._tool, events.PY_START, self._started)
        self._monitoring.register_callback(self._tool, events.PY_RETURN, self._returned)

    def observe(self, function: Any, on_start: OnStart | None = None, on_return: OnReturn | None = None) -> bool:
        found = unwrap(function)
        if found is None or found.__code__ in self._callbacks:
            return False
        events = self._monitoring.events
        wanted = (events.PY_START if on_start else 0) | (events.PY_RETURN if on_return else 0)
        self._callbacks[found.__code__] = (on_start, on_return)
        self._events[found.__code__] = wanted
        self._monitoring.set_local_events(self._tool, found.__code__, wanted)
        return True

    def forget(self, function: Any) -> None:
        found = unwrap(function)
        if found is not None and self._callbacks.pop(found.__code__, None) is not None:
            self._monitoring.set_local_events(self._tool, found.__code__, 0)
            del self._events[found.__code__]

    def suspend(self, function: types.FunctionType) -> None:
        self._monitoring.set_local_events(self._tool, function.__code__, 0)

    def resume(self, function: types.FunctionType) -> None:
        self._monitoring.set_local_events(self._tool, function.__code__, self._events[function.__code__])

    def remove(self) -> None:
        if self._monitoring.get_tool(self._tool) != "forgemon":
            return
        for code in list(self._callbacks):
            self._monitoring.set_local_events(self._tool, code, 0)
        self._callbacks.clear()
        self._events.clear()
        events = self._monitoring.events
        for event in (events.PY_START, events.PY_RETURN):
            self._monitoring.register_callback(self._tool, event, None)
        self._monitoring.free_tool_id(self._tool)

    def _started(self, code: types.CodeType, _offset: int) -> None:
        callbacks = self._callbacks.get(code)
        if callbacks is not None and callbacks[0] is not None:
            callbacks[0](_values(sys._getframe(1), code))

    def _returned(self, code: types.CodeType, _offset: int, value: Any) -> None:
        callbacks = self._callbacks.get(code)
        if callbacks is not None and callbacks[1] is not None:
            callbacks[1](_values(sys._getframe(1), code), value)


def _values(frame: types.FrameType, code: types.CodeType) -> tuple[Any, ...]:
    # These are frames of torch's functions, gone in a moment; a user's frame is never asked for its locals, because before 3.13
    # that writes a snapshot into the frame which keeps tensors alive and shows in the user's own locals().
    values = frame.f_locals
    return tuple(values.get(name) for name in parameters(code))
