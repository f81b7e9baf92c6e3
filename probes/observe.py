"""Observe a Python function by its code, so that every reference to it is covered: from-imports, bound methods, partials.

One interface, two mechanisms. On 3.12 and later `sys.monitoring` reports the start and the return of a code object and nothing in
the function changes. On 3.10 and 3.11 the function's `__code__` is swapped for a shim of the same signature, source file
and line (so that `inspect` and `torch.jit.script` still see the original), which calls the original code between the callbacks.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable
from typing import Any, Protocol

OnStart = Callable[[tuple[Any, ...]], None]
"""Called with the values of the function's parameters, in the order of its signature."""
OnReturn = Callable[[tuple[Any, ...], Any], None]
"""Called with the same and with the returned value. Not called when the function raises."""

_CALL = "_forgemon_call"


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
    return () if found is None else _parameters(found.__code__)


def _parameters(code: types.CodeType) -> tuple[str, ...]:
    count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4) + bool(code.co_flags & 8)
    return code.co_varnames[:count]


class CodeObserver:
    """3.10 and 3.11: swaps `__code__`."""

    def __init__(self) -> None:
        self._swapped: dict[types.FunctionType, tuple[types.CodeType, types.CodeType]] = {}

    def observe(self, function: Any, on_start: OnStart | None = None, on_return: OnReturn | None = None) -> bool:
        found = unwrap(function)
        if found is None or found in self._swapped:
            return False
        original = found.__code__
        clone = types.FunctionType(original, found.__globals__, found.__name__, found.__defaults__, found.__closure__)
        clone.__kwdefaults__ = found.__kwdefaults__
        shim = _shim_code(original, _caller(clone, on_start, on_return))
        self._swapped[found] = (original, shim)
        found.__code__ = shim
        return True

    def forget(self, function: Any) -> None:
        found = unwrap(function)
        if found in self._swapped:
            original, shim = self._swapped[found]
            if found.__code__ is shim:  # somebody else may have swapped it since: then ours is no longer in the way
                found.__code__ = original
            self._swapped.pop(found, None)

    def suspend(self, function: types.FunctionType) -> None:
        original, shim = self._swapped[function]
        if function.__code__ is shim:
            function.__code__ = original

    def resume(self, function: types.FunctionType) -> None:
        original, shim = self._swapped[function]
        if function.__code__ is original:
            function.__code__ = shim

    def remove(self) -> None:
        for function in list(self._swapped):
            self.forget(function)


def _caller(clone: types.FunctionType, on_start: OnStart | None, on_return: OnReturn | None) -> Callable[..., Any]:
    """What the shim calls with its own parameters: the callbacks around the original. `spread` undoes *args and **kwargs."""
    code = clone.__code__
    positional, keyword_only = code.co_argcount, code.co_kwonlyargcount
    names = code.co_varnames[positional : positional + keyword_only]
    has_args, has_kwargs = bool(code.co_flags & 4), bool(code.co_flags & 8)
    plain = not (keyword_only or has_args or has_kwargs)

    def call(*values: Any) -> Any:
        if on_start is not None:
            on_start(values)
        if plain:
            result = clone(*values)
        else:
            more = values[positional + keyword_only] if has_args else ()
            named = dict(zip(names, values[positional : positional + keyword_only], strict=True))
            if has_kwargs:
                named.update(values[-1])
            result = clone(*values[:positional], *more, **named)
        if on_return is not None:
            on_return(values, result)
        return result

    call._torchdynamo_disable = True  # type: ignore[attr-defined]
    return call


def own_codes() -> list[types.CodeType]:
    """The code of ours that stands around an observed function's."""
    return [constant for constant in _caller.__code__.co_consts if isinstance(constant, types.CodeType)]


def _shim_code(original: types.CodeType, call: Callable[..., Any]) -> types.CodeType:
    """Code with the signature, free variables and source position of `original` that returns `call(*its parameters)`."""
    free = original.co_freevars
    header = f"def _make({', '.join(free)}):\n"
    # A nested function that never runs makes the compiler keep the same free variables.
    keep = f"_never = lambda: ({', '.join(free)},); " if free else ""
    # On one line, so that a traceback shows the first line of the original.
    source = (
        f"{header}    def shim({_signature(original)}): "
        f"{keep}{_CALL} = {_CALL!r}; return {_CALL}({', '.join(_parameters(original))})\n    return shim\n"
    )
    namespace: dict[str, Any] = {}
    exec(compile(source, "<forgemon>", "exec"), namespace)
    code: types.CodeType = namespace["_make"](*[None] * len(free)).__code__
    changes: dict[str, Any] = {
        "co_name": original.co_name,
        "co_filename": original.co_filename,
        "co_firstlineno": original.co_firstlineno,
        "co_consts": tuple(call if constant == _CALL else constant for constant in code.co_consts),
    }
    if sys.version_info >= (3, 11):
        changes["co_qualname"] = original.co_qualname
    return code.replace(**changes)


def _signature(code: types.CodeType) -> str:
    """Parameter list without defaults: those stay on the function object."""
    names, positional = code.co_varnames, code.co_argcount
    parts = list(names[:positional])
    if code.co_posonlyargcount:
        parts.insert(code.co_posonlyargcount, "/")
    after = positional + code.co_kwonlyargcount
    has_args = bool(code.co_flags & 4)
    if has_args:
        parts.append("*" + names[after])
    elif code.co_kwonlyargcount:
        parts.append("*")
    parts += names[positional:after]
    if code.co_flags & 8:
        parts.append("**" + names[after + has_args])
    return ", ".join(parts)


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
    return tuple(values.get(name) for name in _parameters(code))
