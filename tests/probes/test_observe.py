"""A function is observed through every reference to it, and is left exactly as it was found."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

from probes.observe import CodeObserver, new_observer, parameter_names, unwrap

swaps_code = pytest.mark.skipif(sys.version_info >= (3, 12), reason="there functions are observed as they are")


def plain(a: int, b: int = 2) -> int:
    return a + b


def every_kind(a: int, /, b: int, *more: int, c: int = 3, **named: int) -> tuple[Any, ...]:
    return a, b, more, c, named


def keyword_only(a: int, *, b: int = 5, c: int = 6) -> tuple[int, ...]:
    return a, b, c


def fails(a: int) -> None:
    raise ValueError(f"own error {a}")


def generator() -> Any:
    yield 1


def decorated_by(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@decorated_by
def decorated(a: int) -> int:
    return a * 2


class Base:
    def method(self, a: int) -> int:
        return a


class Derived(Base):
    def method(self, a: int) -> int:
        return super().method(a) + 1  # has the free variable __class__


def _defined() -> types.FunctionType:
    """As by a cell of a notebook: each run of it makes a function anew, with a code that is equal to the last."""
    names: dict[str, Any] = {}
    exec("def cell(a):\n    return a + 1\n", names)
    found: types.FunctionType = names["cell"]
    return found


CALLS: list[tuple[Any, Callable[[], Any], tuple[Any, ...]]] = [
    (plain, lambda: plain(1), (1, 2)),
    (plain, lambda: plain(b=4, a=3), (3, 4)),
    (plain, functools.partial(plain, 7, 8), (7, 8)),
    (every_kind, lambda: every_kind(1, 2, 3, 4, c=5, d=6), (1, 2, 5, (3, 4), {"d": 6})),
    (keyword_only, lambda: keyword_only(1, c=9), (1, 5, 9)),
    (decorated, lambda: decorated(4), (4,)),
]


@pytest.mark.parametrize(("function", "call", "values"), CALLS)
def test_arguments_and_result(function: Any, call: Callable[[], Any], values: tuple[Any, ...]) -> None:
    expected = call()
    seen: list[Any] = []
    observer = new_observer()
    assert observer.observe(function, lambda v: seen.append(v), lambda v, result: seen.append((v, result)))
    try:
        assert call() == expected
    finally:
        observer.remove()
    assert seen == [values, (values, expected)]
    assert call() == expected
    assert len(seen) == 2


def test_references_made_before_are_covered() -> None:
    seen: list[Any] = []
    bound = Derived().method
    observer = new_observer()
    observer.observe(Derived.method, None, lambda v, result: seen.append(result))
    try:
        assert bound(1) == 2
    finally:
        observer.remove()
    assert seen == [2]


@swaps_code
def test_code_is_the_same_object_again() -> None:
    functions = [plain, every_kind, keyword_only, Derived.method, unwrap(decorated)]
    before = [f.__code__ for f in functions if f is not None]
    observer = CodeObserver()
    for function in functions:
        assert observer.observe(function, lambda v: None)
    observer.remove()
    assert all(f.__code__ is code for f, code in zip(functions, before, strict=True) if f is not None)


@swaps_code
def test_code_with_calls_in_it_keeps_signature_source_and_name() -> None:
    signature, source = inspect.signature(every_kind), inspect.getsource(every_kind)
    names = parameter_names(every_kind)
    observer = CodeObserver()
    observer.observe(every_kind, lambda v: None)
    try:
        assert inspect.signature(every_kind) == signature
        assert inspect.getsource(every_kind) == source
        assert parameter_names(every_kind) == names == ("a", "b", "c", "more", "named")
        assert every_kind.__code__.co_name == "every_kind"
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'b'"):
            every_kind(1)  # type: ignore[call-arg]
    finally:
        observer.remove()


def test_errors_pass_and_no_return_is_reported() -> None:
    seen: list[Any] = []
    observer = new_observer()
    observer.observe(fails, lambda v: seen.append(v), lambda v, result: seen.append("returned"))
    try:
        with pytest.raises(ValueError, match="own error 3"):
            fails(3)
    finally:
        observer.remove()
    assert seen == [(3,)]


@swaps_code
def test_a_code_swapped_by_somebody_else_since_is_left_alone() -> None:
    def local(a: int) -> int:
        return a

    observer = CodeObserver()
    observer.observe(local, lambda v: None)
    theirs = (lambda a: a + 100).__code__
    local.__code__ = theirs
    observer.remove()
    assert local.__code__ is theirs


@pytest.mark.parametrize("function", [len, generator, print])
def test_refuses_what_it_cannot_observe(function: Any) -> None:
    observer = new_observer()
    try:
        assert observer.observe(function, lambda v: None) is False
    finally:
        observer.remove()


def test_a_suspended_function_is_as_it_was_found_and_is_observed_again_when_resumed() -> None:
    code, calls = plain.__code__, []
    observer = new_observer()
    assert observer.observe(plain, lambda values: calls.append(values))
    found = unwrap(plain)
    assert found is not None
    observer.suspend(found)
    assert plain.__code__ is code and plain(1) == 3 and calls == []
    observer.resume(found)
    assert plain(1) == 3 and calls == [(1, 2)]
    observer.suspend(found)
    observer.remove()
    assert plain.__code__ is code and plain(5) == 7 and calls == [(1, 2)]


def test_a_call_under_way_returns_although_its_function_was_suspended_meanwhile() -> None:
    ends = []
    observer = new_observer()

    def outer(inner: Callable[[], None]) -> int:
        inner()
        return 4

    found = unwrap(outer)
    assert found is not None and observer.observe(outer, None, lambda values, result: ends.append(result))
    assert outer(lambda: observer.suspend(found)) == 4
    assert outer(lambda: None) == 4
    observer.remove()
    assert len(ends) <= 1


def test_functions_of_equal_code_are_observed_each_by_itself() -> None:
    seen: list[Any] = []
    first, second = _defined(), _defined()
    observer = new_observer()
    assert observer.observe(first, lambda values: seen.append(("first", *values)))
    assert observer.observe(second, lambda values: seen.append(("second", *values)))
    try:
        assert (first(1), second(2)) == (2, 3)
        observer.forget(first)
        assert (first(3), second(4)) == (4, 5)
    finally:
        observer.remove()
    assert seen == [("first", 1), ("second", 2), ("second", 4)]


def test_a_function_may_be_given_another_code_while_it_is_observed() -> None:
    seen: list[Any] = []
    function, other = _defined(), _defined()
    observer = new_observer()
    assert observer.observe(function, lambda values: seen.append(values))
    function.__code__ = (lambda a: a + 100).__code__
    observer.suspend(function)
    observer.resume(function)
    assert function(1) == 101
    observer.forget(function)
    assert observer.observe(other, lambda values: seen.append(values))
    observer.remove()
    assert function(1) == 101 and other(1) == 2 and seen == []
