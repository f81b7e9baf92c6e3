"""Observe a Python function by its code, so that every reference to it is covered: from-imports, bound methods, partials.

One interface, two mechanisms. On 3.12 and later `sys.monitoring` reports the start and the return of a code object and nothing in
the function changes. On 3.10 and 3.11 the function's `__code__` is swapped for the same with the two calls in it.
"""

from __future__ import annotations

import ctypes
import inspect
import os
import sys
import types
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch

from .calls_within import parameters, with_calls
from .frames import variables

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


TOOL_IDS = (5, 4, 3)
"""Of sys.monitoring, in the order in which one is taken for ours. Who asks for an id that is taken gets an error: 0 to 2 are those of
debuggers, coverage and profilers (cProfile takes its own), which may come after us, and a program that chooses one by itself takes 3 or
4, which nothing is named after. 5 is meant for optimizers of the interpreter."""


NAME = "forgemon"


SNAPSHOTS = sys.version_info < (3, 13)
"""Whether `f_locals` writes a snapshot into the frame, which keeps tensors alive and shows in a `locals()` that the program has kept.
Frames of torch's are asked for it all the same, for that is faster: they hold what they are given to their end, and keep no `locals()`."""
NO_ROOM = (RecursionError, ctypes.ArgumentError)
"""The program has called itself so often that there is no room for us. ctypes says so in its own way."""
_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep


class _Observed(NamedTuple):
    """One code object, and what is called of ours when it starts and returns."""

    code: types.CodeType
    names: tuple[str, ...]
    "Of its parameters."
    in_place: bool
    "Whether they are read without `f_locals`."
    on_start: OnStart | None
    on_return: OnReturn | None
    events: int


class MonitoringObserver:
    """3.12 and later: local events of sys.monitoring. Raises RuntimeError when all tool ids are taken.

    Codes are known by their identity: two that are equal, like those of a cell of a notebook that was run twice, are two functions', and
    to compare or hash one takes as long as it is.
    """

    def __init__(self) -> None:
        self._monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
        self._of_code: dict[int, _Observed] = {}
        self._of_function: dict[types.FunctionType, _Observed] = {}
        "A function may be given another code while it is observed."
        free = [i for i in TOOL_IDS if self._monitoring.get_tool(i) is None]
        if not free:
            holders = ", ".join(str(self._monitoring.get_tool(i)) for i in TOOL_IDS)
            raise RuntimeError(
                f"the tool ids 5, 4 and 3 of sys.monitoring are taken ({holders}): end one of them, then attach again"
            )
        self._tool = free[0]
        events = self._monitoring.events
        self._monitoring.use_tool_id(self._tool, NAME)
        self._monitoring.register_callback(self._tool, events.PY_START, self._started)
        self._monitoring.register_callback(self._tool, events.PY_RETURN, self._returned)

    def observe(self, function: Any, on_start: OnStart | None = None, on_return: OnReturn | None = None) -> bool:
        found = unwrap(function)
        if found is None or found in self._of_function or id(found.__code__) in self._of_code:
            return False
        events = self._monitoring.events
        wanted = (events.PY_START if on_start else 0) | (events.PY_RETURN if on_return else 0)
        code = found.__code__
        in_place = SNAPSHOTS and not code.co_filename.startswith(_TORCH)
        observed = _Observed(code, parameters(code), in_place, on_start, on_return, wanted)
        self._of_function[found] = self._of_code[id(observed.code)] = observed
        self._set(observed.code, wanted)
        return True

    def forget(self, function: Any) -> None:
        found = unwrap(function)
        if found in self._of_function:
            observed = self._of_function[found]
            self._set(observed.code, 0)
            self._of_code.pop(id(observed.code), None)
            self._of_function.pop(found, None)

    def suspend(self, function: types.FunctionType) -> None:
        self._set(self._of_function[function].code, 0)

    def resume(self, function: types.FunctionType) -> None:
        observed = self._of_function[function]
        self._set(observed.code, observed.events)

    def remove(self) -> None:
        if self._of_function and self._monitoring.get_tool(self._tool) is None:
            self._monitoring.use_tool_id(self._tool, NAME)  # the program has freed it, which leaves our events set
        if self._monitoring.get_tool(self._tool) != NAME:
            return
        for function in list(self._of_function):
            self.forget(function)
        events = self._monitoring.events
        for event in (events.PY_START, events.PY_RETURN):
            self._monitoring.register_callback(self._tool, event, None)
        self._monitoring.free_tool_id(self._tool)

    def _set(self, code: types.CodeType, events: int) -> None:
        self._monitoring.set_local_events(self._tool, code, events)

    def _started(self, code: types.CodeType, _offset: int) -> None:
        try:
            observed = self._of_code.get(id(code))
            if observed is not None and observed.on_start is not None:
                observed.on_start(_values(sys._getframe(1), observed))
        except NO_ROOM:
            return

    def _returned(self, code: types.CodeType, _offset: int, value: Any) -> None:
        try:
            observed = self._of_code.get(id(code))
            if observed is not None and observed.on_return is not None:
                observed.on_return(_values(sys._getframe(1), observed), value)
        except NO_ROOM:
            return


def _values(frame: types.FrameType, observed: _Observed) -> tuple[Any, ...]:
    values = variables(frame, observed.names) if observed.in_place else frame.f_locals
    return tuple([values.get(name) for name in observed.names])
