"""Whether /dev/shm, in which DataLoader workers hand over their batches, holds the batches that wait there."""

from __future__ import annotations

import os
from typing import Any

import torch.multiprocessing

from .loader_description import attributes
from .row_hashes import batch_bytes

FOLDER = "/dev/shm"
MARGIN = 1.5


def free_bytes() -> tuple[int, int] | None:
    """(Free, total) of this process's own mount; None where there is none."""
    try:
        found = os.statvfs(FOLDER)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


def shortage(iterator: Any, batch: Any, before: tuple[int, int] | None) -> dict[str, Any] | None:
    """Evidence on a loader from its first batch, with `too_small`; None where its batches do not go through /dev/shm.

    `before`: what was free when the loader began. Without that, what its own batches may hold by now counts as free.
    """
    inside = attributes(iterator)
    workers, prefetch = inside.get("_num_workers"), inside.get("_prefetch_factor")
    if type(workers) is not int or type(prefetch) is not int or workers < 1:
        return None
    size = batch_bytes(batch)
    if not size or torch.multiprocessing.get_sharing_strategy() == "file_system":
        return None
    waiting = workers * prefetch * size
    now = before or free_bytes()
    if now is None:
        return None
    free, total = now if before else (min(now[0] + waiting, now[1]), now[1])
    return {
        "too_small": free < MARGIN * waiting,
        "free_bytes": free,
        "total_bytes": total,
        "needed_bytes": int(MARGIN * waiting),
        "batch_bytes": size,
        "workers": workers,
        "prefetch_factor": prefetch,
    }
