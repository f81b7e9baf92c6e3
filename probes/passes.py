"""Validation passes as they are put together from batches, and told of: those that a criterion shows when they end, others once
the loop's own result of them is known."""

from __future__ import annotations

from typing import Protocol

from .evaluations import Batch, EvaluationPass
from .transfer import Transfer
from .unnamed import UnnamedPasses


class Listener(Protocol):
    """Who is told of passes."""

    def evaluation_ended(self, finished: EvaluationPass) -> None: ...

    def evaluated(self, finished: EvaluationPass, value: float) -> None: ...

    def evaluated_as(self, finished: EvaluationPass, metric: str, value: float) -> None: ...

    def evaluation_batch(self, batch: Batch) -> None: ...

    def step_now(self) -> int: ...


class Passes:
    """One at a time is open; it ends when another loader is read, when training goes on, a checkpoint is saved or the program ends."""

    def __init__(self, listener: Listener, transfer: Transfer) -> None:
        self._listener = listener
        self._transfer = transfer
        self._open: EvaluationPass | None = None
        self._unnamed = UnnamedPasses()

    def add(self, batch: Batch) -> float:
        """A batch of a pass; how many seconds it took of the time in which the loop would have trained."""
        is_named = bool(batch.losses)
        if self._open is not None and self._open.exhausted and batch.is_fetched:
            self.finish()  # the same loader from its beginning: another model, or another pass
        if self._open is not None and (self._open.loader != batch.loader or (self._open.metric is not None) != is_named):
            self.finish()
        if self._open is None:
            self._open = EvaluationPass(batch, self._listener.step_now())
        else:
            batch.began = max(batch.began, self._open.ended)
        self._open.add(batch)
        self._listener.evaluation_batch(batch)
        # Without a loss it may be labels that the model makes for its own training, or what a policy does in between.
        counts = is_named or (batch.is_fetched and self._open.is_whole)
        return max(0.0, batch.ended - batch.began) if counts else 0.0

    def goes_on(self, batch: Batch) -> bool:
        """Whether a batch with a loss belongs to the pass that is open, and that pass knows its line and epoch."""
        found = self._open
        return found is not None and found.loader == batch.loader and found.metric is not None and found.where is not None

    def exhausted(self) -> None:
        """The loader that was read last had no more to give."""
        if self._open is not None and self._open.loader is not None:
            self._open.exhausted = True

    def finish(self) -> None:
        """Nothing more belongs to the pass that is open."""
        finished, self._open = self._open, None
        if finished is None:
            return
        if finished.metric is not None:
            self._listener.evaluation_ended(finished)
            finished.deliver(self._transfer, lambda value: self._listener.evaluated(finished, value))
            return
        result = self._unnamed.ended(finished)
        if result is not None:
            self._listener.evaluated_as(finished, *result[:2])

    def named(self, metric: str, value: float, step: int) -> list[EvaluationPass]:
        """The loop logged or keeps a validation loss: the passes that it is the result of, for the caller to tell of."""
        if self._open is not None and self._open.metric is None:
            self.finish()
        return self._unnamed.named((metric, value, step))

    def forget(self) -> None:
        """Of the pass that is open the rest was missed."""
        self._open = None
