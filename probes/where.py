"""The user's own line: the first frame that belongs neither to torch nor to us nor to an installed package."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable
from typing import NamedTuple, Protocol

CONTEXT_LINES = 2
MAX_SOURCE_BYTES = 4_000_000
MOST_KNOWN, LARGEST_KNOWN_BYTES = 16, 200_000
"""Files whose lines are kept, and how large each may be."""
MOST_FILES = 5000
"""Whose kind is remembered; each cell of a notebook is one."""
MODULE_CALLS = ("_call_impl", "_wrapped_call_impl")
"""Functions of torch that call forward()."""
PACKAGES = ("site-packages", "dist-packages")


class Line(NamedTuple):
    """A place in the user's code."""

    file: str
    line: int
    function: str


class Counts(Protocol):
    """Counts our callbacks: see guard.py."""

    calls: int


class OncePerCall:
    """A line that is walked to once for all who ask for it within one callback of ours."""

    def __init__(self, callbacks: Counts, walk: Callable[[], Line | None]) -> None:
        self._callbacks = callbacks
        self._walk = walk
        self._of_call = -1
        self._line: Line | None = None

    def __call__(self) -> Line | None:
        calls = self._callbacks.calls
        if self._of_call != calls:
            self._line = self._walk()
            self._of_call = calls
        return self._line


class UserLines:
    """Tells user code from library code, remembering the answer for each code object's file."""

    def __init__(self, own_directory: str, torch_directory: str) -> None:
        self._never = (own_directory + os.sep, torch_directory + os.sep, "<frozen ", "<forgemon")
        # Not from sysconfig: the program may be in the middle of importing it.
        known = [p for p in (*sys.path, os.path.dirname(torch_directory)) if type(p) is str]
        installed = {p for p in known if os.path.basename(p) in PACKAGES}
        self._libraries = tuple(p + os.sep for p in {os.path.dirname(os.__file__), *installed})
        self._kinds: dict[str, int] = {}

    def here(self, frame: types.FrameType | None = None) -> Line | None:
        """The user's line that led to this call, or to `frame`; a library's outside torch when there is no other; None from a bare
        thread."""
        frame = frame or sys._getframe(1)
        library: types.FrameType | None = None
        known = self._kinds
        while frame is not None:
            file = frame.f_code.co_filename
            kind = known.get(file)
            if kind is None:
                kind = self.kind(file)
            if kind == 2:
                return line_of(frame)
            if kind == 1 and library is None:
                library = frame
            frame = frame.f_back
        return None if library is None else line_of(library)

    def of_module_call(self) -> Line | None:
        """The line that calls the module whose forward is under way, not one of that forward, which is on the stack too."""
        frame: types.FrameType | None = sys._getframe(1)
        while frame is not None:
            if frame.f_code.co_name in MODULE_CALLS and self.kind(frame.f_code.co_filename) == 0:
                return self.here(frame)
            frame = frame.f_back
        return self.here()

    def frames(self, most: int = 4) -> list[types.FrameType]:
        """Frames of the user's own code that led to this call, innermost first."""
        frame: types.FrameType | None = sys._getframe(1)
        found: list[types.FrameType] = []
        while frame is not None and len(found) < most:
            if self.kind(frame.f_code.co_filename) == 2:
                found.append(frame)
            frame = frame.f_back
        return found

    def kind(self, file: str) -> int:
        """0 for torch and us, 1 for the standard library and installed packages, 2 for the user's own code."""
        kind = self._kinds.get(file)
        if kind is None:
            if file.startswith(self._never):
                kind = 0
            elif file.startswith(self._libraries) or f"{os.sep}site-packages{os.sep}" in file:
                kind = 1
            else:
                kind = 2
            if len(self._kinds) >= MOST_FILES:
                self._kinds.clear()
            self._kinds[file] = kind
        return kind


def line_of(frame: types.FrameType) -> Line:
    code = frame.f_code
    return Line(code.co_filename, frame.f_lineno or code.co_firstlineno, code.co_name)


def describe(line: Line | None) -> dict[str, object] | None:
    """`line` with its source as the file has it now, for an event. Reads the disk: writer thread only."""
    if line is None:
        return None
    file = absolute_path(line.file)
    first, source = _source(file, line.line)
    return {"file": file, "line": line.line, "function": line.function, "source": source, "source_first_line": first}


def absolute_path(file: str) -> str:
    """The file of a code object; a script started by a relative name is looked for where it was started too."""
    if os.path.isabs(file) or file.startswith("<"):
        return file
    for folder in (working_directory(), sys.path[0] if sys.path else "", os.path.dirname(sys.path[0]) if sys.path else ""):
        candidate = os.path.normpath(os.path.join(folder, file))
        if os.path.isfile(candidate):
            return os.path.abspath(candidate)
    return in_working_directory(file)


def in_working_directory(path: str) -> str:
    """The absolute path; a relative one stays as it is where the working directory is no more."""
    return os.path.normpath(os.path.join(working_directory(), path))


def working_directory() -> str:
    """Empty where it is no more: programs are started in folders that are cleared while they run."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def _source(file: str, line: int) -> tuple[int, list[str]]:
    lines = _lines(file)
    first = max(1, line - CONTEXT_LINES)
    return first, [text.rstrip("\n") for text in lines[first - 1 : line + CONTEXT_LINES]]


_KNOWN: dict[str, tuple[tuple[int, int], list[str]]] = {}
"""Lines of the files read last, and when each was written how large: a loop that validates often is not to wait for this thread."""


def _lines(file: str) -> list[str]:
    try:
        found = os.stat(file)
        if found.st_size > MAX_SOURCE_BYTES:
            return []
        version = found.st_mtime_ns, found.st_size
        known = _KNOWN.get(file)
        if known is not None and known[0] == version:
            return known[1]
        with open(file, encoding="utf-8", errors="replace") as opened:
            lines = opened.readlines()
        if found.st_size <= LARGEST_KNOWN_BYTES:
            if len(_KNOWN) >= MOST_KNOWN:
                _KNOWN.clear()
            _KNOWN[file] = version, lines
        return lines
    except OSError:
        # A notebook cell has no file; its lines stand in linecache, which is only looked at, never filled.
        linecache = sys.modules.get("linecache")
        entry = linecache.cache.get(file) if linecache is not None else None
        return list(entry[2]) if entry is not None and len(entry) > 2 else []
