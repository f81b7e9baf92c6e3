"""What torch's allocator holds on each CUDA device, about once a second at observed steps. Reads counters; waits for nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from .probe import Probe
from .record import memory_columns

if TYPE_CHECKING:
    from .known import Known
    from .session import Session

PERIOD_S = 1.0

Statistics = Callable[[int], Mapping[str, Any]]


class Memory(Probe):
    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.signals = ("GPU memory",) if torch.backends.cuda.is_built() else ()
        self._devices: list[int] | None = None
        self._not_before = 0.0

    def step_ended(self, known: Known) -> None:
        now = time.monotonic()
        if now < self._not_before:
            return
        self._not_before = now + PERIOD_S
        if not torch.cuda.is_initialized():
            return
        if self._devices is None:
            self._devices = self._look() or None
            if self._devices is None:
                return
            self.session.writer.declare("memory", memory_columns(self._devices))
            self.session.signals.seen("GPU memory")
        bytes_of = memory_bytes(self._devices, torch.cuda.memory_stats_as_nested_dict)
        self.session.writer.row("memory", [self.session.step_now(), time.time(), *bytes_of])

    def _look(self) -> list[int]:
        try:
            return devices_in_use(torch.cuda.device_count(), torch.cuda.memory_stats_as_nested_dict)
        except RuntimeError:  # an allocator of the program's own, which counts nothing
            self.rest()
            return []


def devices_in_use(count: int, statistics: Statistics) -> list[int]:
    """Indices of the devices, of `count`, on which the allocator holds memory."""
    return [device for device in range(count) if _bytes(statistics(device), "reserved_bytes", "current") > 0]


def memory_bytes(devices: list[int], statistics: Statistics) -> list[float]:
    """Allocated, reserved and greatest allocated bytes of each device; NaN for what this version of torch does not count."""
    numbers = []
    for device in devices:
        found = statistics(device)
        numbers += [
            _bytes(found, "allocated_bytes", "current"),
            _bytes(found, "reserved_bytes", "current"),
            _bytes(found, "allocated_bytes", "peak"),
        ]
    return numbers


def _bytes(statistics: Mapping[str, Any], counter: str, moment: str) -> float:
    try:
        return float(statistics[counter]["all"][moment])
    except (KeyError, TypeError):
        return float("nan")
