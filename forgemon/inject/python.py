"""Finds the interpreter inside a process: which file it is, its version, and the addresses of the functions we call."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from forgemon.inject import procfs
from forgemon.inject.elf import Elf, NotElf, read_elf
from forgemon.inject.procfs import Mapping

REQUIRED = ("Py_AddPendingCall", "Py_IsInitialized", "PyRun_SimpleString")
_SINCE_3_10 = "Py_NewRef"
_WANTED = (*REQUIRED, _SINCE_3_10)
_LIBPYTHON = re.compile(r"/libpython\d[^/]*\.so[^/]*")
_VERSION = re.compile(r"(?:/lib/|/libpython|/bin/)(?:python|pypy)?(\d\.\d+)")


@dataclass(frozen=True)
class PythonProcess:
    """A process with a CPython of 3.10 or later in it."""

    pid: int
    machine: int
    "Its processor: e_machine of the file below."
    library: str
    "The file that holds the interpreter: libpython or the executable, as the process calls it."
    addresses: dict[str, int]
    "In its memory, of the functions in REQUIRED."


@dataclass(frozen=True)
class OldPython:
    """A process with a CPython before 3.10 in it."""

    version: str


def find_python(pid: int, maps: Sequence[Mapping]) -> PythonProcess | OldPython | None:
    """The interpreter of a process; None where there is no CPython that shows its symbols. OSError as /proc raises it."""
    for path in _candidates(pid, maps):
        elf = _read(pid, path, maps)
        if elf is None or not set(REQUIRED) <= elf.symbols.keys():
            continue
        if _SINCE_3_10 not in elf.symbols:
            return OldPython(_version(maps))
        base = min(mapping.start for mapping in maps if mapping.path == path)
        return PythonProcess(pid, elf.machine, path, {name: base + elf.symbols[name] for name in REQUIRED})
    return None


def _candidates(pid: int, maps: Sequence[Mapping]) -> Iterator[str]:
    yield from dict.fromkeys(mapping.path for mapping in maps if _LIBPYTHON.search(mapping.path))
    yield procfs.executable(pid)


def _read(pid: int, path: str, maps: Sequence[Mapping]) -> Elf | None:
    for name in _names_of(pid, path, maps):
        try:
            return read_elf(name, _WANTED)
        except NotElf:
            return None
        except FileNotFoundError:
            continue
    return None


def _names_of(pid: int, path: str, maps: Sequence[Mapping]) -> Iterator[str]:
    """Where the mapped file can be opened: a package manager may have put another one in its place since it was loaded."""
    if path == procfs.executable(pid):
        yield f"/proc/{pid}/exe"
        return
    first = min((mapping for mapping in maps if mapping.path == path), key=lambda mapping: mapping.start)
    seen_by_target = f"/proc/{pid}/root{path}"
    try:
        if os.stat(seen_by_target).st_ino == first.inode:
            yield seen_by_target
    except OSError:
        pass  # not there any more; the kernel still has it
    yield f"/proc/{pid}/map_files/{first.start:x}-{first.end:x}"


def _version(maps: Sequence[Mapping]) -> str:
    versions = [match[1] for mapping in maps if (match := _VERSION.search(mapping.path))]
    return versions[0] if versions else "3.9 or older"
