"""What /proc tells about a process: its state, owner, program, mappings, script and open runs. Reads only.

Every function raises FileNotFoundError or ProcessLookupError when the process is gone, PermissionError when it is not ours.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+) \S+ (\d+)\s*(.*)")
_OPEN_EVENTS = re.compile(r"(/.*)/rank-(\d+)/events\.jsonl( \(deleted\))?")
_FLAGS_WITH_VALUE = ("-X", "-W", "--check-hash-based-pycs")


@dataclass(frozen=True)
class Status:
    """Of /proc/PID/status, what matters before a process is touched."""

    name: str
    state: str
    "One letter: R running, S sleeping, D uninterruptible, T stopped, t traced, Z zombie, X dead."
    process: int
    "The process id, also when asked for one of its threads."
    parent: int
    tracer: int
    "0 when nobody traces it."
    uid: int
    gid: int
    groups: frozenset[int]
    inner_pid: int
    "What the process itself calls its id: another number inside a container."


@dataclass(frozen=True)
class Mapping:
    """One line of /proc/PID/maps."""

    start: int
    end: int
    permissions: str
    offset: int
    inode: int
    path: str


@dataclass(frozen=True)
class OpenRun:
    """A run directory that a process is recording to."""

    run: str
    rank: int
    deleted: bool
    "The directory or the file was removed meanwhile."


def status(pid: int) -> Status:
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        fields = dict(line.rstrip("\n").split(":", 1) for line in file if ":" in line)
    return Status(
        name=fields["Name"].strip(),
        state=fields["State"].split()[0],
        process=int(fields["Tgid"]),
        parent=int(fields["PPid"]),
        tracer=int(fields["TracerPid"]),
        uid=int(fields["Uid"].split()[3]),
        gid=int(fields["Gid"].split()[3]),
        groups=frozenset(int(group) for group in fields.get("Groups", "").split()),
        inner_pid=int(fields.get("NSpid", str(pid)).split()[-1]),
    )


def mappings(pid: int) -> tuple[Mapping, ...]:
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:
        matches = [_MAPPING.fullmatch(line.rstrip("\n")) for line in file]
    return tuple(Mapping(int(m[1], 16), int(m[2], 16), m[3], int(m[4], 16), int(m[5]), m[6]) for m in matches if m is not None)


def has_torch(maps: Sequence[Mapping]) -> bool:
    return any(os.path.basename(mapping.path).startswith("libtorch") for mapping in maps)


def command_line(pid: int) -> tuple[str, ...]:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        data = file.read()
    return tuple(part.decode("utf-8", "replace") for part in data.rstrip(b"\0").split(b"\0")) if data else ()


def environment(pid: int) -> dict[str, str]:
    """As it was when the process started."""
    with open(f"/proc/{pid}/environ", "rb") as file:
        entries = file.read().split(b"\0")
    pairs = [entry.decode("utf-8", "replace").partition("=") for entry in entries if b"=" in entry]
    return {name: value for name, _, value in pairs}


def executable(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/exe")


def _arguments(command: Sequence[str]) -> list[str]:
    """A Python command line from its script, `-m` or `-c` on."""
    rest = list(command[1:])
    while rest:
        word = rest[0]
        if word in _FLAGS_WITH_VALUE:
            rest = rest[2:]
        elif word.startswith("-") and not word.startswith("--") and word[-1] in "mc":
            return ["-" + word[-1], *rest[1:]]
        elif word.startswith("-") and word != "-":
            rest = rest[1:]
        else:
            return rest
    return []


def script(command: Sequence[str], directory: str) -> str | None:
    """Absolute path of the script on a Python command line; None for -m, -c and interactive sessions."""
    arguments = _arguments(command)
    if not arguments or arguments[0].startswith("-"):
        return None
    return os.path.normpath(os.path.join(directory, arguments[0]))


def program_name(command: Sequence[str]) -> str:
    """What a person would call the program: its script, or `-m module`, or the command itself."""
    arguments = _arguments(command)
    if arguments[:1] == ["-m"] and len(arguments) > 1:
        return f"-m {arguments[1]}"
    if not arguments or arguments[0].startswith("-"):
        return os.path.basename(command[0]) if command else "?"
    return os.path.basename(arguments[0])


def working_directory(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/cwd")


def open_runs(pid: int) -> tuple[OpenRun, ...]:
    """The run directories whose event file the process holds open: it is watched."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            match = _OPEN_EVENTS.fullmatch(os.readlink(f"/proc/{pid}/fd/{name}"))
        except OSError:
            continue  # closed since the folder was listed
        if match:
            found[match[0]] = OpenRun(match[1], int(match[2]), match[3] is not None)
    return tuple(found.values())


def pids() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def children(pid: int) -> list[int]:
    """Direct children, by looking at the parent of every process there is."""
    return [child for child, parent in _parents() if parent == pid]


def descendants(pid: int) -> list[int]:
    parents = dict(_parents())
    found: list[int] = []
    for candidate in parents:
        above = parents.get(candidate)
        while above is not None and above != pid:
            above = parents.get(above)
        if above == pid:
            found.append(candidate)
    return found


def _parents() -> Iterator[tuple[int, int]]:
    for pid in pids():
        try:
            yield pid, status(pid).parent
        except (FileNotFoundError, ProcessLookupError, KeyError):
            continue  # ended since /proc was listed


def age_s(pid: int) -> float:
    """Seconds since the process started."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        started_ticks = int(file.read().rpartition(")")[2].split()[19])
    with open("/proc/uptime", encoding="ascii") as file:
        uptime_s = float(file.read().split()[0])
    return uptime_s - started_ticks / os.sysconf("SC_CLK_TCK")
