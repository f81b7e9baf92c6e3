"""Numbers in the variables of the loop whose names say of which data they are: results of passes that are to be told apart."""

from __future__ import annotations

import math
import types
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from .directions import side
from .frames import variables
from .scalars import host_number

MOST_IN_ONE = 64
"""Of the entries of one dict."""
SAME = 1e-5
"""Relative difference of two means of the same values, each taken in its own order and precision."""


class KeptResult(NamedTuple):
    name: str
    "The variable's, or the key in a dict."
    number: float
    in_list: bool = False
    "Whether it is the newest of a list: of results, or of the batches of one."


def kept_results(frames: Iterable[types.FrameType]) -> list[KeptResult]:
    """In the order of `frames`. Nothing of the program's is kept but text and numbers."""
    return [found for frame in frames for name, value in variables(frame).items() for found in _numbers(name, value)]


def _numbers(name: str, value: Any) -> Iterator[KeptResult]:
    if type(value) is dict:
        for key, inner in list(value.items())[:MOST_IN_ONE]:
            if type(key) is str:
                yield from _number(key, inner)
    else:
        yield from _number(name, value)


def _number(name: str, value: Any) -> Iterator[KeptResult]:
    if side(name) is None:
        return
    in_list = type(value) is list and bool(value)
    number = host_number(value[-1] if in_list else value)
    if number is not None and math.isfinite(number):
        yield KeptResult(name, number, in_list)


def name_of_result(value: float, kept: Iterable[KeptResult]) -> str | None:
    """The first name under which the value is kept; None where there is none, or where names contradict each other."""
    names = [name for name, number, _ in kept if math.isclose(number, value, rel_tol=SAME)]
    return names[0] if names and len({side(name) for name in names}) == 1 else None
