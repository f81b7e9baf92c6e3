"""Numbers from the device to the host without waiting for the device.

On the CPU a value is read at once. On a GPU it is copied to pinned memory behind the work already queued, and read when an event
says that the copy is done: a step or more later, in the order of submission.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from .capture import is_capturing

Deliver = Callable[[list[float]], None]

WAITING_LIMIT = 256
"""Copies under way; when a GPU is further behind than that, later values are given up rather than waited for."""
RARE_LIMIT = 4096
"""The same for rare ones, so that nothing grows without end."""
SMALLEST_BUFFER = 64
"""Numbers; one size for all small ones, so that few buffers are pinned."""

_HALVES = (torch.float16, torch.bfloat16)


class Part(NamedTuple):
    """What one GPU sends."""

    done: Any
    "The event after its copy."
    buffer: torch.Tensor
    places: list[int]
    "Of its numbers among all that are to be delivered."


class Transfer:
    """Delivers vectors of scalars to callbacks, in order."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[list[Part], Deliver, list[float]]] = deque()
        self._buffers: dict[int, list[torch.Tensor]] = {}

    def submit(self, scalars: Sequence[torch.Tensor], deliver: Deliver, rare: bool = False) -> bool:
        """`deliver(values)` once the `scalars` (0-dim or vectors, any devices, any real dtypes) are on the host; now if all are on
        the CPU.

        False, and no delivery, where that cannot be had without waiting: the device is far behind, or is of a kind unknown to
        us. A `rare` one is taken although the device is far behind.
        """
        if _are_here(scalars):
            values = _read_now(scalars)
            if self._waiting:
                self._waiting.append(([], deliver, values))
            else:
                deliver(values)
            return True
        if any(not scalar.is_cpu and scalar.device.type != "cuda" for scalar in scalars):
            return False
        if len(self._waiting) >= (RARE_LIMIT if rare else WAITING_LIMIT) or is_capturing():
            return False
        self._waiting.append(self._sent(scalars, deliver))
        return True

    def _sent(self, scalars: Sequence[torch.Tensor], deliver: Deliver) -> tuple[list[Part], Deliver, list[float]]:
        """Each GPU sends its own: one that had to wait for another would hold up the loop's work on both."""
        values: list[float] = []
        on_device: dict[torch.device, tuple[list[torch.Tensor], list[int]]] = {}
        for scalar in scalars:
            if scalar.is_cpu:
                values += _read_now([scalar])
                continue
            tensors, places = on_device.setdefault(scalar.device, ([], []))
            tensors.append(scalar)
            places += range(len(values), len(values) + scalar.numel())
            values += [float("nan")] * scalar.numel()
        return [self._part(device, *found) for device, found in on_device.items()], deliver, values

    def _part(self, device: torch.device, scalars: list[torch.Tensor], places: list[int]) -> Part:
        with torch.cuda.device(device):
            buffer = self._buffer(len(places))
            buffer[: len(places)].copy_(joined(scalars), non_blocking=True)
            done: Any = torch.cuda.Event()
            done.record(torch.cuda.current_stream(device))
        return Part(done, buffer, places)

    def poll(self) -> None:
        """Deliver what has arrived, without waiting."""
        while self._waiting:
            parts, deliver, values = self._waiting[0]
            # To ask for an event would spoil a capture.
            if parts and (is_capturing() or not all(part.done.query() for part in parts)):
                return
            self._waiting.popleft()
            for _, buffer, places in parts:
                for place, value in zip(places, buffer[: len(places)].tolist(), strict=True):
                    values[place] = value
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
        size = max(SMALLEST_BUFFER, 1 << (size - 1).bit_length())
        free = self._buffers.get(size)
        if free:
            return free.pop()
        # Pinning memory is slow and may synchronise, so buffers are kept and used again: by whatever mode the loop is in by then.
        with torch.inference_mode(False):
            return torch.empty(size, dtype=torch.float64, device="cpu", pin_memory=True)


def _are_here(scalars: Sequence[torch.Tensor]) -> bool:
    """Whether all are on the CPU. At every observed step, so that no generator is made for it."""
    for scalar in scalars:  # noqa: SIM110
        if not scalar.is_cpu:  # a tenth of what its device's type costs
            return False
    return True


def _read_now(scalars: Sequence[torch.Tensor]) -> list[float]:
    found: list[float] = []
    for scalar in scalars:  # faster than to stack them first
        if scalar.dim():
            found += map(float, scalar.reshape(-1).tolist())
        else:
            found.append(float(scalar.item()))
    return found


def joined(scalars: Sequence[torch.Tensor]) -> torch.Tensor:
    """One float64 vector of them all, which are on one device."""
    found = [scalar.float() if scalar.dtype in _HALVES else scalar for scalar in map(torch.Tensor.detach, scalars)]
    if any(scalar.dtype != torch.float32 for scalar in found):  # else one conversion does for all: each is a kernel of its own
        found = [scalar.to(torch.float64) for scalar in found]
    whole = torch.cat([scalar.reshape(-1) for scalar in found]) if any(map(torch.Tensor.dim, found)) else torch.stack(found)
    return whole.to(torch.float64)
