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
        self._seen: dict[tuple[int, int], tuple[types.CodeType, Site]] = {}
        "Calls by the identity of their code and their instruction: to find the line of one takes long."

    def search_anew(self) -> None:
        """Another group of passes: a variable may have come to hold the name of a split."""
        self._names.clear()
        self._seen.clear()

    def here(self, with_splits: bool) -> Driver:
        frame: types.FrameType | None = sys._getframe(1)
        sites: list[Site] = []
        splits: list[tuple[Variable, str]] = []
        kind = self._lines.kind
        while frame is not None and len(sites) < MOST_SITES:
            if kind(frame.f_code.co_filename) == 2:
                site = self._site(frame)
                sites.append(site)
                names = self._names.get(site.scope) if with_splits else ()
                if names is None:
                    names = self._search(site.scope, frame)
                if names:
                    found = variables(frame, names)
                    splits += [((site.scope, name), value) for name, value in found.items() if _names_a_split(value)]
            frame = frame.f_back
        return Driver(tuple(sites), tuple(splits))

    def _site(self, frame: types.FrameType) -> Site:
        code, instruction = frame.f_code, frame.f_lasti
        seen = self._seen.get((id(code), instruction))
        if seen is not None and seen[0] is code:
            return seen[1]
        scope = code.co_filename, code.co_name, code.co_firstlineno
        site = Site(scope, instruction, frame.f_lineno or code.co_firstlineno)
        if len(self._seen) < MOST_SCOPES:
            self._seen[id(code), instruction] = code, site
        return site

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
