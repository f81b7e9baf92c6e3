"""The order of calls from one optimizer step to the next, as a short code: `fetch zero_grad forward backward clip step`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from .known import Known
from .probe import Probe

if TYPE_CHECKING:
    from .instruments import Instruments
    from .session import Session

MOST_RIBBONS = 64
"""Different orders that are told apart; all further ones are one, `other`."""
MOST_CALLS = 2048
LONGEST_BLOCK = 12
SCHEDULERS = "LRScheduler ReduceLROnPlateau CosineAnnealingWarmRestarts ChainedScheduler SequentialLR".split()
"""Classes of torch.optim.lr_scheduler with a step() of their own."""


class Ribbon(Probe):
    """Writes each order once, and its index in the column `ribbon`; NaN where calls may have been missed."""

    signals = ("order of calls",)

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.index_now = float("nan")
        self._calls: list[str] = []
        self._whole = False
        self._step_began = 0
        self._scheduling = 0
        self._known: dict[tuple[str, ...], int] = {}

    def install(self, instruments: Instruments) -> None:
        for name in SCHEDULERS:
            kind = getattr(torch.optim.lr_scheduler, name, None)
            if kind is not None and "step" in vars(kind):
                instruments.watch(kind.step, self._scheduler_begins, self._scheduler_ended)

    def awoke(self) -> None:
        self._renew(whole=False)

    def _renew(self, whole: bool) -> None:
        self._calls = []
        self._whole = whole
        self._scheduling = 0
        self._step_began = 0

    def _call(self, name: str) -> None:
        if len(self._calls) < MOST_CALLS:
            self._calls.append(name)

    # Calls

    def batch_fetched(self, iterator: Any, data: Any) -> None:
        self._call("fetch")

    def forward_began(self, root: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        self._call("forward")

    def backward_begins(self, root: Any) -> None:
        self._call("backward")

    def zeroed(self, optimizer: torch.optim.Optimizer | None, module: torch.nn.Module | None) -> None:
        self._call("zero_grad")

    def unscaled(self, scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer) -> None:
        self._call("unscale")

    def clipped(self, parameters: Any, limit: Any, norm: Any) -> None:
        self._call("clip")

    def mode_changed(self, root: torch.nn.Module, training: bool) -> None:
        self._call("train" if training else "eval")

    def saved(self, function: str, path: str, saved: Any, event: dict[str, Any]) -> None:
        self._call("save")

    def _scheduler_begins(self, values: tuple[Any, ...]) -> None:
        # Schedulers call each other, and a class's step() that of its parent.
        if not self._scheduling:
            self._call("scheduler")
        self._scheduling += 1

    def _scheduler_ended(self, values: tuple[Any, ...], result: Any) -> None:
        self._scheduling = max(0, self._scheduling - 1)

    # Steps

    def step_begins(self, known: Known) -> None:
        self._step_began = len(self._calls)

    def step_ended(self, known: Known) -> None:
        before, inside = self._calls[: self._step_began], self._calls[self._step_began :]
        step = f"step {known.index}" if known.index else "step"
        calls = [*before, step] if not inside else [*before, f"{step}(", *inside, ")"]
        self.index_now = float(self._index_of(tuple(calls))) if self._whole else float("nan")
        self._renew(whole=True)

    def columns(self) -> dict[str, float]:
        return {"ribbon": self.index_now}

    def _index_of(self, calls: tuple[str, ...]) -> int:
        index = self._known.get(calls)
        if index is not None:
            return index
        index = len(self._known)
        if index > MOST_RIBBONS:
            return MOST_RIBBONS
        if index < MOST_RIBBONS:
            self._known[calls] = index
            self.session.emit("ribbon", index=index, calls=collapsed(list(calls)))
        else:
            self._known[("other",)] = index
            self.session.emit("ribbon", index=index, calls=["other"])
        self.session.signals.seen("order of calls")
        return index


def collapsed(calls: list[str]) -> list[str]:
    """Blocks that are repeated one after the other as one entry: fetch forward fetch forward -> (fetch forward)×2."""
    found: list[str] = []
    place = 0
    while place < len(calls):
        size, times = _best_block(calls, place)
        block = calls[place : place + size]
        if times == 1:
            found.append(block[0])
        else:
            found.append(f"{block[0]}×{times}" if size == 1 else f"({' '.join(block)})×{times}")
        place += size * times
    return found


def _best_block(calls: list[str], place: int) -> tuple[int, int]:
    """Size and number of repetitions of the block at `place` that covers most; the shortest of those."""
    best = (1, 1)
    for size in range(1, LONGEST_BLOCK + 1):
        block, times = calls[place : place + size], 1
        while calls[place + size * times : place + size * (times + 1)] == block:
            times += 1
        if times > 1 and size * times > best[0] * best[1]:
            best = (size, times)
    return best
