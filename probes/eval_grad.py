"""eval-with-grad: a validation pass builds graphs that nothing ever goes back through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from .losses import plain_tensor
from .probe import Probe
from .where import Line

if TYPE_CHECKING:
    from .evaluations import Batch, EvaluationPass
    from .instruments import Instruments
    from .session import Session

FEWEST_BATCHES = 3
NOTE = "eval-with-grad"


class EvalWithGrad(Probe):
    """A batch counts when its criterion had a graph and neither backward() nor torch.autograd.grad() came before the next."""

    signals = ("validation graphs",)

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._went_back = False
        "torch.autograd.grad() was called since the last backward or batch without a graph."
        self._line: Line | None = None
        self._losses = 0
        "Criteria with a graph since the last backward."

    def install(self, instruments: Instruments) -> None:
        instruments.watch(torch.autograd.grad, lambda values: self._gone_back())

    def _gone_back(self) -> None:
        self.session.loop.differentiated()
        self._went_back = True

    def awoke(self) -> None:
        self._losses = 0

    def criterion(self, name: str, reduction: str, values: tuple[Any, ...], output: Any) -> None:
        if plain_tensor(output) and output.requires_grad:
            self._losses += 1
            if self._losses == 2:  # the second without a backward: in training, one is enough
                self._line = self.session.user_line()

    def backward_begins(self, root: Any) -> None:
        if self.session.loop.is_attacked:
            return
        # Told after what is decided at a backward: the batches before it are known by now.
        self._losses = 0
        self._went_back = False
        self._line = None

    def evaluation_batch(self, batch: Batch) -> None:
        if batch.of is not None and batch.grad_enabled and not self._went_back:
            first, batches = batch.of.notes.get(NOTE, (self._line, 0))
            batch.of.notes[NOTE] = first, batches + batch.count

    def evaluated(self, finished: EvaluationPass, metric: str, value: float) -> None:
        loader = self.session.loop.training_data.loader
        if finished.loader is not None and finished.loader == loader:
            return
        self.session.signals.seen("validation graphs")
        where, wasted = finished.notes.get(NOTE, (None, 0))
        if finished.batches < FEWEST_BATCHES:
            return
        if wasted < finished.batches:
            self.session.facts.absent(NOTE, metric)
            return
        self.session.facts.seen(
            NOTE,
            metric,
            at_step=finished.step,
            where=where or finished.where,
            metric=metric,
            batches=finished.batches,
            samples=finished.items,
        )
