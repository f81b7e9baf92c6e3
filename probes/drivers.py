"""What drives an evaluation: the calls in the user's own code that led to it, and the variables that name the split it reads."""

from __future__ import annotations

import sys
import types
from typing import NamedTuple

from .directions import is_split
from .frames import variables
from .where import Line, UserLines

MOST_SITES = 16
MOST_SCOPES = 256
MOST_NAMES = 4
"""Variables of one function that may name a split."""
LONGEST_SPLIT = 32

Scope = tuple[str, str, int]
"""File, function and first line of it."""
Variable = tuple[Scope, str]


class Site(NamedTuple):
    """A call in the user's code: two on one line differ by their instruction."""

    scope: Scope
    instruction: int
    line: int

    @property
    def place(self) -> Line:
        return Line(self.scope[0], self.line, self.scope[1])


class Driver(NamedTuple):
    """What led to one call."""

    sites: tuple[Site, ...] = ()
    "Innermost first."
    splits: tuple[tuple[Variable, str], ...] = ()
    "Variables there that hold the name of a split, and that name."

    @property
    def line(self) -> Line | None:
        """The innermost."""
        return self.sites[0].place if self.sites else None


class Drivers:
    """Finds the driver of the call under way. Variables are searched once for each function and group of passes, then read by name."""

    def __init__(self, lines: UserLines) -> None:
        self._lines = lines
        self._names: dict[Scope, tuple[str, ...]] = {}

    def search_anew(self) -> None:
        """A variable may have come to hold the name of a split."""
        self._names.clear()

    def here(self) -> Driver:
        frame: types.FrameType | None = sys._getframe(1)
        sites: list[Site] = []
        splits: list[tuple[Variable, str]] = []
        while frame is not None and len(sites) < MOST_SITES:
            code = frame.f_code
            if self._lines.kind(code.co_filename) == 2:
                scope = code.co_filename, code.co_name, code.co_firstlineno
                sites.append(Site(scope, frame.f_lasti, frame.f_lineno or code.co_firstlineno))
                names = self._names.get(scope)
                if names is None:
                    names = self._search(scope, frame)
                if names:
                    found = variables(frame, names)
                    splits += [((scope, name), value) for name, value in found.items() if _names_a_split(value)]
            frame = frame.f_back
        return Driver(tuple(sites), tuple(splits))

    def _search(self, scope: Scope, frame: types.FrameType) -> tuple[str, ...]:
        if len(self._names) >= MOST_SCOPES:
            return ()
        found = tuple(name for name, value in variables(frame).items() if _names_a_split(value))[:MOST_NAMES]
        self._names[scope] = found
        return found


def _names_a_split(value: object) -> bool:
    return type(value) is str and len(value) <= LONGEST_SPLIT and is_split(value)


def same_call(one: Driver | None, other: Driver | None) -> bool:
    """Whether the same calls in the user's code led to both; not where that is known of one alone."""
    return one is other or (one is not None and other is not None and one.sites == other.sites)


def same_driver(one: Driver | None, other: Driver | None) -> bool:
    """Whether the same calls led to both, with the same names of splits at hand, as far as that is known."""
    return one is None or other is None or one == other


def parting(sites: tuple[Site, ...], others: list[tuple[Site, ...]]) -> Site | None:
    """The outermost call of `sites` that is not one of all the others too: the line that tells them apart. None where there is none."""
    for depth in range(1, len(sites) + 1):
        site = sites[-depth]
        if any(len(other) < depth or other[-depth] != site for other in others):
            return site
    return sites[0] if sites else None
