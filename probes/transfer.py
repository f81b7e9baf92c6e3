"""Numbers from the device to the host without waiting for the device.

On the CPU a value is read at once. On a GPU it is copied to pinned memory behind the work already queued, and read when an event
says that the copy is done: a step or more later, in the order of submission.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch

Deliver = Callable[[list[float]], None]

WAITING_LIMIT = 256
"""Copies under way; when a GPU is further behind than that, later values are given up rather than waited for."""


class Transfer:
    """Delivers vectors of scalars to callbacks, in order."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Any, torch.Tensor | None, Deliver, list[float]]] = deque()
        self._buffers: dict[int, list[torch.Tensor]] = {}

    def submit(self, scalars: Sequence[torch.Tensor], deliver: Deliver, rare: bool = False) -> bool:
        """`deliver(values)` once the `scalars` (0-dim or vectors, any devices, any real dtypes) are on the host; now if all are on
        the CPU.

        False, and no delivery, where that cannot be had without waiting: the device is far behind, or is of a kind unknown to
        us. A `rare` one is taken however far behind the device is.
        """
        device = _device_among(scalars)
        if device is None:
            values = _read_now(scalars)
            if self._waiting:
                self._waiting.append((None, None, deliver, values))
            else:
                deliver(values)
            return True
        if device.type != "cuda" or (len(self._waiting) >= WAITING_LIMIT and not rare) or _capturing():
            return False
        with torch.cuda.device(device):
            stacked = _joined([s.detach().to(device, torch.float64, non_blocking=True) for s in scalars])
            whole = self._buffer(len(stacked))
            buffer = whole[: len(stacked)]
            buffer.copy_(stacked, non_blocking=True)
            done: Any = torch.cuda.Event()
            done.record(torch.cuda.current_stream(device))
        self._waiting.append((done, whole, deliver, [0.0] * len(stacked)))
        return True

    def poll(self) -> None:
        """Deliver what has arrived, without waiting."""
        while self._waiting:
            done, buffer, deliver, values = self._waiting[0]
            if done is not None and (_capturing() or not done.query()):
                return
            self._waiting.popleft()
            if buffer is not None:
                values = buffer[: len(values)].tolist()
                self._buffers.setdefault(len(buffer), []).append(buffer)
            deliver(values)

    def finish(self, timeout_s: float) -> None:
        """At the end of the program: give what is under way a moment to arrive."""
        end = time.monotonic() + timeout_s
        self.poll()
        while self._waiting and time.monotonic() < end:
            time.sleep(0.002)
            self.poll()

    def _buffer(self, size: int) -> torch.Tensor:
        """One of `size` numbers at least: a power of two, since a loop may send for ever other numbers of them."""
        size = 1 << (size - 1).bit_length()
        free = self._buffers.get(size)
        # Pinning memory is slow and may synchronise, so buffers are kept and used again.
        return free.pop() if free else torch.empty(size, dtype=torch.float64, device="cpu", pin_memory=True)


def _capturing() -> bool:
    """Whether the loop captures a CUDA graph: to ask for an event would spoil it."""
    return torch.cuda.is_current_stream_capturing()


def _device_among(scalars: Sequence[torch.Tensor]) -> torch.device | None:
    """The first that is not the CPU."""
    for scalar in scalars:
        if not scalar.is_cpu:  # a tenth of what its device's type costs
            return scalar.device
    return None


def _read_now(scalars: Sequence[torch.Tensor]) -> list[float]:
    found: list[float] = []
    for scalar in scalars:  # faster than to stack them first
        if scalar.dim():
            found += map(float, scalar.reshape(-1).tolist())
        else:
            found.append(float(scalar.item()))
    return found


def _joined(scalars: Sequence[torch.Tensor]) -> torch.Tensor:
    """One vector of them all."""
    if any(map(torch.Tensor.dim, scalars)):
        return torch.cat([s.reshape(-1) for s in scalars])
    return torch.stack(list(scalars))
