"""Who belongs to a training process: DataLoader workers, compile workers and launchers are no loops to attach to."""

from __future__ import annotations

import os
from collections.abc import Sequence

from forgemon.inject import procfs

LAUNCHERS = ("torchrun", "torch.distributed.run", "torch.distributed.launch", "accelerate", "deepspeed")
_RANK_VARIABLES = ("RANK", "LOCAL_RANK")
_WORKER_THREAD_NAME = "pt_data_worker"  # torch since 2.6 calls the main thread of a worker so


def trains(pid: int) -> bool:
    """Whether torch is loaded in the process. False for one that is gone or not ours."""
    try:
        return procfs.has_torch(procfs.mappings(pid))
    except OSError:
        return False


def training_descendants(pid: int) -> list[int]:
    """Processes under `pid` that have torch and are no workers of one another."""
    return [child for child in procfs.descendants(pid) if trains(child) and worker_of(child) is None]


def is_launcher(pid: int, command: Sequence[str]) -> bool:
    """Whether the process only starts the ranks of a run, as torchrun does."""
    words = {os.path.basename(word) for word in command[:8]} | set(command[:8])
    if not words & set(LAUNCHERS):
        return False
    environment = procfs.environment(pid)
    return not any(name in environment for name in _RANK_VARIABLES)


def worker_of(pid: int) -> int | None:
    """The training process that `pid` works for as a DataLoader or compile worker; None when it is none."""
    status = procfs.status(pid)
    command = procfs.command_line(pid)
    if any("_inductor/compile_worker" in word or "torch._inductor.compile_worker" in word for word in command):
        return status.parent
    if not _may_be_worker(status.parent, command):
        return None
    if status.name == _WORKER_THREAD_NAME:
        return status.parent
    return status.parent if _runs_worker_loop(pid) else None


def _may_be_worker(parent: int, command: Sequence[str]) -> bool:
    started_by_multiprocessing = any(
        "multiprocessing.spawn" in word or "multiprocessing.forkserver" in word for word in command
    )
    try:
        return started_by_multiprocessing or (procfs.command_line(parent) == tuple(command) and trains(parent))
    except OSError:
        return False


def _runs_worker_loop(pid: int) -> bool:
    """By its stack: a rank started with torch.multiprocessing looks the same in every other way."""
    from forgemon.stalls import stack_of

    threads, _ = stack_of(pid)
    return any(frame["function"] == "_worker_loop" for thread in threads[:1] for frame in thread["frames"])
