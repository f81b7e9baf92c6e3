"""Put before a script: how much of ours is alive, container by container."""

import collections
import gc
import os
import types
import weakref
from typing import Any

CONTAINERS = (dict, list, tuple, set, frozenset, collections.deque, weakref.WeakKeyDictionary)


def _followed(value: Any) -> bool:
    kind = type(value)
    if kind in CONTAINERS or kind in (types.CellType, types.MethodType, collections.OrderedDict, collections.defaultdict):
        return True
    ours = value.__module__ if kind is types.FunctionType else kind.__module__
    return str(ours).startswith("_forgemon_probes")


def containers(session: Any) -> dict[str, int]:
    """Items of every container reached from `session` through containers and objects of ours, added up by how it is reached."""
    found: dict[str, int] = collections.defaultdict(int)
    seen = {id(session)}
    todo: list[tuple[str, Any]] = [("session", session)]
    while todo:
        path, value = todo.pop()
        if type(value) in CONTAINERS and not path.endswith("globals"):
            found[path] += len(value)
        for name, inner in _inside(value):
            if id(inner) not in seen and _followed(inner):
                seen.add(id(inner))
                todo.append((f"{path}{name}", inner))
    return dict(found)


def _inside(value: Any) -> list[tuple[str, Any]]:
    kind = type(value)
    if kind is types.FunctionType:
        return [("()", cell) for cell in value.__closure__ or ()]
    if kind is types.MethodType:
        return [("", value.__self__), ("", value.__func__)]
    if kind is types.CellType:
        return [("", inner) for inner in gc.get_referents(value)]
    if kind is weakref.WeakKeyDictionary:
        return [("[]", inner) for inner in value.values()]
    if issubclass(kind, dict):
        return [("[]", inner) for pair in value.items() for inner in pair]
    if kind in CONTAINERS:
        return [("[]", inner) for inner in value]
    inside = [(f".{name}", inner) for name, inner in vars(value).items()] if hasattr(value, "__dict__") else []
    slots = [name for one in kind.__mro__ for name in getattr(one, "__slots__", ()) if not name.startswith("__")]
    return inside + [(f".{name}", getattr(value, name)) for name in slots if hasattr(value, name)]


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def alive() -> dict[str, int]:
    """Objects that the collector follows, by their type."""
    gc.collect()
    return dict(collections.Counter(f"{type(found).__module__}.{type(found).__name__}" for found in gc.get_objects()))


def grown(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """What has more items than before, and how many more."""
    more = {name: count - before.get(name, 0) for name, count in after.items() if count > before.get(name, 0)}
    return dict(sorted(more.items(), key=lambda entry: -entry[1]))
