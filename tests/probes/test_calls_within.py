"""Functions with two calls put into their code do what they did, and say when they begin and return."""

from __future__ import annotations

import dis
import inspect
import operator
import pickle
import sys
import traceback
import types
import typing
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

if sys.version_info >= (3, 12):
    pytest.skip("there functions are observed as they are", allow_module_level=True)

from probes.bytecode import read, written
from probes.calls_within import with_calls


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _as_listed(code: types.CodeType) -> list[tuple[Any, ...]]:
    """Each instruction, where it jumps to by number, its place in the source and which handlers stand around it."""
    listed = [i for i in dis.get_instructions(code) if i.opcode != dis.EXTENDED_ARG]
    numbers, number = {}, 0
    for instruction in dis.get_instructions(code):
        numbers[instruction.offset] = number
        number += instruction.opcode != dis.EXTENDED_ARG
    lines = {offset: line for start, end, line in code.co_lines() for offset in range(start, end, 2)}
    jumps = {*dis.hasjrel, *dis.hasjabs}
    entries: list[Any] = dis._parse_exception_table(code) if sys.version_info >= (3, 11) else []  # type: ignore[attr-defined]
    return [
        (
            i.opname,
            numbers[i.argval] if i.opcode in jumps else i.arg,
            getattr(i, "positions", None),
            lines.get(i.offset),
            [(numbers[e.target], e.depth, e.lasti) for e in entries if e.start <= i.offset < e.end],
        )
        for i in listed
    ]


@pytest.mark.parametrize("module", [typing, inspect, traceback, torch.nn.functional, torch.serialization])
def test_code_that_is_read_and_written_is_the_same(module: types.ModuleType) -> None:
    path = Path(str(module.__file__))
    codes = list(_codes(compile(path.read_text(), path.name, "exec")))
    assert len(codes) > 5
    for code in codes:
        again = written(code, *read(code))
        assert _as_listed(again) == _as_listed(code)


def _loops_at_once(n: int) -> int:
    while n > 3:
        n -= 2
    return n


def _leaves_early(n: int) -> str:
    try:
        for i in range(n):
            try:
                if i == 2:
                    return "two"
                if n == 5:
                    raise ValueError(n)
            finally:
                n += 1
            if n > 50:
                break
    except ValueError as error:
        return f"caught {error}"
    with warnings.catch_warnings():
        return "end"


def _closes_over(a: int, *rest: int, b: int = 3, **named: int) -> int:
    def inner() -> int:
        return a + len(rest) + b + len(named)

    a += 1
    return inner()


def _lets_go(a: Any, b: Any) -> Any:
    def inner() -> Any:
        return b  # noqa: F821

    found = inner()
    del a, b
    return found


LONG_SOURCE = (
    "def long(n):\n    total = 0\n    while n:\n        n -= 1\n"
    + "".join(f"        if n == {i}: total += {i + 1000} * n\n" for i in range(400))
    + "        if total < 0: continue\n    return total\n"
)
_long: dict[str, Any] = {}
exec(LONG_SOURCE, _long)

CALLS: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
    (_loops_at_once, (10,), {}),
    (_leaves_early, (1,), {}),
    (_leaves_early, (4,), {}),
    (_leaves_early, (5,), {}),
    (_closes_over, (1, 2, 3), {"b": 4, "c": 5}),
    (_lets_go, (1, 2), {}),
    (_long["long"], (450,), {}),
    (torch.nn.functional.mse_loss, (torch.ones(3), torch.zeros(3)), {"reduction": "sum"}),
]


def _observed(function: Callable[..., Any], on_start: Any, on_return: Any) -> types.FunctionType:
    assert isinstance(function, types.FunctionType)
    code = with_calls(function.__code__, on_start, on_return)
    made = types.FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
    made.__kwdefaults__ = function.__kwdefaults__
    return made


@pytest.mark.parametrize(("function", "values", "named"), CALLS)
def test_each_call_is_seen_and_the_result_is_the_same(function: Any, values: tuple[Any, ...], named: dict[str, Any]) -> None:
    starts: list[Any] = []
    ends: list[Any] = []
    expected = function(*values, **named)
    observed = _observed(function, starts.append, lambda values, result: ends.append(result))
    for _ in range(60):  # until the interpreter has specialised what it can
        assert observed(*values, **named) == expected
    assert ends == [expected] * 60
    assert [seen[0] for seen in starts] == [values[0]] * 60


def test_values_are_those_that_stand_when_each_call_is_made() -> None:
    starts: list[Any] = []
    ends: list[Any] = []
    _observed(_closes_over, starts.append, lambda values, result: ends.append((values, result)))(1, 2, b=4, c=5)
    assert starts == [(1, 4, (2,), {"c": 5})]
    assert ends == [((2, 4, (2,), {"c": 5}), 8)]
    _observed(_lets_go, None, lambda values, result: ends.append((values, result)))(1, 2)
    assert ends[1] == ((None, None), 2)


def _lines(function: Callable[..., Any], values: tuple[Any, ...], named: dict[str, Any]) -> list[tuple[str, int]]:
    """What a debugger sees of a call in the file of the function."""
    seen: list[tuple[str, int]] = []
    file = function.__code__.co_filename

    def trace(frame: types.FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename == file:
            seen.append((event, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function(*values, **named)
    finally:
        sys.settrace(before)
    return seen


@pytest.mark.parametrize(("function", "values", "named"), CALLS)
def test_who_traces_lines_sees_no_others(function: Any, values: tuple[Any, ...], named: dict[str, Any]) -> None:
    expected = _lines(function, values, named)
    assert len(expected) > 2
    assert _lines(_observed(function, id, operator.is_), values, named) == expected  # both of C, without lines of their own


def test_it_recurses_as_deep_as_it_did() -> None:
    def depth(n: int) -> int:
        try:
            return own["depth"](n + 1)  # type: ignore[no-any-return]
        except RecursionError:
            return n

    own: dict[str, Any] = {"depth": depth}
    expected = depth(0)
    own["depth"] = _observed(depth, id, operator.is_)
    assert expected - 3 <= own["depth"](0) <= expected  # the deepest has to call, too


def _warns() -> None:
    warnings.warn("as it is", stacklevel=2)
    raise KeyError("own")


def test_warnings_and_tracebacks_have_no_frames_of_ours() -> None:
    def place(called: Callable[[], None]) -> tuple[str, int, list[tuple[str, int]]]:
        with warnings.catch_warnings(record=True) as caught, pytest.raises(KeyError) as raised:
            warnings.simplefilter("always")
            called()
        frames = [(frame.name, frame.lineno or 0) for frame in traceback.extract_tb(raised.tb)]
        return caught[0].filename, caught[0].lineno, frames

    assert place(_observed(_warns, lambda values: None, None)) == place(_warns)


def test_what_the_function_lets_go_of_is_gone() -> None:
    class Held:
        pass

    def lets_go(held: Held) -> bool:
        there = weakref.ref(held)
        del held
        return there() is None

    observed = _observed(lets_go, lambda values: None, lambda values, result: None)
    is_gone = [lets_go(Held()), observed(Held())]
    # Before 3.11 whoever calls holds what it gives until the call is over.
    assert is_gone == [sys.version_info >= (3, 11)] * 2


def test_code_that_is_sent_to_another_process_does_without_us() -> None:
    cloudpickle = pytest.importorskip("cloudpickle")
    seen: list[Any] = []
    observed = _observed(lambda a, b: a * b, seen.append, lambda values, result: seen.append(result))
    assert pickle.loads(cloudpickle.dumps(observed))(6, 7) == 42
    assert seen == []
