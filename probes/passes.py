"""Validation passes as they are put together from batches, and told of: those that a criterion shows when training goes on, others
once the loop's own result of them is known."""

from __future__ import annotations

from .evaluations import Batch, EvaluationPass
from .listener import Listener
from .transfer import Transfer
from .unnamed import UnnamedPasses

MOST_OPEN = 64


class Passes:
    """Those since training went on. Batches of several may take turns: each is told apart by its loader, or by what drives it."""

    def __init__(self, listener: Listener, transfer: Transfer) -> None:
        self._listener = listener
        self._transfer = transfer
        self._open: list[EvaluationPass] = []
        self._newest: EvaluationPass | None = None
        "That of the newest batch."
        self._ended: list[EvaluationPass] = []
        "To which no more batches belong, in their order."
        self._unnamed = UnnamedPasses()

    def add(self, batch: Batch) -> float:
        """A batch of a pass; how many seconds it took of the time in which the loop would have trained."""
        if self._newest is not None:
            batch.began = max(batch.began, self._newest.ended)
        self._newest = found = self._of(batch)
        found.add(batch)
        self._listener.evaluation_batch(batch)
        # Without a loss it may be labels that the model makes for its own training, or what a policy does in between.
        counts = bool(batch.losses) or (batch.is_fetched and found.is_whole)
        return max(0.0, batch.ended - batch.began) if counts else 0.0

    def _of(self, batch: Batch) -> EvaluationPass:
        for found in list(self._open):
            if found.takes(batch):
                return found
            if found.metric is None:
                self._open.remove(found)
                self._end(found)
        if len(self._open) >= MOST_OPEN:
            self.finish()
        found = EvaluationPass(batch, self._listener.step_now())
        self._open.append(found)
        return found

    def goes_on(self, batch: Batch) -> bool:
        """Whether a batch with a loss belongs to a pass that is open, and that pass knows its line and epoch."""
        return any(found.where is not None and found.takes(batch) for found in self._open)

    def exhausted(self, loader: int | None) -> None:
        """It had no more to give."""
        for found in self._open:
            if loader is not None and found.loader == loader:
                found.exhausted = True

    def finish(self) -> None:
        """Nothing more belongs to the passes that are open."""
        opened, self._open, self._newest = self._open, [], None
        for finished in opened:
            self._end(finished)

    def _end(self, finished: EvaluationPass) -> None:
        if finished.metric is not None:
            self._ended.append(finished)
            if len(self._ended) >= MOST_OPEN:  # of a program that evaluates and never trains
                self.tell()
            return
        result = self._unnamed.ended(finished)
        if result is not None:
            self._listener.evaluated_as(finished, *result[:2])

    def tell(self) -> None:
        """Training goes on, or a result is wanted: which passes there were to be told apart is known by now."""
        ended, self._ended = self._ended, []
        results = [result for finished in ended for result in finished.results()]
        if results:
            self._listener.evaluations_ended(results)
        for result in results:
            self._deliver(result)

    def _deliver(self, result: EvaluationPass) -> None:
        result.deliver(self._transfer, lambda value: self._listener.evaluated(result, value))

    def named(self, metric: str, value: float, step: int) -> list[EvaluationPass]:
        """The loop logged or keeps a validation loss: the passes that it is the result of, for the caller to tell of."""
        if any(found.metric is None for found in self._open):
            self.finish()
        return self._unnamed.named((metric, value, step))

    def forget(self) -> None:
        """Of the passes that are open the rest was missed."""
        self._open, self._newest = [], None
