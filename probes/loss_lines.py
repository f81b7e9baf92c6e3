"""Which lines the losses come from; where there are several, each line's loss is a series of its own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

from .losses import Loss, are_shares, undivided
from .probe import Probe

if TYPE_CHECKING:
    from .known import Known
    from .session import Session
    from .where import Line

MOST_LINES = 16
SURE, LOOKS_EVERY = 64, 7
"""After so many losses of one line only one in so many is asked for its line, until there is another: a prime, so that of losses that
take turns each has its turn."""


class LossLines(Probe):
    """Several losses to a step, or to several optimizers (a GAN): told apart by the line that calls backward()."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._lines: dict[tuple[str, int], str] = {}
        "The name of each line's series."
        self._newest: list[tuple[str, Loss]] = []
        self._last: Loss | None = None
        self._losses = 0

    def awoke(self) -> None:
        self._newest = []

    def backward_begins(self, root: Any) -> None:
        losses = self.session.loop.window.losses
        if not losses or losses[-1] is self._last:  # what goes backward is no loss
            return
        self._last = losses[-1]
        self._losses += 1
        if len(self._lines) == 1 and len(losses) == 1 and self._losses > SURE and self._losses % LOOKS_EVERY:
            return  # the line of one series alone is not written
        line = self.session.user_line()
        if line is not None:
            name = self._lines.get((line.file, line.line)) or self._new_line(line)
            if name is not None:
                self._newest.append((name, losses[-1]))

    def _new_line(self, line: Line) -> str | None:
        if len(self._lines) >= MOST_LINES:
            return None
        file = line.file.rsplit("/", 1)[-1]
        name = f"loss ({file}:{line.line})"
        self.session.emit("loss", index=len(self._lines), name=name, where=line)
        self._lines[line.file, line.line] = name
        return name

    def step_ended(self, known: Known) -> None:
        newest, self._newest = self._newest, []
        self._last = None
        if len(self._lines) < 2 or not newest:
            return
        step, now, writer = self.session.steps.step, time.time(), self.session.writer
        by_name: dict[str, list[Loss]] = {}
        for name, loss in newest:
            by_name.setdefault(name, []).append(loss)

        def deliver(values: list[float]) -> None:
            taken = iter(values)
            for name, losses in by_name.items():
                pairs = [(next(taken), next(taken)) for _ in losses]
                found = undivided(pairs, known.passes, [1] * len(losses), are_shares(pairs, [loss.summed for loss in losses]))
                writer.metric(name, [step, now, sum(found) / len(found)])

        self.session.transfer.submit(
            [value for losses in by_name.values() for loss in losses for value in _values(loss)], deliver
        )


def _values(loss: Loss) -> tuple[torch.Tensor, torch.Tensor]:
    return loss.root, loss.root if loss.criterion is None else loss.criterion
