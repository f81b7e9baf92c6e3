"""Looks for optimizers and models among all objects of the process, in the middle of a run: seldom, since each takes long."""

from __future__ import annotations

import time

import torch

from . import discover
from .guard import Guard

FREE = 8
SHARE = 0.005
"""Of all time, which those beyond the first few may take."""


class Looks:
    """Counts what they took. It is no part of a step's cost: a loop needs a few, when its models come or are wrapped anew."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._began = time.perf_counter()
        self._count = 0
        self._took_s = 0.0
        self._newest = (0, 0.0)
        "The callback in which the newest was, and what all in it took."

    def live_objects(self) -> tuple[list[torch.optim.Optimizer], list[torch.nn.Module]] | None:
        """All optimizers and root modules; None when it would take too much of a loop that makes ever new ones."""
        began = time.perf_counter()
        if self._count >= FREE and self._took_s > SHARE * (began - self._began):
            return None
        self._count += 1
        found = discover.live_objects()
        took_s = time.perf_counter() - began
        self._took_s += took_s
        self._guard.spent_s -= took_s
        self._newest = (self._guard.calls, self.taken_off_s + took_s)
        return found

    @property
    def taken_off_s(self) -> float:
        """Of what the callback under way costs, which is added only when it is over."""
        callback, took_s = self._newest
        return took_s if callback == self._guard.calls and self._guard.inside else 0.0
