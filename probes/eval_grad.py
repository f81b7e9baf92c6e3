"""eval-with-grad: a validation pass builds graphs that nothing ever goes back through."""

from __future__ import annotations

from collections import deque
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
MOST_BATCHES = 100_000


class EvalWithGrad(Probe):
    """A batch counts when its criterion had a graph and neither backward() nor torch.autograd.grad() came before the next."""

    signals = ("validation graphs",)

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._batches: deque[tuple[bool, Line | None]] = deque(maxlen=MOST_BATCHES)
        "Whether each batch's graph was wasted, of passes whose end was not yet told."
        self._went_back = False
        "torch.autograd.grad() was called since the last backward or batch without a graph."
        self._line: Line | None = None
        self._losses = 0
        "Criteria with a graph since the last backward."

    def install(self, instruments: Instruments) -> None:
        instruments.watch(torch.autograd.grad, lambda values: self._gone_back())

    def _gone_back(self) -> None:
        self._went_back = True

    def awoke(self) -> None:
        self._losses = 0

    def criterion(self, name: str, reduction: str, values: tuple[Any, ...], output: Any) -> None:
        if plain_tensor(output) and output.requires_grad:
            self._losses += 1
            if self._losses == 2:  # the second without a backward: in training, one is enough
                self._line = self.session.user_line()

    def backward_begins(self, root: Any) -> None:
        # Told after what is decided at a backward: the batches before it are known by now.
        self._losses = 0
        self._went_back = False
        self._line = None

    def evaluation_batch(self, batch: Batch) -> None:
        self._batches.append((batch.grad_enabled and not self._went_back, self._line))

    def evaluated(self, finished: EvaluationPass, metric: str, value: float) -> None:
        batches = [self._batches.popleft() for _ in range(min(finished.batches, len(self._batches)))]
        loader = self.session.loop.training_loader
        if not batches or (finished.loader is not None and finished.loader == loader):
            return
        self.session.seen("validation graphs")
        wasted = [where for is_wasted, where in batches if is_wasted]
        if finished.batches < FEWEST_BATCHES:
            return
        if len(wasted) < len(batches):
            self.session.facts.absent("eval-with-grad", metric)
            return
        self.session.facts.seen(
            "eval-with-grad",
            metric,
            at_step=finished.step,
            where=wasted[0] or finished.where,
            metric=metric,
            batches=finished.batches,
            samples=finished.items,
        )
