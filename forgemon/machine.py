"""One row of machine.npy: memory and CPU of the watched process tree and of the host, once a second, cheaply."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Collection, Iterable

import psutil

TREE_SHARE = 0.004
"Share of one CPU that looking for new child processes may take."


class MachineSampler:
    """Readings of the watched processes with all their descendants, DataLoader workers for example."""

    def __init__(self) -> None:
        self.tree: dict[int, psutil.Process] = {}
        "Every process of the last reading, by pid."
        self._look_again = 0.0
        self._roots: frozenset[int] = frozenset()
        self._cpu_s: dict[int, float] = {}
        self._read_at = math.nan
        psutil.cpu_percent(interval=None)  # the first call has nothing to compare with

    def row(self, roots: Collection[int]) -> list[float]:
        """The columns of `probes.record.machine_columns(0)`.

        Resident memory is summed as `top` shows it: pages that forked workers share count once for each of them. Telling them
        apart (PSS) would make the kernel lock the address space of the training process.
        """
        self._refresh_tree(frozenset(roots))
        memory, busy = self._read_tree()
        host = psutil.virtual_memory()
        return [
            time.time(),
            memory,
            busy,
            float(host.total - host.available),
            float(host.total),
            psutil.cpu_percent(interval=None),
        ]

    def _refresh_tree(self, roots: frozenset[int]) -> None:
        now = time.monotonic()
        if roots == self._roots and now < self._look_again:
            return
        self._roots = roots
        found = descendants(roots)
        self.tree = {pid: known for pid in found if (known := self.tree.get(pid) or _process(pid)) is not None}
        cost = time.monotonic() - now
        self._look_again = now + max(2.0, cost / TREE_SHARE)

    def _read_tree(self) -> tuple[float, float]:
        """Bytes and percent of one CPU over the whole tree; NaN where nothing could be read, and for the first CPU reading."""
        memory, cpu_s = 0.0, {}
        for pid, process in list(self.tree.items()):
            try:
                memory += process.memory_info().rss
                times = process.cpu_times()
            except psutil.Error:
                del self.tree[pid]
                continue
            cpu_s[pid] = times.user + times.system
        now = time.monotonic()
        spent = sum(seconds - self._cpu_s[pid] for pid, seconds in cpu_s.items() if pid in self._cpu_s)
        busy = max(0.0, 100 * spent / (now - self._read_at)) if self._cpu_s else math.nan
        self._cpu_s, self._read_at = cpu_s, now
        return (memory, busy) if self.tree else (math.nan, math.nan)


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None


def descendants(roots: Iterable[int]) -> set[int]:
    """The pids of `roots` and of all that they started, without this process."""
    found: set[int] = set()
    waiting = [pid for pid in roots if pid != os.getpid()]
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += [child for child in _children(pid) if child != os.getpid()]
    return found


def _children(pid: int) -> list[int]:
    """Asks the process's own threads: going through all processes of a large host costs a hundred times more."""
    children: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                children += [int(child) for child in file.read().split()]
    except FileNotFoundError:
        if os.path.exists(f"/proc/{pid}/task/{pid}") and not os.path.exists(f"/proc/{pid}/task/{pid}/children"):
            return _children_by_search(pid)  # a kernel without CONFIG_PROC_CHILDREN
    except OSError:
        pass
    return children


def _children_by_search(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []
