"""Attacks during validation: the model is asked for the gradient of its inputs, and no optimizer step follows. That looks like training."""

from __future__ import annotations

from .evaluations import MOST_LOSSES, Batch
from .losses import Loss
from .training_data import TrainingData

MOST = 64


class Attacks:
    """Tells them by the modes: the loop trains in training mode, and eval() was called since its newest step."""

    def __init__(self, training_data: TrainingData) -> None:
        self._training_data = training_data
        self.in_evaluation = False
        self.is_newest = False
        "Whether the newest backward() was one."
        self._trains_in_mode: bool | None = None
        "Whether the newest batch that trained did in training mode; None before the first."
        self._waiting: list[tuple[Batch, Loss | None]] = []
        "Since the newest step: a step without any other backward() shows that they trained, and train() was forgotten."

    def awoke(self) -> None:
        """Calls may have been missed."""
        self._waiting.clear()
        self.in_evaluation = self.is_newest = False

    def trains(self, batch: Batch) -> None:
        """A batch trained."""
        self.is_newest = False
        if batch.training is not None and batch.graph:
            self._trains_in_mode = batch.training

    def trained(self, backwards: int) -> list[tuple[Batch, Loss | None]]:
        """A step comes, after so many other calls of backward(): those that were for it, and no attacks."""
        waiting, self._waiting = self._waiting, []
        self.in_evaluation = self.is_newest = False
        return [] if backwards else waiting

    def may_be(self, batch: Batch) -> bool:
        """Whether what goes back through `batch` is an attack. A batch of the loader that trains is attacked for training's sake."""
        loader = batch.loader
        is_apart = loader is None or loader != self._training_data.loader
        return self.in_evaluation and batch.training is False and self._trains_in_mode is True and is_apart

    def began(self, batch: Batch | None, loss: Loss | None) -> bool:
        """backward() is called with `batch` at hand: whether that is an attack, as far as one can tell by now."""
        self.is_newest = batch is not None and self.may_be(batch) and len(self._waiting) < MOST
        if batch is not None and self.is_newest:
            self._waiting.append((batch, loss))
        return self.is_newest

    def is_tried_again(self, batch: Batch) -> bool:
        """Whether another forward is one more of the same validation batch: of inputs that mislead, or that were turned about."""
        return batch.is_fetched and batch.loader is not None and self.may_be(batch) and len(batch.losses) < MOST_LOSSES
